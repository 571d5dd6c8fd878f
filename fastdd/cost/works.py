"""The work of a run: for each stage the real code of one repetition, such as a training step, and how often
it is done.

The code runs on whatever device it is given: on one without values its cost is counted (fake_device.py), on
a real one its time is measured (profile.py). Images are black and weights are random, since neither costs
more than others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from ..config import FULL
from ..evaluate import train_student
from ..labels import LabelManifest, label_epochs, plan_labels, render_views
from ..labels.labelling import _label
from ..models.build import as_input, network_builder, to_device
from ..models.pooling import pool_in_pairs
from ..protocols import SettledStudent
from ..run_folder.results import stage_of
from ..runtime.distributed import WHOLE
from ..runtime.precision import autocast, float32_products
from ..teachers import EVALUATION_BATCH, squeeze
from ..teachers.training import streamed_accuracy
from .expert_works import expert_works
from .recover_works import recover_works
from .subject import Subject
from .work import Steps, Work


def works_of(subject: Subject, device: torch.device, processes: int = 1) -> list[Work]:
    """The works of a run in the order of its stages.

    Args:
        device: where they would be done.
        processes: how many share them, which units of recover depend on.
    """
    return [
        *_squeeze_works(subject, device),
        *_bank_works(subject, device),
        *expert_works(subject, device),
        *recover_works(subject, device, processes),
        *_label_works(subject, device),
        *_student_works(subject, device),
    ]


# -- teachers and the bank -------------------------------------------------------------------------


class _Passes:
    """Stands in for passes over the training images: black ones, for as many steps as are counted."""

    def __init__(self, subject: Subject, batch: int, device: torch.device, steps: Steps) -> None:
        self.shape, self.batch = torch.Size(subject.sizes.shape), batch
        self.device, self.steps, self.share = device, steps, WHOLE

    def __len__(self) -> int:
        return 1_000

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        images = torch.zeros(self.batch, *self.shape, dtype=torch.uint8, device=self.device)
        labels = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        yield from self.steps.feed((images, labels, torch.zeros(self.batch, dtype=torch.int64)))


def _squeeze_works(subject: Subject, device: torch.device) -> Iterator[Work]:
    sizes = subject.sizes
    tests = -(-sizes.test // EVALUATION_BATCH)
    for name in subject.working_teachers:
        config = subject.teachers[name]
        stage, trains = f"squeeze{_suffix(name)}", config.weights is None
        if trains:
            batch = min(config.batch, sizes.train)

            def train(steps: Steps, images: int, name: str = name) -> None:
                settings = subject.teachers[name].model_copy(update={"init": None, "snapshots": ()})
                passes = _Passes(subject, images, device, steps)
                names = tuple(map(str, range(sizes.classes)))
                squeeze(settings, names, passes, passes, seed=0, device=device)

            rounds = config.epochs * (sizes.train // batch)
            # A step is shared by its images.
            yield Work(stage, "training", batch, rounds, train, pieces=batch)

        def test(steps: Steps, images: int, name: str = name) -> None:
            teacher = subject.teacher(name, device)
            batch = _black(subject, images, device)
            streamed_accuracy(teacher.network, teacher.normalize, steps.feed(batch))

        repeated = tests * (config.epochs if trains else 1)
        yield Work(stage, "tests", min(EVALUATION_BATCH, sizes.test), repeated, test, pieces=sizes.test)


def _bank_works(subject: Subject, device: torch.device) -> Iterator[Work]:
    sizes, batch = subject.sizes, min(subject.recipe.bank.batch, subject.sizes.train)
    for name in subject.working_teachers:

        @torch.no_grad()
        def forward(steps: Steps, images: int, name: str = name) -> None:
            teacher = subject.teacher(name, device)
            kept = subject.kept(name, teacher.network)
            batch, _ = _black(subject, images, device)
            with float32_products(kept.config.precision):
                for _ in steps.feed(None):
                    with autocast(device, kept.config.precision):
                        kept.taps(teacher.normalize(batch))

        @torch.no_grad()
        def statistics(steps: Steps, _images: int, name: str = name) -> None:
            teacher = subject.teacher(name, device)
            kept = subject.kept(name, teacher.network)
            one, _ = _black(subject, 1, device)
            features = kept.taps(teacher.normalize(one))
            number = -(-sizes.train // sizes.classes)
            rows = [features.pooled[layer].float().repeat(number, 1) for layer in kept.pooled]
            for _ in steps.feed(None):
                for each in rows:  # as ClassGaussian does
                    centered = each - each.mean(0)
                    centered.mT @ centered

        stage, batches = f"bank{_suffix(name)}", -(-sizes.train // batch)
        yield Work(stage, "forward", batch, batches, forward, pieces=sizes.classes)
        yield Work(stage, "statistics", 0, sizes.classes, statistics, pieces=sizes.classes)


# -- labels and students ---------------------------------------------------------------------------


def _label_works(subject: Subject, device: torch.device) -> Iterator[Work]:
    """Labels that students read from files; whole images have the same for all kinds of students."""
    recipe = subject.recipe
    stored = [name for name, each in subject.students.items() if each.labels == "stored"]
    if recipe.labels.per == "image":
        stored = [""][: len(stored)]
    for student, arm in product(stored, subject.arms):
        if not recipe.learns(student, arm):
            continue
        images = subject.seen(arm) * subject.sizes.classes
        if recipe.labels.per == "image":
            batch, times, files = min(EVALUATION_BATCH, images), -(-images // EVALUATION_BATCH), 1
            run = _labeller(subject, device, None)
        else:
            plan = label_plan(subject, arm, student)
            batch = min(plan.augmentation.batch, images)
            times, files = -(-plan.pool.labels // batch), len(plan.files)
            run = _labeller(subject, device, plan)
        alike = f"{student} {batch}"
        yield Work(stage_of("label", student, arm), "labels", batch, times, run, pieces=files, alike=alike)


def label_plan(subject: Subject, arm: str, student: str) -> LabelManifest:
    """What is labelled of an arm for students of a kind, with labels by view."""
    config, recipe = subject.protocol(arm, student), subject.recipe
    one = torch.zeros(1, *subject.sizes.shape, dtype=torch.uint8)
    plan = plan_labels(
        recipe.labels_of(student), config, one, classes=subject.sizes.classes, teachers=("",), seed=0
    )
    epochs = label_epochs(recipe.labels_of(student), config)
    return replace(plan, samples=subject.seen(arm) * subject.sizes.classes, epochs=epochs)


def _labeller(
    subject: Subject, device: torch.device, plan: LabelManifest | None
) -> Callable[[Steps, int], None]:
    @torch.no_grad()
    def run(steps: Steps, images: int) -> None:
        teachers = [subject.teacher(name, device) for name in _labelling(subject)]
        batch, _ = _black(subject, images, device)
        with float32_products("fp32"):
            if plan is None:
                for _ in steps.feed(None):
                    for teacher in teachers:
                        teacher.network(teacher.normalize(batch))
                return
            views = replace(plan, samples=images, epochs=1).draw(0)
            networks = {str(number): teacher.network for number, teacher in enumerate(teachers)}
            for _ in steps.feed(None):
                _label(networks, render_views(batch, views, teachers[0].normalize), views, plan)

    return run


def _labelling(subject: Subject) -> list[str]:
    return subject.working_teachers if subject.recipe.labels.teachers == "all" else [""]


def _student_works(subject: Subject, device: torch.device) -> Iterator[Work]:
    recipe, sizes = subject.recipe, subject.sizes
    sets = [*subject.arms, *([] if recipe.metrics.full_set is False else [FULL])]
    for (student, config), learned in product(subject.students.items(), sets):
        if not recipe.learns(student, learned):
            continue
        protocol = subject.protocol(next(iter(subject.arms)) if learned == FULL else learned, student)
        stage, batch = stage_of("students", student, learned), min(protocol.batch, protocol.images)
        run = _trainer(subject, device, protocol, student)
        steps = protocol.training_steps * config.seeds
        alike = f"{student} {min(protocol.images, 4 * protocol.batch)} {protocol.batch}"
        yield Work(
            stage,
            "training",
            batch,
            steps,
            run,
            pieces=config.seeds,
            compiled=protocol.compile is True,
            alike=f"student {alike}",
        )
        tested = min(EVALUATION_BATCH, sizes.test)

        @torch.no_grad()
        def test(steps: Steps, images: int, protocol: SettledStudent = protocol) -> None:
            batch, _ = _black(subject, images, device)
            teacher = subject.teacher("", device)
            with device:
                network = network_builder(protocol.network, sizes.classes, sizes.shape[0])().eval()
            network = pool_in_pairs(to_device(network, device), device)
            with float32_products(protocol.precision):
                for _ in steps.feed(None):
                    with autocast(device, protocol.precision):
                        network(as_input(teacher.normalize(batch), network)).max(1)

        passes = protocol.evaluations
        if protocol.test_every is not None:
            epoch = -(-protocol.images // protocol.batch)
            passes = max(1, protocol.training_steps // (protocol.test_every * epoch))
        tests = config.seeds * passes * -(-sizes.test // tested)
        yield Work(stage, "tests", tested, tests, test, pieces=config.seeds, alike=f"test of {alike}")


def _trainer(
    subject: Subject, device: torch.device, protocol: SettledStudent, student: str
) -> Callable[[Steps, int], None]:
    def run(steps: Steps, batch: int) -> None:
        sizes = subject.sizes
        # More images than a few batches change nothing but the memory that they take.
        images = min(protocol.images, 4 * batch)
        kept, _ = _black(subject, images, device)
        few = protocol.model_copy(update={"images": images, "batch": batch, "compile": False})
        labels = torch.zeros(images, dtype=torch.int64, device=device)
        soft = None
        if protocol.labels == "stored":
            soft = torch.zeros(images, sizes.classes, device=device)
        builder = network_builder(protocol.network, sizes.classes, sizes.shape[0])
        test = _black(subject, 1, device)
        train_student(
            few,
            subject.teacher("", device),
            kept,
            new_network=builder,
            test=test,
            seed=0,
            bar=steps,
            soft_labels=soft,
            hard_labels=labels,
        )

    return run


# -- what they share -------------------------------------------------------------------------------


def _black(subject: Subject, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Black images, uint8 [count, C, H, W], and labels of class 0."""
    images = torch.zeros(count, *subject.sizes.shape, dtype=torch.uint8, device=device)
    return images, torch.zeros(count, dtype=torch.int64, device=device)


def _suffix(name: str) -> str:
    return f"-{name}" if name else ""
