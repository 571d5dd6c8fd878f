"""The students of a run: of every arm, and of the whole real training set.

All students are in one queue that processes share; those of the whole training set come last.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict

from ..config import FULL
from ..evaluate import train_student
from ..evaluate.full_set import FullSet
from ..models.build import network_builder
from ..run_folder import FullSetResult, StudentResult, read, write
from ..run_folder.results import Curve
from ..runtime.distributed import barrier, claims
from ..runtime.progress import progress
from ..runtime.seeds import derive
from .label_stage import stored_labels
from .run import Run


class Accuracies(TypedDict):
    """Test accuracies as fractions, one entry a student."""

    last: tuple[float, ...]
    best: tuple[float, ...]
    curves: tuple[Curve, ...]


def train_students(run: Run) -> None:
    """Train and test the students that the run folder lacks, of all arms and seeds."""
    sets = list(run.experiment.arms)
    if run.session.manifest.full_set_left_out is None:
        sets.append(FULL)
    every = [(name, seed) for name in sets for seed in range(run.experiment.recipe.student.seeds)]
    left = [(name, seed) for name, seed in every if not run.folder.student(name, seed).is_file()]
    barrier()  # all processes have listed them before any is finished
    full = run.experiment.full_set()  # its images are decoded once, and are gone with this stage
    for number in claims("students", len(left)):
        _train(run, *left[number], full)
    barrier()


def _train(run: Run, name: str, seed: int, full: FullSet) -> None:
    """Train one student and write its accuracy."""
    identity = derive(run.experiment.recipe.seed, "student", seed)
    if name == FULL:
        config, soft_labels = full.config, None
        images, truth = full.images
    else:
        config, (images, truth) = run.experiment.protocol(name), run.distilled(name)
        soft_labels = stored_labels(run, name, images, truth, seed=identity)
    test, total = run.experiment.real.test, config.images_seen
    new_network = network_builder(config.network, len(run.teacher.card.classes), images.shape[1])
    with run.session.stage(f"students {name}") as work, progress(f"student {name} {seed}", total) as bar:
        result = train_student(
            config,
            run.teacher,
            images,
            new_network=new_network,
            test=test,
            seed=identity,
            bar=bar,
            soft_labels=soft_labels,
            hard_labels=truth,
        )
        work.images = total
    found = StudentResult.model_validate({"seed": seed, **asdict(result)})
    write(run.folder.student(name, seed), found)


def accuracies(run: Run, name: str) -> Accuracies:
    """Accuracies of an arm's students, or of those of the whole training set."""
    seeds = range(run.experiment.recipe.student.seeds)
    found = [read(run.folder.student(name, seed), StudentResult) for seed in seeds]
    return {
        "last": tuple(student.last for student in found),
        "best": tuple(student.best for student in found),
        "curves": tuple(student.curve for student in found),
    }


def full_set_result(run: Run) -> FullSetResult | None:
    """The students of the whole training set; None: it is left out."""
    if run.session.manifest.full_set_left_out is not None:
        return None
    full = run.experiment.full_set()
    return FullSetResult(title=full.title, images=len(full.chosen), **accuracies(run, FULL))
