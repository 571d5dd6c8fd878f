"""Experts on disk: a plan of what determines them, and one safetensors file an expert.

    plan.json                        what determines them (ExpertPlan)
    00000.safetensors                ``weights`` [epochs + 1, P] float32, row 0 the initial ones, and
                                     ``accuracy`` [epochs + 1] on test images; written when it is finished
    00000.partial.safetensors        the same up to the last finished epoch, while it is trained

Reading takes two rows of a file and leaves the rest on disk, but the first reading of a file looks at all of
its weights, row after row, so that NaN in an epoch that is drawn late is found early. Experts of a few bytes
are looked at before any work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..config import Experts, Precision, Siamese, TrajectoryMatch
from ..errors import InputError
from ..run_folder import TensorFile, read, write
from ..run_folder.reading import DELETE
from ..run_folder.results import Record
from ..runtime.console import counted
from ..runtime.files import write_tensors


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


def reach_of(trajectories: Iterable[TrajectoryMatch]) -> int:
    """The last epoch that any of some trajectories reads."""
    return max(each.latest_start - 1 + each.epochs for each in trajectories)


def experts_together(config: Experts, device: torch.device) -> int:
    """How many experts are trained together on a device."""
    alone = 1 if device.type == "cpu" else 10
    return alone if config.group == "auto" else config.group


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


AGAIN = "delete it, and the command that trains these experts makes it anew"
"""what to do about a file of experts that the run has made itself"""
GIVEN = (
    "put back a whole copy from where these experts come from, or set experts.path to null to train others"
)
"""what to do about a file of experts that another run, or another machine, has made"""


def plan_file(folder: Path) -> Path:
    """What determines the experts of a folder."""
    return folder / "plan.json"


def expert_file(folder: Path, expert: int) -> Path:
    """A finished expert."""
    return folder / f"{expert:05d}.safetensors"


def partial_file(folder: Path, expert: int) -> Path:
    """An expert that is being trained."""
    return folder / f"{expert:05d}.partial.safetensors"


def settle_plan(folder: Path, plan: ExpertPlan) -> None:
    """Write the plan of a folder, or see that the experts in it are of the same plan."""
    file = plan_file(folder)
    if not file.is_file():
        write(file, plan)
    elif read(file, ExpertPlan) != plan:
        raise InputError(f"{folder} holds experts of another plan; delete it to train them anew")


class Trajectory:
    """The weights of one expert so far.

    Attributes:
        weights: [P] float32 on the CPU, of each epoch from 0, the initial ones.
        accuracy: test accuracy in [0, 1] of each.
    """

    def __init__(self, weights: list[Tensor], accuracy: list[float]) -> None:
        self.weights, self.accuracy = weights, accuracy

    def add(self, weights: Tensor, accuracy: float) -> None:
        """Append an epoch."""
        self.weights.append(weights.detach().cpu().clone())  # on a CPU .cpu() is no copy
        self.accuracy.append(accuracy)

    def save(self, file: Path) -> None:
        """Write the epochs so far, whole or not at all."""
        write_tensors(
            file,
            {
                "weights": torch.stack(self.weights),
                "accuracy": torch.tensor(self.accuracy, dtype=torch.float32),
            },
        )

    @classmethod
    def open(cls, folder: Path, expert: int) -> Trajectory:
        """What a folder has of an expert; no epochs where it has none."""
        for file in (expert_file(folder, expert), partial_file(folder, expert)):
            if file.is_file():
                opened = _open(file)
                return cls(list(opened.tensor("weights")), opened.tensor("accuracy").tolist())
        return cls([], [])


def _open(file: Path, remedy: str = AGAIN) -> TensorFile:
    """The file of an expert, with as many accuracies as weights."""
    opened = TensorFile(file, remedy)
    opened.require({"weights": (-1, -1)})
    opened.require({"accuracy": opened.shapes["weights"][:1]})
    return opened


class ExpertBuffer:
    """Finished experts.

    Args:
        key: the recipe's key that names the folder, for messages; empty: none does.

    Raises:
        InputError: there are none, or not all of them are finished.
    """

    LOOKED_AT_ONCE = 1 << 28
    """bytes of weights that are looked at before any work, within about a second"""

    def __init__(self, folder: Path, key: str = "") -> None:
        said = f"{key}: " if key else ""
        if not plan_file(folder).is_file():
            raise InputError(f"{said}{folder} holds no experts: it has no {plan_file(folder).name}")
        self.folder, self.plan = folder, read(plan_file(folder), ExpertPlan, GIVEN if key else DELETE)
        self._remedy = GIVEN if key else AGAIN
        self._finite: set[int] = set()
        absent = [k for k in range(self.plan.experts) if not expert_file(folder, k).is_file()]
        if absent:
            raise InputError(
                f"{said}{len(absent)} of the {self.plan.experts} experts in {folder} are not finished, such "
                f"as {expert_file(folder, absent[0]).name}; start the command that trains them again"
            )

    def require(self, wanted: ExpertPlan, size: int) -> None:
        """Refuse experts that a run cannot follow. Of the files the shapes are read, and few weights in all.

        Args:
            size: P, the number of weights of their network.

        Raises:
            InputError: the plan does not fit (``ExpertPlan.require``), or a file that the run may read is
                damaged or has fewer epochs or other weights than the plan says.
        """
        self.plan.require(wanted, self.folder)
        rows = self.plan.epochs + 1
        for expert in range(wanted.experts):
            self._file(expert).require({"weights": (rows, size)})
        if wanted.experts * rows * size * torch.float32.itemsize <= self.LOOKED_AT_ONCE:
            for expert in range(wanted.experts):
                self._opened(expert)

    def _file(self, expert: int) -> TensorFile:
        return _open(expert_file(self.folder, expert), self._remedy)

    def _opened(self, expert: int) -> TensorFile:
        """The file of an expert, whose weights have all been looked at once."""
        file = self._file(expert)
        if expert not in self._finite:
            for row in range(file.shapes["weights"][0]):
                file.rows("weights", row, row + 1)
            self._finite.add(expert)
        return file

    def __len__(self) -> int:
        """How many experts there are."""
        return self.plan.experts

    def weights(self, expert: int, epoch: int) -> Tensor:
        """The weights [P] float32 of an expert after an epoch; epoch 0 are its initial ones.

        Raises:
            InputError: the file is damaged, has not so many epochs, or its weights are not finite.
        """
        return self._opened(expert).rows("weights", epoch, epoch + 1)[0]

    def accuracies(self) -> Tensor:
        """Test accuracy in [0, 1] of each expert after each epoch, [experts, epochs + 1]."""
        files = [self._file(expert) for expert in range(len(self))]
        for file in files:
            file.require({"accuracy": (self.plan.epochs + 1,)})
        return torch.stack([file.tensor("accuracy") for file in files])
