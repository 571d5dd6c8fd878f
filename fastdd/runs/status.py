"""How far a run is: each stage, how much of it is done and how much there is; and a run of another process,
watched by the files of its folder, log.jsonl and the locks of who is at work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ..config import CONTROL, FULL, RANDOM_REAL, Method, Recipe, Student
from ..errors import refusals_explained
from ..recipes.used_teachers import teachers_used, working_teachers
from ..recover import all_units
from ..run_folder import RunFolder, StudentResult, UnitPlan, read, read_manifest, read_recipe, require_run
from ..run_folder.bank_files import classes_of_bank
from ..run_folder.results import stage_of
from ..runtime.console import counted
from ..runtime.lock import workers


@dataclass(frozen=True)
class Progress:
    """A stage of a run.

    Attributes:
        done, total: finished and all parts; total is None where it is not known yet.
        unit: what a part is, in the plural.
        begun: a part is under way, and its state is kept.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    diverged: int = 0
    begun: bool = False

    def __str__(self) -> str:
        state = "done" if self.done == self.total else "in part" if self.done or self.begun else "to do"
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
        begun = run.training_checkpoint(teacher).is_file()
        rows.append(Progress(f"squeeze{suffix}", squeezed, 1, "teacher", begun=begun))
        rows.append(Progress(f"bank{suffix}", *classes_of_bank(run.bank(teacher)), "classes"))
    if recipe.experts.path is None and any(
        method.match and method.match.trajectory for method in recipe.arms.values()
    ):
        rows.append(Progress("experts", len(run.finished_experts()), recipe.experts.count, "experts"))
    classes = classes_of_bank(run.bank())[1]
    students = recipe.all_students if recipe.metrics.students else {}
    for arm, method in {CONTROL: RANDOM_REAL, **recipe.arms}.items():
        total = _units(run, recipe, arm, method, classes=classes)
        begun = bool(run.unit_states(arm))
        rows.append(Progress(f"recover {arm}", len(run.units(arm)), total, "units", begun=begun))
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
    return Progress(
        stage_of("students", name, arm),
        len(files),
        config.seeds,
        "students",
        diverged=lost,
        begun=bool(run.student_states(arm, name)),
    )


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


SHOWN = 4
"""accuracies and finished stages that are shown, the last ones"""


@dataclass
class Watched:
    """What the log of a run tells so far.

    Attributes:
        log: the file; ``read`` goes on where it stopped.
        stage: the stage that is being done; empty: none.
        work: what of it the progress is of, such as ``student deda 0``; empty: it has not begun.
        done, total: images, or image-iterations, of that.
        rate: images a second since it began.
        losses: the last losses of the stage, in words.
        accuracies: every accuracy that was reached, in words.
        finished: the stages that ended, and their seconds.
        news: local time of the last event; None: there was none.
    """

    log: Path
    stage: str = ""
    work: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    losses: str = ""
    accuracies: list[str] = field(default_factory=list)
    finished: list[tuple[str, float]] = field(default_factory=list)
    news: datetime | None = None
    _at: int = 0

    def read(self) -> None:
        """Take in the events that were written since; a line that is none is left out."""
        if not self.log.is_file():
            return
        with open(self.log, "rb") as file:
            file.seek(self._at)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]  # the last line may be half written
        self._at += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self._take(event["event"], event["stage"], event.get("step"), event.get("values", {}))
                self.news = datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z")
            except (ValueError, KeyError, TypeError):
                continue

    def _take(self, kind: str, stage: str, step: int | None, values: dict[str, float]) -> None:
        if kind == "begin":
            self.stage, self.work, self.losses = stage, "", ""
        elif kind == "end":
            self.stage, self.work, self.losses = "", "", ""
            self.finished.append((stage, values["seconds"]))
        elif kind == "progress":
            self.work, self.rate = stage, values["rate"]
            self.done, self.total = int(values["done"]), int(values["total"])
        elif kind == "losses":
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.losses = f"{numbers} at step {step}"
        elif kind == "accuracy":
            reached = [(name, value) for name, value in values.items() if name.startswith("accuracy")]
            told = ", ".join(f"{name} {100 * value:.1f} %" for name, value in reached)
            self.accuracies.append(f"{stage}: {told} at {step}")

    def rows(self, now: datetime) -> list[tuple[str, str]]:
        """What is shown: a heading and a text a row."""
        shown = [("stage", self.stage or "none")]
        if self.work:
            share = f" ({100 * self.done // self.total} %)" if self.total else ""
            shown.append((self.work, f"{self.done:,} of {counted(f'{self.total:,}', 'image')}{share}"))
            shown.append(("images/s", f"{self.rate:,.1f}" if self.rate else "-"))
            shown.append(("time left", self._left(now)))
        if self.losses:
            shown.append(("losses", self.losses))
        shown += [("accuracy", text) for text in self.accuracies[-SHOWN:]]
        shown += [("done", f"{name}, {seconds:,.1f} s") for name, seconds in self.finished[-SHOWN:]]
        if self.news is not None:
            shown.append(("last news", f"{self._age(now)} ago"))
        return shown

    def _left(self, now: datetime) -> str:
        if not self.rate:
            return "-"
        seconds = round((self.total - self.done) / self.rate)
        return str(max(timedelta(seconds=seconds) - self._age(now), timedelta()))

    def _age(self, now: datetime) -> timedelta:
        passed = timedelta() if self.news is None else now - self.news
        return timedelta(seconds=max(0, round(passed.total_seconds())))


def watch(
    folder: Path, every: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[tuple[str, str]]]:
    """What a run tells, again and again until nobody is at work in its folder; the last is its end.

    Args:
        every: seconds between two looks.
        sleep: waits for seconds.

    Raises:
        InputError: there is no run, and nobody is at work.
    """
    run = RunFolder(folder)
    if not workers(folder):
        require_run(folder)
    watched = Watched(run.log)
    while True:
        busy = workers(folder)
        watched.read()
        who = [f"{each.command}, pid {each.pid} on {each.host}, since {each.since}" for each in busy]
        rows = watched.rows(datetime.now().astimezone())
        yield [*(("at work", text) for text in who or ["nobody"]), *rows]
        if not busy:
            return
        sleep(every)
