"""What a run folder holds: each stage, how much of it is done, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import CONTROL, FULL, RANDOM_REAL, Method, Recipe, Student
from ..errors import refusals_explained
from ..recipes.used_teachers import teachers_used, working_teachers
from ..recover import all_units
from ..run_folder import RunFolder, StudentResult, UnitPlan, read, read_manifest, read_recipe, require_run
from ..run_folder.bank_files import classes_of_bank
from ..run_folder.results import stage_of


@dataclass(frozen=True)
class Progress:
    """A stage of a run.

    Attributes:
        done, total: finished and all parts; total is None where it is not known yet.
        unit: what a part is, in the plural.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    diverged: int = 0

    def __str__(self) -> str:
        state = "done" if self.done == self.total else "to do" if not self.done else "in part"
        total = "?" if self.total is None else self.total
        lost = f", {self.diverged} diverged" if self.diverged else ""
        return f"{self.stage:<28} {state:<8} {self.done}/{total} {self.unit}{lost}"


@refusals_explained()
def status(folder: Path) -> list[Progress]:
    """The stages of a run in order. Images, statistics and weights are counted, not read, and torch is not
    imported.

    Raises:
        InputError: the folder holds no run, or one of another version.
    """
    run = require_run(folder)
    manifest = read_manifest(run) if run.manifest.is_file() else None  # a run that was killed early has none
    recipe = read_recipe(run, terms=False)
    rows = []
    for teacher in working_teachers(recipe).values():
        suffix = f"-{teacher}" if teacher else ""
        squeezed = int(run.teacher(teacher).is_file())
        rows.append(Progress(f"squeeze{suffix}", squeezed, 1, "teacher"))
        rows.append(Progress(f"bank{suffix}", *classes_of_bank(run.bank(teacher)), "classes"))
    if recipe.experts.path is None and any(
        method.match and method.match.trajectory for method in recipe.arms.values()
    ):
        rows.append(Progress("experts", len(run.finished_experts()), recipe.experts.count, "experts"))
    classes = classes_of_bank(run.bank())[1]
    students = recipe.all_students if recipe.metrics.students else {}
    for arm, method in {CONTROL: RANDOM_REAL, **recipe.arms}.items():
        total = _units(run, recipe, arm, method, classes=classes)
        rows.append(Progress(f"recover {arm}", len(run.units(arm)), total, "units"))
        rows += [
            _students(run, arm, *student) for student in students.items() if recipe.learns(student[0], arm)
        ]
    if manifest is not None and manifest.full_set_left_out is None:
        rows += [_students(run, FULL, *student) for student in students.items()]
    rows.append(Progress("report", int(run.report.is_file()), 1, "page"))
    return rows


def _students(run: RunFolder, arm: str, name: str, config: Student) -> Progress:
    """The students of an arm under one protocol, which has a name but for the section ``student``."""
    files = run.students(arm, name)
    lost = sum(read(file, StudentResult).diverged is not None for file in files)
    return Progress(stage_of("students", name, arm), len(files), config.seeds, "students", diverged=lost)


def _units(run: RunFolder, recipe: Recipe, arm: str, method: Method, classes: int | None) -> int | None:
    """How many units an arm has; None where that is not known yet."""
    if method.given is not None:
        return 1
    size = recipe.recover.unit_images
    if run.plan(arm).is_file():
        size = read(run.plan(arm), UnitPlan).unit_images
    if classes is None or size == "auto":
        return None
    teachers = len(teachers_used(method, list(recipe.committee)))
    return len(all_units(method, recipe.ipc, classes, teachers, unit_images=size))
