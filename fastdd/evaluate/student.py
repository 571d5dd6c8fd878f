"""Students: networks that learn a distilled set. Their test accuracy is what the set is worth.

By default a fresh network learns the teacher's soft labels (Hinton et al., 2015) of mixed, augmented images
by their divergence (loss.py), with AdamW and a cosine learning rate. Every set, the random real control
included, gets the same protocol, and the protocol's hash is printed beside the accuracies. Teacher, student
and loss are one function of a batch, which may be compiled. The learning rate of a protocol with peak lr,
after a part p of the training:

    cosine      lr (1 + cos(pi p / s)) / 2       s: stretch; with s = 2 it ends at lr / 2
    cos2        the same up to p = 5/6, then (1 - p) times its value at 5/6, which is a line down to 0
    multistep   lr f^k                           k: number of milestones passed; f: milestone_factor

A warm-up comes first, on a line from warmup_start lr to lr; p counts what is left of the training after it.
With ``restart_momentum`` the optimizer begins anew at each milestone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from ..config import Student
from ..distilled.images import ONE_A_FILE, Storage
from ..errors import InputError
from ..models.build import as_input, to_device
from ..protocols import SettledStudent
from ..runtime.console import counted
from ..runtime.events import send
from ..runtime.precision import autocast, float32_products
from ..runtime.progress import Bar
from ..runtime.seeds import derive
from ..teachers import NotFiniteError, Teacher, WeightAverage, accuracy, decay_groups
from .batches import AugmentedBatches, StagedBatches, StudentBatch, StudentBatches, check_batch_norm, endless
from .loss import add_gradient, scheduled_temperature, student_loss

LOSSES_READ = 500
"""steps after which the losses are read, if no test of the student comes first"""


@dataclass(frozen=True)
class StudentAccuracy:
    """Test accuracy of one student.

    Attributes:
        last: accuracy at the end of the training, a fraction.
        best: the highest accuracy of all test passes, a fraction.
        curve: (steps done, accuracy) of each test pass.
        diverged: why there is no accuracy: when its loss, weights or logits became NaN or infinite. ``last``
            and ``best`` are then None and the curve is empty. None: the student did not diverge.
    """

    last: float | None
    best: float | None
    curve: tuple[tuple[int, float], ...]
    diverged: str | None = None

    def content(self) -> dict[str, object]:
        """The fields as files have them: ``diverged`` only where a student did."""
        return {name: value for name, value in vars(self).items() if name != "diverged" or value is not None}


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
) -> StudentAccuracy:
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

    Raises:
        InputError: labels do not fit or are not finite, or a network with BatchNorm would see batches of one
            image.
    """
    device, classes = images.device, len(teacher.card.classes)
    _check_soft_labels(config, soft_labels, (len(images), classes))
    hard_labels = _needed_hard_labels(config, hard_labels, (len(images), classes))
    torch.manual_seed(derive(seed, "student"))  # also for dropout, whatever was trained before
    network = to_device(new_network(), device)
    optimizer = student_optimizer(config, network)
    average = WeightAverage(network, config.ema) if config.ema else None
    tested = network if average is None else average.network
    labeller = copy.deepcopy(teacher.network).train(config.teacher_mode == "train")
    source: StudentBatches
    if soft_labels is None or isinstance(soft_labels, Tensor):
        source = AugmentedBatches(
            config,
            teacher,
            images,
            seed=seed,
            soft_labels=soft_labels,
            hard_labels=hard_labels,
            storage=storage,
        )
    else:
        source = soft_labels
    hard_stage = config.model_copy(update={"labels": "hard"})
    if config.label_stages is not None:
        hard = AugmentedBatches(
            hard_stage,
            teacher,
            images,
            seed=derive(seed, "hard stages"),
            hard_labels=hard_labels,
            storage=storage,
        )
        source = StagedBatches(config, soft=source, hard=hard)
    normalizing = {config.network: network}
    if config.labels != "hard":
        normalizing["the teacher in train mode"] = labeller
    check_batch_norm(config, normalizing, source.smallest())
    loss_of: Callable[..., Tensor] = student_loss
    if config.compile:
        torch.compiler.reset()  # torch gives up on a function after the graphs of eight networks and sizes
        loss_of = torch.compile(student_loss, dynamic=False)
    steps, tests = config.training_steps, _test_steps(config, len(source))
    curve: list[tuple[int, float]] = []
    unread: list[Tensor] = []  # losses, which are read now and then, so that the host does not wait each step
    with float32_products(config.precision):
        for step, batch in enumerate(endless(source)):
            rate = learning_rate(config, step, steps, len(source))
            for group in optimizer.param_groups:
                group["lr"] = rate
            if _restarts_momentum(config, step, steps, len(source)):
                optimizer.state.clear()
            optimizer.zero_grad()
            loss = add_gradient(
                loss_of,
                network,
                labeller,
                batch,
                config=hard_stage if config.in_hard_stage(step) else config,
                temperature=_temperature(config, step, steps, batches=len(source), device=device),
            )
            optimizer.step()
            if average is not None:
                average.update(network, step)
            bar.advance(len(batch.images))
            unread.append(loss)
            is_tested = step + 1 in tests
            if is_tested or len(unread) == LOSSES_READ:
                losses = torch.stack(unread).tolist()
                if (found := _first_not_finite(losses)) is not None:
                    _refuse_bad_labels(labeller, batch, step)
                    first, value = found
                    return _diverged(
                        bar, f"diverged at step {step + 2 - len(unread) + first}: its loss is {value}"
                    )
                unread.clear()
                send("losses", step=step, values={"loss": fmean(losses)})
            if is_tested:
                try:
                    curve.append((step + 1, _test(tested, teacher, test, config)))
                except NotFiniteError as error:
                    return _diverged(bar, f"diverged by step {step + 1}: {error}")
                send("accuracy", step=step + 1, values={"accuracy": curve[-1][1]})
            if step + 1 == steps:
                break
    return StudentAccuracy(curve[-1][1], max(value for _, value in curve), tuple(curve))


def _first_not_finite(losses: Sequence[float]) -> tuple[int, float] | None:
    """Place and value of the first loss that is NaN or infinite; None: there is none."""
    return next(((at, value) for at, value in enumerate(losses) if not math.isfinite(value)), None)


def _diverged(bar: Bar, how: str) -> StudentAccuracy:
    bar.line(f"{how}; it has no accuracy")
    return StudentAccuracy(None, None, (), diverged=how)


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


def student_optimizer(config: SettledStudent, network: nn.Module) -> torch.optim.Optimizer:
    """The protocol's optimizer over a network's parameters."""

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return config.decay_norms or ("weight" in name and parameter.ndim > 1)

    groups = decay_groups(network, config.weight_decay, decays)
    if config.optimizer == "adamw":
        on_gpu = next(network.parameters()).is_cuda  # where one kernel reads and writes everything once
        return torch.optim.AdamW(groups, config.peak_lr, fused=on_gpu or None)
    return torch.optim.SGD(groups, config.peak_lr, config.momentum)


def learning_rate(config: SettledStudent, step: int, steps: int, batches: int) -> float:
    """The learning rate of a step, 0 <= step < steps; an epoch has ``batches`` steps."""
    return config.peak_lr * learning_rate_factor(config, *_done_of_total(config, step, steps, batches))


def _done_of_total(config: Student, step: int, steps: int, batches: int) -> tuple[float, float]:
    """What is done before a step, and all that is to be done, in steps or epochs (``lr_interval``)."""
    return (step, steps) if config.lr_interval == "step" else (step // batches, steps / batches)


def learning_rate_factor(config: Student, done: float, total: float) -> float:
    """The learning rate as a part of ``lr``, after ``done`` of ``total`` steps or epochs."""
    warmup = config.warmup * total
    if done < warmup:
        return config.warmup_start + (1 - config.warmup_start) * done / warmup
    done, total = done - warmup, total - warmup
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "multistep":
        return config.milestone_factor ** _milestones_passed(config, done, total)
    if config.schedule == "cos2" and 6 * done > 5 * total:
        return _cosine(5, 6, config.stretch) * (1 - done / total)
    return _cosine(done, total, config.stretch)


def _temperature(
    config: Student, step: int, steps: int, *, batches: int, device: torch.device
) -> Tensor | None:
    """T of a step as a scalar tensor; None: it has no schedule. An epoch has ``batches`` steps."""
    if config.temperature_schedule is None:
        return None
    value = scheduled_temperature(config, *_done_of_total(config, step, steps, batches))
    return torch.full((), value, device=device)


def _milestones_passed(config: Student, done: float, total: float) -> int:
    """How many milestones lie at or before ``done`` of ``total`` steps or epochs after the warm-up."""
    return sum(done >= part * total - 1e-9 * total for part in config.milestones)


def _restarts_momentum(config: Student, step: int, steps: int, batches: int) -> bool:
    """Whether the optimizer forgets its momentum before a step: the first one after a milestone."""
    if not config.restart_momentum or not step:
        return False
    passed = []
    for number in (step - 1, step):
        done, total = _done_of_total(config, number, steps, batches)
        warmup = config.warmup * total
        passed.append(_milestones_passed(config, done - warmup, total - warmup))
    return passed[1] > passed[0]


def _cosine(done: float, total: float, stretch: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done / total / stretch))


def _test_steps(config: SettledStudent, batches: int) -> set[int]:
    """The numbers of steps after which the student is tested; an epoch has ``batches`` steps."""
    steps = config.training_steps
    if config.test_every is None:
        done = {-(-number * steps // config.evaluations) for number in range(1, config.evaluations + 1)}
    else:
        done = {*range(config.test_every * batches, steps, config.test_every * batches), steps}
    return {step for step in done if step > config.best_from * steps}


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
