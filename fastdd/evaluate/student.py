"""Students: what a distilled set is worth is what networks make of it.

A fresh network learns the teacher's soft labels (Hinton et al., 2015) of mixed, augmented images, by default

    loss = KL(softmax(teacher / T) || softmax(student / T)),  mean over the batch, no factor T^2,

with AdamW and a cosine learning rate. Every set, the random real control included, gets the same protocol, and
its hash is printed beside the accuracies. Teacher, student and loss are one function of a batch, which may be compiled.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Student
from ..errors import InputError
from ..models.build import build
from ..protocols import settle_student, steps_of
from ..runtime.precision import autocast
from ..runtime.progress import Bar
from ..runtime.seeds import derive
from ..teachers import Teacher, accuracy
from ..teachers.optimizer import Average, decay_groups
from .batch_norm_check import require_statistics
from .batches import Augmented, Batch, Batches
from .schedules import learning_rate


@dataclass(frozen=True)
class Result:
    """Test accuracy of one student, as fractions."""

    last: float
    best: float
    curve: tuple[tuple[int, float], ...]
    """(steps done, accuracy) of each test pass"""


def train_student(
    config: Student,
    teacher: Teacher,
    images: Tensor,
    labels: Tensor | Batches | None,
    test: tuple[Tensor, Tensor],
    seed: int,
    bar: Bar,
    hard: Tensor | None = None,
    epoch_images: int | None = None,
) -> Result:
    """Train and test one student.

    Args:
        images: uint8 [N, C, H, W], on the device to train on.
        labels: stored soft labels: one an image [N, classes], or batches that bring theirs; None: the teacher labels.
        test: uint8 images and labels of the real test split.
        seed: of initial weights, order, augmentation and mixing.
        hard: int64 [N], classes of the images, for protocols with hard labels or ``hard_weight``.
        epoch_images: size of the set whose protocol this is, where the images are a larger set's: an epoch is that many
            of them, and steps, batches, learning rates and tests are as for that set. None: all.

    Raises:
        InputError: labels that do not fit or are no finite numbers, or batches of one image for a network with
            BatchNorm.
    """
    device, classes = images.device, len(teacher.card.classes)
    size = len(images) if epoch_images is None else epoch_images
    config = settle_student(config, size, classes)
    hard = _checked(config, classes, len(images), labels, hard)
    torch.manual_seed(derive(seed, "student"))  # also for dropout, whatever was trained before
    network = build(config.network, classes, images.shape[1])
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(config, network)
    average = Average(network, config.ema) if config.ema else None
    tested = network if average is None else average.network
    labeller = copy.deepcopy(teacher.network).train(config.teacher_mode == "train")
    source: Batches
    if labels is None or isinstance(labels, Tensor):
        source = Augmented(config, teacher, images, labels, hard, seed, epoch_images)
    else:
        source = labels
    normalizing = {config.network: network}
    if config.labels != "hard":
        normalizing["the teacher in train mode"] = labeller
    require_statistics(config, normalizing, source.smallest())
    loss_of: Callable[..., Tensor] = _distillation
    if config.compile:
        torch.compiler.reset()  # torch gives up on a function after the graphs of eight networks and sizes
        loss_of = torch.compile(_distillation, dynamic=False)
    steps, tests = steps_of(config, size), _tests(config, size, len(source))
    curve: list[tuple[int, float]] = []
    for step, batch in enumerate(_endless(source)):
        rate = learning_rate(config, step, steps, len(source))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = _backward(loss_of, network, labeller, batch, config)
        optimizer.step()
        if average is not None:
            average.update(network, step)
        bar.advance(len(batch.images))
        if step + 1 in tests:
            _require_finite_labels(loss, labeller, batch, step)
            curve.append((step + 1, _test(tested, teacher, test, config)))
        if step + 1 == steps:
            break
    return Result(curve[-1][1], max(value for _, value in curve), tuple(curve))


def _checked(
    config: Student, classes: int, images: int, labels: Tensor | Batches | None, hard: Tensor | None
) -> Tensor | None:
    """Labels that fit; returns the hard ones where the loss has them."""
    if isinstance(labels, Tensor) and labels.shape != (images, classes):
        raise InputError(
            f"stored labels are {list(labels.shape)}, expected [{images}, {classes}]: one row an image and one column "
            "a class of the teacher; label the set again with this teacher"
        )
    if config.labels == "hard" and labels is not None:
        raise InputError(
            "student.labels=hard learns the classes of the images, but soft labels are given; give none"
        )
    if config.labels != "hard" and not config.hard_weight:
        return None
    if hard is None:
        hard_only = config.labels == "hard"
        what, other = ("labels=hard", "online") if hard_only else (f"hard_weight {config.hard_weight:g}", "0")
        raise InputError(f"student.{what} needs the classes of the images; give them, or set it to {other}")
    if len(hard) != images or int(hard.max()) >= classes:
        raise InputError(
            f"{len(hard)} classes up to {int(hard.max())} do not fit {images} images of the teacher's {classes} "
            "classes; use a teacher of these classes"
        )
    return hard


def _optimizer(config: Student, network: nn.Module) -> torch.optim.Optimizer:
    assert config.lr != "by_network"  # settled
    groups = decay_groups(
        network,
        config.weight_decay,
        lambda name, p: not config.split_decay or ("weight" in name and p.ndim > 1),
    )
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, config.lr)
    return torch.optim.SGD(groups, config.lr, config.momentum)


def _tests(config: Student, images: int, batches: int) -> set[int]:
    """Steps after which the student is tested."""
    steps = steps_of(config, images)
    if config.test_every is None:
        done = {-(-number * steps // config.evaluations) for number in range(1, config.evaluations + 1)}
    else:
        done = {*range(config.test_every * batches, steps, config.test_every * batches), steps}
    return {step for step in done if step > config.best_from * steps}


def _require_finite_labels(loss: Tensor, labeller: nn.Module, batch: Batch, step: int) -> None:
    """Refuse labels that are no finite numbers, told by the loss, which never recovers from them.

    Raises:
        InputError: the labels of this batch are such; a loss that diverged by itself is an honest result.
    """
    if loss.isfinite():
        return
    with torch.no_grad():
        targets = labeller(batch.images) if batch.targets is None else batch.targets
    bad = int((~targets.isfinite().all(1)).sum())
    if bad:
        raise InputError(
            f"the soft labels of {bad} of {len(targets)} images are not finite at step {step + 1} of a student; look "
            "for a teacher that is damaged or does not fit the images"
        )


def _endless(source: Batches) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from source.epoch(epoch)
        epoch += 1


def _backward(
    loss_of: Callable[..., Tensor], network: nn.Module, labeller: nn.Module, batch: Batch, config: Student
) -> Tensor:
    """Add the gradient of a batch's loss; returns the loss."""
    parts, total = batch.parts(config.accumulate), torch.zeros((), device=batch.images.device)
    for part in parts:
        loss = loss_of(network, labeller, part.images, part.targets, config, part.hard)
        if len(parts) > 1:
            loss = loss * (len(part.images) / len(batch.images))
        loss.backward()
        total += loss.detach()
    return total


def _distillation(
    network: nn.Module,
    labeller: nn.Module,
    batch: Tensor,
    targets: Tensor | None,
    config: Student,
    hard: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, float32."""
    with autocast(batch.device, config.precision):
        if targets is None:
            with torch.no_grad():
                targets = labeller(batch)
        out = network(batch)
    out, targets = out.float(), targets.float()
    T = config.temperature
    if config.labels == "hard":
        loss = F.cross_entropy(out, targets)
    elif config.loss == "kl":
        loss = F.kl_div(F.log_softmax(out / T, 1), F.softmax(targets / T, 1), reduction="batchmean")
        loss = loss * T**2 if config.t_squared else loss
    else:
        loss = F.mse_loss(out, targets)
    if config.hard_weight and hard is not None:
        loss = loss + config.hard_weight * F.cross_entropy(out, hard)
    return loss


def _test(network: nn.Module, teacher: Teacher, test: tuple[Tensor, Tensor], config: Student) -> float:
    training = network.training
    network.eval()
    with autocast(test[0].device, config.precision):
        reached = accuracy(network, teacher.normalize, *test)
    network.train(training)
    return reached
