"""A sweep: the runs of a grid, one after another, and their results in one table and one figure.

A grid over the methods alone is one run, in the sweep's folder itself; keys of the run itself give each run a
folder of its own, such as ``ipc-10``. ``sweep.json`` holds all scores, ``sweep.svg`` is the figure; both are
of the section ``student`` alone. With ``data.validation`` all scores are of the validation images; the best
set of each number of images a class, and its control, are then read once on the test images. Runs that differ
in ``ipc`` have a page in common, ``report.html``. Every run continues where it stopped, so the same command
finishes an interrupted sweep, with the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

from ..config import CONTROL
from ..config.naming import arm_titles
from ..errors import InputError, refusals_explained
from ..recipes.grid import Grid, GridRun, expand, parse_grid, whole_item
from ..recipes.resolve import resolve
from ..report import SweptRun, SweptSet, accuracy_by_key, report, report_runs, require_page, sweep_svg
from ..run_folder import ArmResult, Metrics, RunFolder, SweepResults, delete_run, read, write
from ..run_folder.comparison import of_all
from ..run_folder.results import SweepArm, SweepRun, SweepScores, SweepWinner
from ..runtime.distributed import barrier, is_main, say_once
from ..runtime.files import write_text
from ..runtime.lock import at_work, refuse_busy
from ..teachers.recipe_names import check_names
from .experiment import check
from .given_networks import download_teachers
from .pipeline import accuracies_on_test
from .pipeline import run as run_pipeline


@refusals_explained()
def sweep(
    recipe: str,
    grid: Sequence[str] = (),
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    add: Sequence[str] = (),
    arms: Sequence[str] = (),
    students: Sequence[str] = (),
    seeds: int | None = None,
    fresh: bool = False,
    download: bool = False,
) -> SweepResults | None:
    """Run a recipe at every point of a grid; or continue a sweep that was interrupted.

    Args:
        recipe: a built-in name or a YAML file.
        grid: ``KEY=VALUE,VALUE,...`` texts; their product is run. Empty: the one that the recipe of a paper's
            table or figure has.
        out: the folder; ``runs/<name>-sweep`` if not given.
        overrides: ``key=value`` texts; the grid's values go over them.
        add, arms, students: as for ``fastdd.run``.
        seeds: students of every set and kind, instead of the recipe's.
        fresh: delete earlier runs of the grid in that folder first.
        download: download released weights of teachers that the cache lacks.

    Returns:
        What sweep.json says; None in all processes of torchrun but the main one.

    Raises:
        InputError: bad input; all runs are checked before anything is written or deleted. Or the folder holds
            results of a point that the grid has not, which would be lost.
    """
    axes = [parse_grid(text) for text in grid] or whole_item(recipe, overrides)
    first = [axis.overrides[0] for axis in axes]
    resolved, counted = resolve(recipe, [*overrides, *first], add, arms, students), []
    if seeds is not None:
        names = resolved.recipe.students
        counted = [f"student.seeds={seeds}", *(f"students.{name}.seeds={seeds}" for name in names)]
        for text, found in zip([*overrides, *first], resolved.addresses, strict=True):
            paths = [".".join(address) for address in found]
            if any(path.startswith("student") and path.endswith(".seeds") for path in paths):
                raise InputError(f"--seeds {seeds} and {text} both set the number of students; leave one out")
    expanded = expand(recipe, axes, [*overrides, *counted], add, arms, students)
    _require_one_split(expanded)
    if not all(run.recipe.metrics.students for run in expanded.runs):
        raise InputError("a sweep compares accuracies; set metrics.students to true, got false")
    folder = Path(out or f"runs/{expanded.runs[0].recipe.name}-sweep")
    several = bool(expanded.runs[0].folder)
    if several and RunFolder(folder).recipe.exists():
        raise InputError(
            f"{folder} is the folder of one run, but this sweep has several; choose another with --out"
        )
    folders = [folder / run.folder for run in expanded.runs]
    if several and is_main():
        _require_kept(RunFolder(folder), expanded)
    if is_main():
        for place in (folder, *folders):
            refuse_busy(place)
    for run in expanded.runs:
        check_names(run.recipe)
    for run, place in zip(expanded.runs, folders, strict=True):
        if download:
            download_teachers(run.recipe)
        check(run.recipe, place, fresh=fresh)
    say_once(resolved.note)
    with at_work(folder, "sweep") if several and is_main() else nullcontext():
        if fresh and is_main():
            for place in folders:
                with at_work(place, "sweep"):
                    delete_run(place)
        barrier()
        for number, (run, place) in enumerate(zip(expanded.runs, folders, strict=True), 1):
            if run.folder and is_main():
                print(f"sweep: run {number} of {len(folders)}, {run.folder}", file=sys.stderr)
            run_pipeline(run.recipe, place, earlier=folders[: number - 1], reduced=run.reduced)
        barrier()  # the main process has written all results
        results = _results(expanded, [read(RunFolder(place).metrics, Metrics) for place in folders])
        if results.evaluated_on == "validation":
            results = results.model_copy(update={"winners": _winners(expanded, results, folder=folder)})
        if not is_main():
            return None
        with nullcontext() if several else at_work(folder, "sweep"):
            write(RunFolder(folder).sweep, results)
            figure = sweep_svg(accuracy_by_key(_swept(results), results.keys), results.evaluated_on)
            write_text(RunFolder(folder).sweep_figure, figure)
            if len(folders) > 1 and len({run.recipe.ipc for run in expanded.runs}) == len(folders):
                report_runs(folders, RunFolder(folder).report)
            elif results.winners and not several:
                report(folder)  # now that the winner is known
    return results


def _require_kept(folder: RunFolder, grid: Grid) -> None:
    """Refuse a folder whose files the sweep would replace, although they hold something else.

    A grid may have more points than an earlier one in the same folder, and none less.

    Raises:
        InputError: sweep.json has a point that the grid has not; or a file is none of a sweep's.
    """
    remedy = "choose another folder with --out"
    require_page(folder.report)
    if not folder.sweep.exists():
        if folder.sweep_figure.exists():
            raise InputError(f"{folder.sweep_figure} exists and is no figure of a sweep; {remedy}")
        return
    earlier = read(folder.sweep, SweepResults, f"move it away, or {remedy}")
    arms = {run.folder: run.recipe.arms.keys() for run in grid.runs}
    for run in earlier.runs:
        if lost := sorted(run.arms.keys() - arms.get(run.folder, ())):
            raise InputError(
                f"{folder.sweep} has results of {', '.join(lost)} in {run.folder}, which would be lost: this "
                f"grid has no such point; give a grid with all points, or {remedy}"
            )


def _results(grid: Grid, metrics: Sequence[Metrics]) -> SweepResults:
    """The same bytes however often the sweep was interrupted."""
    runs = []
    for run, measured in zip(grid.runs, metrics, strict=True):
        arms = {}
        for arm, title in arm_titles(run.recipe.arms).items():
            point = run.recipe.sweep.points.get(arm)
            place = {"of": arm, "title": title, "at": {}} if point is None else point.model_dump(mode="json")
            arms[arm] = SweepArm.model_validate(
                place | _scores(measured.arms[arm]) | {"multiply_adds": measured.arms[arm].multiply_adds}
            )
        control = SweepScores.model_validate(_scores(measured.arms[CONTROL]))
        runs.append(
            SweepRun(folder=run.folder, at=run.at, protocol=measured.protocol, control=control, arms=arms)
        )
    results = SweepResults(recipe=grid.runs[0].recipe.name, keys=grid.keys, runs=tuple(runs))
    validated = grid.runs[0].recipe.data.validation is not None
    return results.model_copy(update={"evaluated_on": "validation"} if validated else {})


def _winners(grid: Grid, results: SweepResults, *, folder: Path) -> tuple[SweepWinner, ...]:
    """The best set by the validation images for each number of images a class, read on the test images with
    the control of its run; sets of which students diverged are left out."""
    ranked: dict[int, list[tuple[float, GridRun, str, SweepArm]]] = {}
    for run, scored in zip(grid.runs, results.runs, strict=True):
        for name, arm in scored.arms.items():
            if (fractions := of_all(arm.last)) is not None:
                ranked.setdefault(run.recipe.ipc, []).append((fmean(fractions), run, name, arm))
    winners = []
    for ipc, sets in ranked.items():
        _, run, name, arm = max(sets, key=lambda each: each[0])
        reached = accuracies_on_test(run.recipe, folder / run.folder, [CONTROL, name])
        winner = SweepWinner(
            folder=run.folder,
            arm=name,
            title=arm.title,
            at=run.at | arm.at,
            ipc=ipc,
            last=tuple(reached[name]),
            control=tuple(reached[CONTROL]),
        )
        winners.append(winner)
    return tuple(winners)


def _require_one_split(grid: Grid) -> None:
    """Refuse a sweep that would choose by the test images although it has others, or rank on both.

    Raises:
        InputError: ``data.evaluate`` is test beside ``data.validation``, or some runs have validation images
            and others none.
    """
    data = [run.recipe.data for run in grid.runs]
    validated = [each for each in data if each.validation is not None]
    if any(each.evaluate == "test" for each in validated):
        raise InputError(
            "data.evaluate=test would let a sweep choose by the test images; leave it out. The sweep ranks "
            "by the validation images, and tests its winner once on the test images"
        )
    if validated and len(validated) < len(data):
        raise InputError(
            "some runs of the grid have data.validation and others have not, so they are tested on different "
            "images; give all runs the same data.validation"
        )


def _scores(arm: ArmResult) -> dict[str, object]:
    """What sweep.json takes over of an arm's results."""
    return arm.model_dump(include=set(SweepScores.model_fields), exclude_unset=True)


def _swept(results: SweepResults) -> list[SweptRun]:
    """What the figure needs."""
    return [
        SweptRun(
            run.at,
            run.control.last,
            [SweptSet(arm.title, run.at | arm.at, arm.last) for arm in run.arms.values()],
        )
        for run in results.runs
    ]
