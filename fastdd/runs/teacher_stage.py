"""The stages before images: teachers, the statistics of the real images through each, and experts.

The first teacher is the run's own. Further ones, the recipe's ``committee``, serve the methods that use
several, and their files bear their names.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from .. import bank as banks
from .. import recover, teachers
from ..config import Precision
from ..data import Crop
from ..errors import InputError
from ..experts import ExpertData, build_experts, plan_file
from ..models.build import as_input, build, to_device
from ..run_folder import Session, read_manifest, read_recipe
from ..run_folder.reading import START_OVER
from ..run_folder.session import Work
from ..runtime.console import counted
from ..runtime.distributed import from_main, is_main, own_share, require_shared, say_once, world_size
from ..runtime.files import write_bytes
from ..runtime.precision import autocast, float32_products
from ..runtime.seeds import derive
from ..teachers import Teacher, fingerprint
from ..teachers.released import weights_file
from ..teachers.training import streamed_accuracy
from ..teachers.weights import tell
from .run import Run
from .run_experts import RunExperts
from .run_teacher import RunTeacher

# -- squeeze -------------------------------------------------------------------------------------


def squeeze(run: Run) -> None:
    """Put into the run folder the teachers that it lacks: given ones, or ones that all processes train
    together. With a committee it is said beforehand which are to be trained, and about how long that takes.

    Raises:
        InputError: a teacher's accuracy is below ``minimum_accuracy``, it is not the one that the run began
            with, or the one that the run trained, or its snapshots, are gone.
    """
    if is_main() and run.experiment.recipe.committee and (planned := planned_trainings(run)):
        print(announcement(planned, len(run.experiment.working_teachers)), file=sys.stderr)
    for teacher in run.experiment.working_teachers.values():
        path, known = run.folder.teacher(teacher.name), f"teacher{teacher.suffix}"
        if teacher.is_trained and known in run.session.manifest.fingerprints and not path.is_file():
            raise InputError(
                f"{path} is gone, the teacher from which the rest of this run was made; put it back, choose "
                f"another folder with --out, or {START_OVER}"
            )
        snapshots = run.folder.snapshots(teacher.name)
        if teacher.config.snapshots and path.is_file() and not snapshots.is_file():
            raise InputError(f"{snapshots} is gone; {teachers.snapshots.REMEDY}")
        if from_main(partial(_is_to_be_made, run, teacher)):
            with run.session.stage(f"squeeze{teacher.suffix}") as work:
                if teacher.is_trained:
                    _train(teacher, run.session, work)
                elif is_main():
                    _take(teacher, path, work)
        now = require_shared(path, teachers.fingerprint)
        if is_main():
            run.folder.training_checkpoint(teacher.name).unlink(missing_ok=True)
        run.session.check_fingerprint(known, now)
        teacher.require_same_module(run.session)


def _is_to_be_made(run: Run, teacher: RunTeacher) -> bool:
    """Whether the run folder lacks a teacher, and no earlier run of the sweep has it."""
    return not run.folder.teacher(teacher.name).is_file() and not _take_over(run, teacher)


def _take_over(run: Run, teacher: RunTeacher) -> bool:
    """Copy the teacher of an earlier run of the sweep with its curve and snapshots, where it is the one that
    this run would make.

    Returns:
        Whether there was one.
    """
    now, recipe = run.session.manifest.fingerprints, run.experiment.recipe
    for earlier in run.earlier:
        other, then = read_recipe(earlier), read_manifest(earlier).fingerprints
        config = other.all_teachers.get(teacher.name)
        same = (config, other.data, other.seed) == (teacher.config, recipe.data, recipe.seed)
        if not same or any(then.get(split) != now[split] for split in ("train", "test")):
            continue
        if teacher.config.snapshots:
            if not (snapshots := earlier.snapshots(teacher.name)).is_file():
                continue
            write_bytes(run.folder.snapshots(teacher.name), snapshots.read_bytes())
        if not teacher.name and earlier.scores.is_file():
            write_bytes(run.folder.scores, earlier.scores.read_bytes())
        if (training := earlier.training(teacher.name)).is_file():
            write_bytes(run.folder.training(teacher.name), training.read_bytes())
        write_bytes(run.folder.teacher(teacher.name), earlier.teacher(teacher.name).read_bytes())
        print(f"squeeze{teacher.suffix}: the teacher is that of {earlier}", file=sys.stderr)
        return True
    return False


def _train(teacher: RunTeacher, session: Session, work: Work) -> None:
    """Train a teacher, or what is left of its training."""
    config, real = teacher.config, teacher.real
    seed = derive(teacher.recipe.seed, f"squeeze{teacher.suffix}")
    if config.init is not None:
        start = weights_file(f"{teacher.key}.init", config.init, config.network)
        session.check_fingerprint(f"init{teacher.suffix}", teachers.fingerprint(start))
    crop = None if config.scale is None else Crop(config.scale, flip=config.flip)
    share = own_share()
    train = teachers.open_passes(
        real.train, real.data, config.batch, real.device, seed=seed, crop=crop, share=share
    )
    watched = teachers.images_of_snapshots(real) if config.snapshots else None
    test = teachers.open_passes(
        real.choice_set, real.data, teachers.EVALUATION_BATCH, real.device, share=share
    )
    _tell_seen(teacher, teacher.config.init)
    squeezed = teachers.squeeze(
        config,
        real.classes,
        train,
        test,
        seed=seed,
        device=real.device,
        data=real.train.fingerprint,
        tested_on=_tested_on(teacher),
        checkpoint=session.folder.training_checkpoint(teacher.name),
        key=teacher.key,
        watched=watched,
        scored=None if teacher.name else len(real.train),
    )
    work.images = squeezed.images
    if is_main():
        teachers.save_squeezed(
            session.folder, squeezed, config.minimum_accuracy, name=teacher.name, key=teacher.key
        )
        remedy = f"train it longer ({teacher.key}.epochs) or in smaller batches ({teacher.key}.batch)"
        _tell_guessing(teacher, squeezed.curve[-1]["accuracy"], remedy)


def _tested_on(teacher: RunTeacher) -> Literal["validation"] | None:
    """What a teacher's card says of the images that its accuracy is of."""
    return None if teacher.real.validation_set is None else "validation"


def _tell_guessing(teacher: RunTeacher, reached: float, remedy: str) -> None:
    """Say where a teacher is no better than one that always names the largest class.

    Args:
        reached: its accuracy in [0, 1]. It is no better where it lies less than three standard deviations of
            that share, over so many images, above it.
    """
    images, largest = len(teacher.real.choice_set), max(teacher.real.choice_set.counts)
    chance = largest / images
    if reached <= chance + 3 * math.sqrt(chance * (1 - chance) / images):
        print(
            f"{teacher.key}: {reached:.1%} accuracy is no better than a guess ({chance:.1%}), so a set made "
            f"with this teacher will show little of the classes; {remedy}",
            file=sys.stderr,
        )


def _tell_seen(teacher: RunTeacher, origin: str | None, data: str | None = None) -> None:
    """Say that given weights may know the validation images; ``data`` is what their card says they saw."""
    withheld = teacher.real.validation_set
    if origin is not None and withheld is not None and data != teacher.real.train.fingerprint:
        say_once(
            f"{teacher.key}: {origin} may have been trained on the {len(withheld)} validation images, so "
            "that accuracies on them may be too high for every set that it makes or labels"
        )


def _take(teacher: RunTeacher, path: Path, work: Work) -> None:
    """Copy a given teacher, with its accuracy here on its card."""
    config, expected = teacher.config, teacher.expected_card
    given, origin = teacher.given(), config.weights or config.network
    tell(f"{teacher.key}.weights", origin, given.notes)
    for text in teachers.differences(given.card, expected, ("size",)):
        print(f"squeeze: {origin} was {text}; its accuracy may suffer", file=sys.stderr)
    _tell_seen(teacher, origin, given.card.data)
    work.images = len(teacher.real.choice_set)
    batches = teacher.real.batches(teacher.real.choice_set, teachers.EVALUATION_BATCH)
    try:
        reached = streamed_accuracy(given.network, given.normalize, batches)
    except teachers.NotFiniteError as error:
        raise InputError(
            f"{teacher.key}: {origin} has no accuracy: {error}; give a teacher whose training did not diverge"
        ) from error
    if reached < config.minimum_accuracy:
        raise InputError(
            f"{teacher.key}: {origin} has {reached:.1%} {_tested_on(teacher) or 'test'} accuracy here, "
            f"expected at least {teacher.key}.minimum_accuracy = {config.minimum_accuracy:.1%}; are the "
            "classes, mean and std right?"
        )
    _tell_guessing(teacher, reached, "are the classes, mean and std right?")
    card = replace(
        given.card, accuracy=reached, accuracy_on=_tested_on(teacher), size=given.card.size or expected.size
    )
    teachers.save_teacher(path, Teacher(given.network, card))


# -- bank ----------------------------------------------------------------------------------------


def build_banks(run: Run, classes: range | None = None) -> None:
    """Build what the teachers' banks lack, or only some classes of them."""
    for number in run.experiment.working_teachers:
        _build_bank(run, number, classes)


def _build_bank(run: Run, number: int, classes: range | None) -> None:
    """Build what one teacher's bank lacks: the statistics that the terms of its arms need."""
    teacher, network = run.experiment.teachers[number], run.teachers[number].network
    path, train = run.folder.bank(teacher.name), teacher.real.train
    if banks.is_whole(path):
        return
    needed = recover.Needs.together(
        recover.needs(terms, network) for terms in run.experiment.terms_of(number).values()
    )
    config = needed.of_bank(teacher.recipe.bank)
    chosen = teachers.mixed_layer_names(network, config.layers)
    seed = derive(teacher.recipe.seed, "bank")
    kept = banks.Kept.of(network, config, {*needed.gaussians, *chosen}, seed=seed)
    with run.session.stage(f"bank{teacher.suffix}") as work:
        work.images = sum(train.counts[c] for c in classes or range(len(train.classes)))
        banks.build(
            path,
            run.teachers[number],
            teacher.real.stream(),
            kept,
            fingerprint=teacher.fingerprint(run.session),
            classes=classes,
            earlier=[folder.bank(teacher.name) for folder in run.earlier],
        )


TIMED_IMAGES = 16
"""images of a timed step on a CPU, where the time of an image hardly depends on how many there are; a GPU is
timed with the teacher's own batch"""
TIMED_STEPS = 2
"""steps that are timed, after one that is not"""


@dataclass(frozen=True)
class PlannedTraining:
    """A teacher that is to be trained, or the rest of its training.

    Attributes:
        done: epochs that an interrupted command has finished.
        images: images that are left to be shown to it.
        seconds: about how long that takes here, without reading the images and testing.
    """

    teacher: RunTeacher
    done: int
    images: int
    seconds: float

    def __str__(self) -> str:
        config = self.teacher.config
        so_far = f" (of which {self.done} are done)" if self.done else ""
        start = "" if config.init is None else f" from {config.init}"
        return (
            f"{self.teacher.key}: {config.network}{start}, {counted(config.epochs, 'epoch')}{so_far} of "
            f"{len(self.teacher.real.train):,} images, about {rough(self.seconds)}"
        )


def planned_trainings(run: Run) -> list[PlannedTraining]:
    """The trainings that the squeeze stage has to do, in its order."""
    found = []
    for teacher in run.experiment.working_teachers.values():
        if teacher.is_trained and not run.folder.teacher(teacher.name).is_file():
            done = teachers.epochs_done(run.folder.training_checkpoint(teacher.name))
            images = (teacher.config.epochs - done) * len(teacher.real.train)
            seconds = images * seconds_an_image(teacher) / world_size() if images else 0.0
            found.append(PlannedTraining(teacher, done, images, seconds))
    return found


def seconds_an_image(teacher: RunTeacher) -> float:
    """Seconds that a training step of a teacher takes an image on the device of the run, measured."""
    config, device = teacher.config, teacher.real.device
    count = config.batch if device.type == "cuda" else min(TIMED_IMAGES, config.batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = build(config.network, len(teacher.real.classes), teacher.real.shape[0])
        network = to_device(network, device).train()
        images = as_input(torch.rand(max(2, count), *teacher.real.shape, device=device), network)
        with float32_products(config.precision):
            _step(network, images, config.precision)
            began = time.perf_counter()
            for _ in range(TIMED_STEPS):
                _step(network, images, config.precision)
    return (time.perf_counter() - began) / TIMED_STEPS / len(images)


def _step(network: nn.Module, images: torch.Tensor, precision: Precision) -> None:
    """Forward and backward of a step; the weights stay as they are, which costs next to nothing."""
    with autocast(images.device, precision):
        logits = network(images)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    loss = F.cross_entropy(logits.float(), labels)
    network.zero_grad()
    loss.backward()
    loss.item()  # waits for a GPU


def rough(seconds: float) -> str:
    """A length of time in words, with the precision that an estimate has."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"


def announcement(planned: list[PlannedTraining], count: int) -> str:
    """What is said before the first training: which teachers are trained, one a line.

    Args:
        planned: the trainings, at least one.
    """
    total = rough(sum(each.seconds for each in planned))
    head = f"squeeze: {len(planned)} of {counted(count, 'teacher')} to be trained, about {total} in all"
    return "\n".join([f"{head}, without reading and testing:", *(f"  {each}" for each in planned)])


def train_experts(run: Run) -> None:
    """Train the experts that the run folder lacks, where an arm follows some and the recipe gives none.

    They are gigabytes: once the images of all arms that follow them are made, their folder may be deleted.

    Raises:
        InputError: an expert diverges, or given experts are not those that the run began with.
    """
    experts = run.experiment.experts
    if experts is None:
        return
    if experts.given is not None:
        run.session.check_fingerprint("experts", fingerprint(plan_file(experts.given)))
        return
    if all(run.folder.units(arm) for arm in experts.arms):  # such an arm is one unit
        return
    if len(run.folder.finished_experts()) == experts.plan.experts:
        return
    with run.session.stage("experts") as work:
        work.images = build_experts(
            run.folder.experts,
            experts.plan,
            network=experts.flat_network(trained=True),
            group=experts.group(),
            real=lambda: _real_images(run, experts),
        )


def _real_images(run: Run, experts: RunExperts) -> ExpertData:
    real, rows = run.experiment.real, experts.images()
    images, labels = run.training_images if rows is None else real.images(real.train, rows)
    return ExpertData(images, labels, *real.choice)
