"""Students: networks that learn a distilled set. Their test accuracy is what the set is worth.

By default a fresh network learns the teacher's soft labels (Hinton et al., 2015) of mixed, augmented images
by their divergence (loss.py), with AdamW and a cosine learning rate (learner.py). Every set, the random real
control included, gets the same protocol, and the protocol's hash is printed beside the accuracies. Teacher,
student and loss are one function of a batch, which may be compiled. A long training is kept on the disk in
its midst (learner.py).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor, nn

from ..config import Student
from ..distilled.images import ONE_A_FILE, Storage
from ..errors import InputError
from ..models.build import as_input, to_device
from ..models.pooling import pool_in_pairs
from ..protocols import SettledStudent
from ..runtime.console import counted
from ..runtime.events import send
from ..runtime.precision import autocast, float32_products
from ..runtime.progress import Bar
from ..runtime.seeds import derive
from ..teachers import NotFiniteError, Teacher, accuracy
from .batches import AugmentedBatches, StagedBatches, StudentBatch, StudentBatches, check_batch_norm, endless
from .learner import Learner, StudentCheckpoint, learning_rate, restarts_momentum, temperature_at, test_steps
from .loss import add_gradient, student_loss

LOSSES_READ = 500
"""steps after which the losses are read, if no test of the student comes first"""


@dataclass(frozen=True)
class TrainedStudent:
    """A student after its training, and its test accuracy.

    Attributes:
        last: accuracy at the end of the training, a fraction.
        best: the highest accuracy of all test passes, a fraction.
        curve: (steps done, accuracy) of each test pass.
        diverged: why there is no accuracy: when its loss, weights or logits became NaN or infinite. ``last``
            and ``best`` are then None and the curve is empty. None: the student did not diverge.
        network: the network that was tested last, in eval mode; None: the student diverged.
    """

    last: float | None
    best: float | None
    curve: tuple[tuple[int, float], ...]
    diverged: str | None = None
    network: nn.Module | None = field(default=None, compare=False, repr=False)

    def content(self) -> dict[str, object]:
        """The accuracies as files have them: ``diverged`` only where a student did."""
        said: dict[str, object] = {"last": self.last, "best": self.best, "curve": self.curve}
        return said if self.diverged is None else {**said, "diverged": self.diverged}


def train_student(
    config: SettledStudent,
    teacher: Teacher,
    images: Tensor,
    *,
    new_network: Callable[[], nn.Module],
    test: tuple[Tensor, Tensor],
    seed: int,
    bar: Bar,
    soft_labels: Tensor | StudentBatches | None = None,
    hard_labels: Tensor | None = None,
    storage: Storage = ONE_A_FILE,
    checkpoint: StudentCheckpoint | None = None,
) -> TrainedStudent:
    """Train and test one student. One that diverges is trained no further, and has no accuracy.

    Args:
        config: the protocol; where ``config.images`` is less than the set has, an epoch is that many of them.
        teacher: gives the normalization of images, and soft labels where none are stored.
        images: uint8 [N, C, H, W], on the device to train on.
        new_network: builds the untrained student, such as ``network_builder(config.network, classes)``.
        test: uint8 images and int64 labels of the real test split, on the same device.
        seed: seed of initial weights, order, augmentation and mixing.
        bar: is advanced by the images of each step.
        soft_labels: stored labels: logits [N, classes], one label an image, or batches that have theirs;
            None: the teacher labels every batch.
        hard_labels: int64 [N], classes of the images, for protocols with hard labels or ``hard_weight``.
        storage: how the images lie in files, on their device.
        checkpoint: file from which a killed training goes on, and which the caller deletes when the
            accuracy is written; None: nothing is kept while the student is trained.

    Raises:
        InputError: labels do not fit or are not finite, a network with BatchNorm would see batches of one
            image, or the checkpoint is damaged.
    """
    device, classes = images.device, len(teacher.card.classes)
    _check_soft_labels(config, soft_labels, (len(images), classes))
    hard_labels = _needed_hard_labels(config, hard_labels, (len(images), classes))
    torch.manual_seed(derive(seed, "student"))  # also for dropout, whatever was trained before
    learner = Learner.of(config, pool_in_pairs(to_device(new_network(), device), device))
    labeller = pool_in_pairs(copy.deepcopy(teacher.network), device)
    labeller.train(config.teacher_mode == "train")
    source = _batches(config, teacher, images, seed=seed, soft=soft_labels, hard=hard_labels, storage=storage)
    normalizing = {config.network: learner.network}
    if config.labels != "hard":
        normalizing["the teacher in train mode"] = labeller
    check_batch_norm(config, normalizing, source.smallest())
    loss_of: Callable[..., Tensor] = student_loss
    if config.compile:
        torch.compiler.reset()  # torch gives up on a function after the graphs of eight networks and sizes
        loss_of = torch.compile(student_loss, dynamic=False)
    hard_stage = _hard_stage(config)
    steps, tests = config.training_steps, test_steps(config, len(source))
    curve: list[tuple[int, float]] = []
    done = 0 if checkpoint is None else checkpoint.restore(learner, source, curve)
    if done:
        bar.line(f"continues after step {done}")
        bar.advance(done * min(config.batch, config.images))
    losses = _Losses()
    with float32_products(config.precision):
        for step, batch in enumerate(endless(source, done), done):
            rate = learning_rate(config, step, steps, len(source))
            learner.begin_step(rate, anew=restarts_momentum(config, step, steps, len(source)))
            loss = add_gradient(
                loss_of,
                learner.network,
                labeller,
                batch,
                config=hard_stage if config.in_hard_stage(step) else config,
                temperature=temperature_at(config, step, steps, batches=len(source), device=device),
            )
            learner.end_step(step)
            bar.advance(len(batch.images))
            losses.add(loss)
            is_last, is_tested = step + 1 == steps, step + 1 in tests
            is_kept = checkpoint is not None and not is_last and checkpoint.is_due()
            is_read = is_tested or is_kept or len(losses) == LOSSES_READ
            if is_read and (bad := losses.read(step)) is not None:
                _refuse_bad_labels(labeller, batch, step)
                return _diverged(bar, bad)
            if is_tested:
                try:
                    curve.append((step + 1, _test(learner.tested, teacher, test, config)))
                except NotFiniteError as error:
                    return _diverged(bar, f"diverged by step {step + 1}: {error}")
                send("accuracy", step=step + 1, values={"accuracy": curve[-1][1]})
            if is_kept and checkpoint is not None:
                checkpoint.save(step + 1, learner, source, curve)
            if is_last:
                break
    best = max(value for _, value in curve)
    return TrainedStudent(curve[-1][1], best, tuple(curve), network=learner.tested.eval())


def _batches(
    config: SettledStudent,
    teacher: Teacher,
    images: Tensor,
    *,
    seed: int,
    soft: Tensor | StudentBatches | None,
    hard: Tensor | None,
    storage: Storage,
) -> StudentBatches:
    """What a student learns from: stored labels of views, or batches that are augmented anew; in turn with
    hard labels where the protocol has stages."""

    def augmented(config: SettledStudent, seed: int, soft: Tensor | None) -> AugmentedBatches:
        return AugmentedBatches(
            config, teacher, images, seed=seed, soft_labels=soft, hard_labels=hard, storage=storage
        )

    stored = soft if soft is not None and not isinstance(soft, Tensor) else None
    logits = soft if isinstance(soft, Tensor) else None
    source = augmented(config, seed, logits) if stored is None else stored
    if config.label_stages is None:
        return source
    of_hard = augmented(_hard_stage(config), derive(seed, "hard stages"), None)
    return StagedBatches(config, soft=source, hard=of_hard)


def _hard_stage(config: SettledStudent) -> SettledStudent:
    """The protocol in the hard stages of ``label_stages``."""
    return config.model_copy(update={"labels": "hard"})


class _Losses:
    """Losses of a student, which are read now and then, so that the host does not wait at each step."""

    def __init__(self) -> None:
        self._unread: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._unread)

    def add(self, loss: Tensor) -> None:
        """Note the loss of a step, a scalar."""
        self._unread.append(loss)

    def read(self, step: int) -> str | None:
        """Read the losses up to that of ``step``, and send an event with their mean.

        Returns:
            How the student diverged: where the first loss is that is NaN or infinite. None: all are finite.
        """
        losses = torch.stack(self._unread).tolist()
        self._unread.clear()
        for number, value in enumerate(losses, step + 2 - len(losses)):
            if not math.isfinite(value):
                return f"diverged at step {number}: its loss is {value}"
        send("losses", step=step, values={"loss": fmean(losses)})
        return None


def _diverged(bar: Bar, how: str) -> TrainedStudent:
    bar.line(f"{how}; it has no accuracy")
    return TrainedStudent(None, None, (), diverged=how)


def _check_soft_labels(
    config: Student, labels: Tensor | StudentBatches | None, wanted: tuple[int, int]
) -> None:
    """Refuse stored labels of another shape than (images, classes), or beside hard ones."""
    if isinstance(labels, Tensor) and labels.shape != wanted:
        raise InputError(
            f"stored labels are {list(labels.shape)}, expected {list(wanted)}: one row an image and one "
            "column a class of the teacher; label the set again with this teacher"
        )
    if config.labels == "hard" and labels is not None:
        raise InputError(
            "student.labels=hard learns the classes of the images, but soft labels are given; give none"
        )


def _needed_hard_labels(config: Student, labels: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    """The classes of the images where the loss uses them, else None; ``shape`` is (images, classes)."""
    images, classes = shape
    users = {
        "labels=hard": (config.labels == "hard", "online"),
        "label_stages": (config.label_stages is not None, "null"),
        f"hard_weight {config.hard_weight:g}": (config.hard_weight > 0, "0"),
        f"hard_part {config.hard_part:g}": (config.mixes_classes, "0"),
    }
    used = [(what, without) for what, (uses, without) in users.items() if uses]
    if not used:
        return None
    if labels is None:
        what, without = used[0]
        raise InputError(f"student.{what} needs the classes of the images; give them, or set it to {without}")
    if len(labels) != images or int(labels.max()) >= classes:
        raise InputError(
            f"{len(labels)} classes up to {int(labels.max())} do not fit {counted(images, 'image')} of the "
            "teacher's "
            f"{classes} classes; use a teacher of these classes"
        )
    return labels


def _refuse_bad_labels(labeller: nn.Module, batch: StudentBatch, step: int) -> None:
    """Where the loss of a student is not finite: look whether its soft labels are the cause.

    Raises:
        InputError: labels of this batch are not finite.
    """
    with torch.no_grad():
        targets = labeller(as_input(batch.images, labeller)) if batch.targets is None else batch.targets
    bad = int((~targets.isfinite().all(1)).sum())
    if bad:
        raise InputError(
            f"the soft labels of {bad} of {len(targets)} images are not finite at step {step + 1} of a "
            "student; look for a teacher that is damaged or does not fit the images"
        )


def _test(network: nn.Module, teacher: Teacher, test: tuple[Tensor, Tensor], config: Student) -> float:
    training = network.training
    network.eval()
    with autocast(test[0].device, config.precision):
        reached = accuracy(network, teacher.normalize, *test)
    network.train(training)
    return reached
