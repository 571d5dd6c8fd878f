"""The students of a run: of every arm and of the whole real training set, under every protocol of the recipe.

All students are in one queue that processes share: those of the section ``student``, then the further ones by
name. Within a section those of the whole training set come last. Where there are several processes, those
that take longest come first, so that none is left over at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

from pydantic import JsonValue
from torch import Tensor, nn

from ..config import CONTROL, FULL
from ..distilled.images import ONE_A_FILE, Storage
from ..distilled.runs import learned_lr
from ..evaluate import StudentCheckpoint, train_student
from ..models.build import network_builder
from ..models.outline import multiply_adds
from ..run_folder import FullSetResult, StudentResult, read, write
from ..run_folder.comparison import Fractions
from ..run_folder.results import Curve, FullSetAccuracies, StudentAccuracies, stage_of
from ..runtime.distributed import barrier, claims, from_main, world_size
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers.checkpoint import training_identity
from .kept_students import keep_student
from .label_stage import learned_from, shipped, stored_labels
from .run import Run


class Accuracies(TypedDict):
    """Test accuracies as fractions, one entry a student; ``diverged`` only where one did."""

    last: tuple[float | None, ...]
    best: tuple[float | None, ...]
    curves: tuple[Curve, ...]
    diverged: NotRequired[tuple[str | None, ...]]


class ArmAccuracies(Accuracies):
    """The same of an arm; ``learned_from`` only where all students note the same."""

    learned_from: NotRequired[str]


class Job(NamedTuple):
    """One student that is to be trained.

    Attributes:
        student: name of its protocol in the experiment's ``students``.
        learned: the arm that it learns from, or FULL.
    """

    student: str
    learned: str
    seed: int

    @property
    def title(self) -> str:
        """What the stage is called: ``students deda``, of further students ``students NAME deda``."""
        return stage_of("students", self.student, self.learned)


class HeldSet:
    """What the student in training learns, in memory: one set at a time, which is decoded once for all of its
    students that follow each other."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._of: tuple[str, str] | None = None
        self._held: tuple[Tensor, Tensor, Storage] | None = None

    def of(self, job: Job) -> tuple[Tensor, Tensor, Storage]:
        """Images, classes and storage of what a student learns, as ``Run.stored`` has them.

        Raises:
            InputError: an image is missing or damaged, or the images do not fit into memory.
        """
        # How much of the whole training set they are shown differs between kinds of students.
        of = (job.learned, job.student if job.learned == FULL else "")
        if self._held is None or self._of != of:
            self._held = None  # released before the next one is decoded
            self._of, self._held = of, self._decoded(job)
        return self._held

    def _decoded(self, job: Job) -> tuple[Tensor, Tensor, Storage]:
        if job.learned == FULL:
            return (*self.run.experiment.full_set(job.student).images, ONE_A_FILE)
        return self.run.stored(job.learned)


def train_students(run: Run) -> None:
    """Train and test the students that the run folder lacks, of all protocols, arms and seeds.

    Students that learned other images or labels than those that the run folder has now are trained again, and
    those whose weights are asked for and were not kept.
    """
    left, held = from_main(lambda: longest_first(run, _left(run))), HeldSet(run)
    for number in claims("students", len(left)):
        _train(run, left[number], held)
    barrier()


def accuracies_on_test(run: Run, arms: Sequence[str]) -> dict[str, Fractions]:
    """Train the students of the section ``student`` once more, and test them on the test images at the end.

    They are the same students, since all their random draws are, and no test pass changes one.

    Args:
        arms: what was chosen by the validation images, and the control.

    Returns:
        Accuracy after the last step of each student, by arm.
    """
    jobs = [Job("", arm, seed) for arm, seed in product(arms, range(run.experiment.recipe.student.seeds))]
    left, held = from_main(lambda: [job for job in jobs if not _is_tested(run, job)]), HeldSet(run)
    for number in claims("tested students", len(left)):
        _train(run, left[number], held, last_test=True)
    barrier()
    numbers = range(run.experiment.recipe.student.seeds)
    return {
        arm: [read(run.folder.tested_student(arm, seed), StudentResult).last for seed in numbers]
        for arm in arms
    }


def _is_tested(run: Run, job: Job) -> bool:
    """Whether a student of the present images and labels has been tested on the test images."""
    file = run.folder.tested_student(job.learned, job.seed)
    return file.is_file() and read(file, StudentResult).learned_from == learned_from(run, job.learned)


def _left(run: Run) -> list[Job]:
    """The students that are to be trained; stderr says which are trained again, and which cannot be told."""
    left, changed, without, unknown = list[Job](), list[str](), list[str](), dict[str, Path]()
    for job in _jobs(run):
        file = run.folder.student(job.learned, job.seed, job.student)
        if not file.is_file():
            left.append(job)
            continue
        run.folder.student_state(file).unlink(missing_ok=True)  # killed before it was deleted
        if _lacks_weights(run, job):
            without.append(job.title)
            left.append(job)
        elif job.learned != FULL:
            known = read(file, StudentResult).learned_from
            if known is None:
                unknown[job.title] = file.parent
            elif known != learned_from(run, job.learned, job.student):
                changed.append(job.title)
                left.append(job)
    for title in dict.fromkeys(changed):
        print(f"{title}: the images or labels have changed, so they are trained again", file=sys.stderr)
    for title in dict.fromkeys(without):
        print(f"{title}: their weights were not kept, so they are trained again", file=sys.stderr)
    for title, folder in unknown.items():
        print(
            f"{title}: an earlier version of fastdd trained them and did not note from which images; "
            f"they are taken to be of the present ones (delete {folder} to train them again)",
            file=sys.stderr,
        )
    return left


def _lacks_weights(run: Run, job: Job) -> bool:
    """Whether the weights of a finished student are asked for, and are not there."""
    if not run.experiment.students[job.student].keep:
        return False
    weights = run.folder.student_weights(job.learned, job.seed, job.student)
    result = read(run.folder.student(job.learned, job.seed, job.student), StudentResult)
    return result.diverged is None and not weights.is_file()


def longest_first(run: Run, jobs: list[Job]) -> list[Job]:
    """The students by multiply-adds of their whole training, where several processes share them."""
    if world_size() == 1:
        return jobs
    experiment = run.experiment
    classes = len(experiment.classes)
    each = {
        student: multiply_adds(experiment.students[student].network, classes, experiment.real.shape)
        for student in {job.student for job in jobs}
    }

    def work(job: Job) -> int:
        seen = experiment.protocol(CONTROL if job.learned == FULL else job.learned, job.student).images_seen
        return seen * each[job.student]

    return sorted(jobs, key=work, reverse=True)


def _jobs(run: Run) -> list[Job]:
    """All students of the run, in the order in which they are trained."""
    if not run.experiment.recipe.metrics.students:
        return []
    sets = list(run.experiment.arms)
    if run.session.manifest.full_set_left_out is None:
        sets.append(FULL)
    return [
        Job(student, learned, seed)
        for student, config in run.experiment.students.items()
        for learned, seed in product(sets, range(config.seeds))
        if run.experiment.recipe.learns(student, learned)
    ]


def _train(run: Run, job: Job, held: HeldSet, *, last_test: bool = False) -> None:
    """Train one student, keep its weights where they are asked for, and write its accuracy.

    Args:
        held: what it learns, in memory.
        last_test: test the student on the test images, at the end alone.
    """
    student, name, seed = job
    identity, real = derive(run.experiment.recipe.seed, "student", seed), run.experiment.real
    test, (images, truth, storage) = real.test if last_test else real.evaluation, held.of(job)
    if name == FULL:
        config, soft_labels = run.experiment.protocol(CONTROL, student), None
    else:
        rate = learned_lr(run.folder, name) if run.experiment.students[student].lr == "learned" else None
        config = run.experiment.protocol(name, student, rate)
        soft_labels = stored_labels(run, name, images, truth, seed=identity, student=student)
    file, stage = run.folder.student(name, seed, student), job.title
    if last_test:
        config = config.model_copy(update={"evaluations": 1, "test_every": None, "best_from": 0.0})
        file, stage = run.folder.tested_student(name, seed), f"test {job.title}"
    total = config.images_seen
    new_network = network_builder(config.network, len(run.teacher.card.classes), images.shape[1])
    shown = f"{stage_of('student', student, name)} {seed}"
    learned = None if name == FULL else learned_from(run, name, student)
    numbers: list[JsonValue] = [config.images, config.training_steps, config.peak_lr]
    owner = training_identity(config.model_dump(mode="json"), numbers, learned, str(images.device.type))
    checkpoint = StudentCheckpoint(run.folder.student_state(file), owner, config.checkpoint_every)
    with run.session.stage(stage) as work, progress(shown, total) as bar:
        if config.lr == "learned":
            source = "none was learned" if config.learned_lr is None else "learned with the images"
            bar.line(f"learning rate {config.peak_lr:g} ({source})")
        result = train_student(
            config,
            run.labeller(name, student),
            images,
            new_network=new_network,
            test=test,
            seed=identity,
            bar=bar,
            soft_labels=soft_labels,
            hard_labels=truth,
            storage=storage,
            checkpoint=checkpoint,
        )
        work.images = total
    content = {"seed": seed, **result.content()}
    if learned is not None:
        content["learned_from"] = learned
    accuracy = StudentResult.model_validate(content)
    if not last_test:
        _keep(run, job, result.network, accuracy)
    write(file, accuracy)
    checkpoint.remove()


def _keep(run: Run, job: Job, network: nn.Module | None, accuracy: StudentResult) -> None:
    """Write the weights of a student that are asked for; those of an earlier training go."""
    if run.experiment.students[job.student].keep and network is not None:
        keep_student(run, network, accuracy, learned=job.learned, student=job.student)
    else:
        run.folder.student_weights(job.learned, job.seed, job.student).unlink(missing_ok=True)


def accuracies(run: Run, name: str, student: str = "") -> Accuracies:
    """Accuracies of an arm's students, or of those of the whole training set, under one protocol."""
    found = _found(run, name, student)
    accuracies: Accuracies = {
        "last": tuple(each.last for each in found),
        "best": tuple(each.best for each in found),
        "curves": tuple(each.curve for each in found),
    }
    if any(each.diverged for each in found):
        accuracies["diverged"] = tuple(each.diverged for each in found)
    return accuracies


def arm_accuracies(run: Run, arm: str, student: str = "") -> ArmAccuracies:
    """Accuracies of an arm's students under one protocol, and what they learned from."""
    measured: ArmAccuracies = {**accuracies(run, arm, student)}
    known = {each.learned_from for each in _found(run, arm, student)}
    if len(known) == 1 and (learned := known.pop()) is not None:
        measured["learned_from"] = learned
    return measured


def _found(run: Run, name: str, student: str) -> list[StudentResult]:
    """The students of a set under one protocol, by seed; none where none are trained."""
    seeds = range(run.experiment.students[student].seeds if run.experiment.recipe.metrics.students else 0)
    return [read(run.folder.student(name, seed, student), StudentResult) for seed in seeds]


def further_accuracies(run: Run, arm: str) -> dict[str, dict[str, StudentAccuracies]]:
    """``students``: the further students of an arm by name; nothing where it has none."""
    recipe = run.experiment.recipe
    names = [name for name in recipe.students if recipe.learns(name, arm)]
    found = {
        name: StudentAccuracies(**arm_accuracies(run, arm, name), shipped=shipped(run, arm, name))
        for name in names
    }
    return {"students": found} if found else {}


def full_set_result(run: Run) -> FullSetResult | None:
    """The students of the whole training set; None: it is left out."""
    if run.session.manifest.full_set_left_out is not None:
        return None
    experiment = run.experiment
    full = {student: experiment.full_set(student) for student in experiment.students}
    found = {
        name: FullSetAccuracies(images=len(full[name].chosen), **accuracies(run, FULL, name))
        for name in experiment.recipe.students
    }
    own = FullSetResult(title=full[""].title, images=len(full[""].chosen), **accuracies(run, FULL))
    return own.model_copy(update={"students": found}) if found else own
