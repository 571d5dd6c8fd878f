"""Values of a protocol that depend on the set and on the network: batches, learning rates, lengths.

batch: by_ipc     RDED's: 10, 50, 100 for 1, 10, 50 images a class; DELT's copy of the script
                  adds 50 for 20, and 100 for 30, 40 and 100. Twice that with 100 or 1,000 classes; 100 with
                  200 classes (Tiny-ImageNet); never more than the whole set
batch: by_images  CIM's and GIFT's: 10, 50, 100 or 200 for up to 10, 500, 20,000 or more images a pass; never
                  more than there are
lr: by_network    RDED's table; the released script trains a network that it lacks with a rate of 0
lr: learned       the rate that came with the images (MTT), else 0.01, which the released code starts from
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Literal

from pydantic import Field

from ..config import Count, Student
from ..config.base import Positive
from ..errors import InputError, suggestion
from ..runtime.console import counted

BATCHES = {1: 10, 10: 50, 20: 50, 30: 100, 40: 100, 50: 100, 100: 100}
LARGEST_SETS = {10: 10, 500: 50, 20_000: 100}
"""most images of a pass -> images a batch"""
LARGEST_BATCH = 200
"""images a batch where a pass has still more"""
RATES = {
    "conv": 1e-3,
    "resnet": 1e-3,
    "efficientnet_b0": 2e-3,
    "mobilenet_v2": 2.5e-3,
    "vgg11": 5e-4,
    "alexnet": 1e-4,
    "vit_b_16": 1e-4,
    "swin_v2_t": 1e-4,
}
OWN_RATES = {"vgg16": 5e-4, "shufflenet_v2": 1e-3, "vit_small": 1e-4}
"""learning rates of networks that RDED does not train, as those of their nearest relatives"""


UNLEARNED_RATE = 0.01
"""learning rate of ``lr: learned`` for a set that has none, such as the control; as in protocol ``dsa``"""


class SettledStudent(Student):
    """A student's protocol on a set of known size: batch, learning rate and length are numbers.

    ``lr: learned`` stays a word, so that all sets of a run have one hash; ``peak_lr`` is the set's number.
    """

    batch: Count
    lr: Positive | Literal["learned"]
    learned_lr: Positive | None = Field(default=None, exclude=True)
    """learning rate that was learned with the images; null: there is none; not hashed"""
    images: Count = Field(exclude=True)
    """images an epoch; it belongs to the set, not to the protocol, so neither hash nor record has it"""
    training_steps: Count = Field(exclude=True)
    """optimization steps: ``steps``, or those of ``epochs`` passes over the set; not hashed either"""
    peak_lr: Positive = Field(exclude=True)
    """peak learning rate of this set's students: ``lr``, or the learned one; not hashed either"""

    @property
    def _stage_ends(self) -> list[int]:
        """The number of steps after which each of ``label_stages`` ends."""
        shares = accumulate(share for _, share in self.label_stages or ())
        return [round(share * self.training_steps) for share in shares]

    @property
    def soft_steps(self) -> int:
        """How many steps are not in a hard stage of ``label_stages``."""
        if self.label_stages is None:
            return self.training_steps
        starts = [0, *self._stage_ends]
        stages = zip(self.label_stages, pairwise(starts), strict=True)
        return sum(end - start for (kind, _), (start, end) in stages if kind == "soft")

    def in_hard_stage(self, step: int) -> bool:
        """Whether a step, counted from 0, is in a hard stage of ``label_stages``."""
        if self.label_stages is None:
            return False
        place = bisect_right(self._stage_ends, step)
        return self.label_stages[min(place, len(self.label_stages) - 1)][0] == "hard"

    @property
    def images_seen(self) -> int:
        """About how many images a student is shown in all; what its progress bar counts."""
        return self.training_steps * min(self.batch, self.images)


def settle_student(
    config: Student,
    images: int,
    classes: int,
    key: str = "student",
    *,
    learned_lr: float | None = None,
    per_file: int = 1,
) -> SettledStudent:
    """Put numbers in place of the values of a protocol that depend on the set and on the network.

    Args:
        key: the recipe's section that holds the protocol, for messages.
        learned_lr: learning rate that was learned with the images; None: there is none.
        per_file: images that a file of the set stores; more than one with a formation.

    Raises:
        InputError: a rule says nothing of this many images a class, or of this network, or the learned rate
            is not positive.
    """
    if learned_lr is not None and not 0 < learned_lr < math.inf:
        raise InputError(
            f"{key}.lr=learned, but the learning rate learned with the images is {learned_lr:g}, expected a "
            f"positive number; set {key}.lr to a number, for example {key}.lr=0.01"
        )
    if config.per_epoch == "stored":
        images //= per_file
    batch = config.batch
    if batch == "by_ipc":
        batch = rded_batch(images, classes, key)
    elif batch == "by_images":
        batch = batch_by_images(images)
    lr = rded_rate(config.network, key) if config.lr == "by_network" else config.lr
    steps = config.steps if config.epochs is None else config.epochs * math.ceil(images / batch)
    if learned_lr is None and isinstance(config, SettledStudent):
        learned_lr = config.learned_lr
    peak = (learned_lr or UNLEARNED_RATE) if lr == "learned" else lr
    numbers = {"batch": batch, "lr": lr, "images": images, "training_steps": steps, "peak_lr": peak}
    if learned_lr is not None:
        numbers["learned_lr"] = learned_lr
    return SettledStudent.model_validate({**dict(config), **numbers})


def batch_by_images(images: int) -> int:
    """CIM's and GIFT's batch for a pass of so many images."""
    batches = (batch for most, batch in LARGEST_SETS.items() if images <= most)
    return min(images, next(batches, LARGEST_BATCH))


def rded_batch(images: int, classes: int, key: str = "student") -> int:
    """RDED's batch for a set; ``key`` is as for settle_student.

    Raises:
        InputError: the rule has no such number of images a class.
    """
    ipc = images / classes
    if ipc not in BATCHES:
        raise InputError(
            f"{key}.batch=by_ipc is known for {', '.join(map(str, BATCHES))} images a class, but the set has "
            f"{counted(images, 'image')} "
            f"of {counted(classes, 'class')}; set {key}.batch to a number, for example {key}.batch=50"
        )
    batch = 100 if classes == 200 else BATCHES[int(ipc)] * (2 if classes in (100, 1000) else 1)
    return min(batch, images)


def rded_rate(network: str, key: str = "student") -> float:
    """RDED's learning rate for a student; ``key`` is as for settle_student.

    Raises:
        InputError: its table has no such network.
    """
    known = {**RATES, **OWN_RATES}
    matches = [name for name in known if network.startswith(name)]
    if not matches:
        raise InputError(
            f"{key}.lr=by_network has no learning rate for {network!r}{suggestion(network, known)}; set "
            f"{key}.lr to a number, for example {key}.lr=0.001"
        )
    return known[max(matches, key=len)]
