"""What determines the experts of a run, and whether those of another run are the same."""

from __future__ import annotations

from pathlib import Path

from ..config import Experts, Precision, Siamese
from ..errors import InputError
from ..run_folder.results import Record
from ..runtime.console import counted


class ExpertPlan(Record):
    """plan.json of a folder of experts: everything that their weights depend on."""

    network: str
    """name of the network"""
    structure: str
    """hash of its modules and tensor shapes (models.build.structure)"""
    experts: int
    """how many there are, or will be"""
    epochs: int
    """epochs that each is trained"""
    images_per_class: int | None
    """real images of each class that they learn from; null: all"""
    lr: float
    batch: int
    siamese: Siamese
    """augmentation of the images"""
    precision: Precision
    """arithmetic of the training, which is no reason to refuse experts"""
    mean: tuple[float, ...]
    """normalization of the images: mean of each channel"""
    std: tuple[float, ...]
    """normalization of the images: standard deviation of each channel"""
    shape: tuple[int, int, int]
    """(C, H, W) of an image"""
    resize: int | None
    """shorter side in pixels before the center was cut out; null: whatever just covers the image"""
    classes: int
    data: str
    """fingerprint of the training split"""
    seed: int
    """seed of the run"""

    def require(self, wanted: ExpertPlan, where: Path) -> None:
        """Refuse experts that are not those which a run would train.

        More experts or epochs than wanted are welcome: expert k after epoch e does not depend on how many
        there are.
        """
        for name, key, remedy in _COMPARED:
            theirs, ours = getattr(self, name), getattr(wanted, name)
            if theirs != ours:
                raise InputError(
                    f"the experts in {where} are of another {key}: {_short(theirs)} there, {_short(ours)} "
                    f"here; {remedy}, or set experts.path to null to train others"
                )
        if self.experts < wanted.experts:
            raise InputError(
                f"{where} holds {counted(self.experts, 'expert')}, but experts.count is {wanted.experts}; "
                "lower it, or set experts.path to null to train others"
            )
        if self.epochs < wanted.epochs:
            raise InputError(
                f"the experts in {where} have {counted(self.epochs, 'epoch')}, but trajectories reach as far "
                f"as epoch {wanted.epochs}; lower latest_start or epochs of the trajectory, or set "
                "experts.path to null to train others"
            )


_COMPARED = (
    ("data", "data set", "use that data set"),
    ("classes", "number of classes", "use that data set"),
    ("shape", "size of images (C, H, W)", "set data.size and data.channels to it"),
    ("resize", "data.resize", "use that value"),
    ("network", "network", "use that network"),
    ("structure", "structure of the network", "build the network as it was built there"),
    ("mean", "normalization (teacher.mean)", "use that normalization"),
    ("std", "normalization (teacher.std)", "use that normalization"),
    ("seed", "seed", "use that seed"),
    ("images_per_class", "experts.images_per_class", "use that value"),
    ("lr", "experts.lr", "use that value"),
    ("batch", "experts.batch", "use that value"),
    ("siamese", "experts.siamese", "use that value"),
)
"""(field, what it is called, how to agree) of what must be equal; images come first, for the network follows
from their number of classes, channels and pixels"""


def _short(value: object) -> str:
    """A value for a message, as recipes write it where it is none; fingerprints by their first digits."""
    if value is None:
        return "null"
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def epochs_to_keep(config: Experts, reach: int) -> int:
    """The epochs that experts are trained and kept.

    Args:
        config: its ``keep`` is read.
        reach: the last epoch that a trajectory reads: latest_start - 1 + epochs.

    Raises:
        InputError: ``keep`` is less than that.
    """
    if config.keep == "auto":
        return reach
    if config.keep < reach:
        raise InputError(
            f"experts.keep is {config.keep}, but trajectories reach as far as epoch {reach} (latest_start - "
            "1 + epochs); set it to auto, or lower latest_start"
        )
    return config.keep
