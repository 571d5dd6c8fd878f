"""A sweep: the runs of a grid, one after another, and their results in one table and one figure.

    OUT/sweep.json   every set's scores and place on the grid, every run's control      OUT/sweep.svg   the figure

A grid over the methods alone is one run, in OUT itself; keys of the run itself give a folder a run, such as OUT/ipc-10.
Every run continues where it stopped, so the same command finishes an interrupted sweep, with the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import CONTROL
from ..config.naming import labels
from ..errors import InputError
from ..recipes.grid import Grid, GridRun, expand, parse_grid
from ..report import SweptRun, SweptSet, accuracy_by_key, sweep_svg
from ..runtime.distributed import is_main
from ..runtime.files import write_json, write_text
from .folder import RECIPE
from .pipeline import Pipeline
from .pipeline import run as run_pipeline

SCORES = ("last", "best", "coverage", "vendi", "cosine")


def sweep(
    recipe: str,
    grid: Sequence[str],
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    seeds: int | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run a recipe at every point of a grid; or continue a sweep that was interrupted.

    Args:
        recipe: a built-in name or a YAML file.
        grid: ``KEY=VALUE,VALUE,...`` texts; their product is run.
        out: the folder; ``runs/<name>-sweep`` if not given.
        overrides, add: as of ``fastdd.run``; the grid's values go over the overrides.
        seeds: students of every set, instead of the recipe's.
        fresh: delete earlier runs of the grid in that folder first.

    Returns:
        What sweep.json says. Under torchrun only the main process gets it, others an empty mapping.

    Raises:
        InputError: bad input; of several runs all are checked before the first begins.
    """
    axes = [parse_grid(text) for text in grid]
    counted = [] if seeds is None else [f"student.seeds={seeds}"]
    found = expand(recipe, axes, [*overrides, *counted], add)
    folder = Path(out or f"runs/{found.runs[0].recipe.name}-sweep")
    if found.runs[0].folder and (folder / RECIPE).exists():
        raise InputError(
            f"{folder} is the folder of one run, but this sweep has several; choose another with --out"
        )
    if len(found.runs) > 1:
        for run in found.runs:
            Pipeline(run.recipe, folder / run.folder, fresh)
    metrics = [_run(run, folder, fresh and len(found.runs) == 1, found) for run in found.runs]
    if not is_main():
        return {}
    content = _content(found, metrics)
    write_json(folder / "sweep.json", content)
    write_text(folder / "sweep.svg", sweep_svg(accuracy_by_key(_swept(content), content["keys"])))
    return content


def _run(run: GridRun, folder: Path, fresh: bool, grid: Grid) -> dict[str, Any]:
    if run.folder and is_main():
        print(f"sweep: run {grid.runs.index(run) + 1} of {len(grid.runs)}, {run.folder}", file=sys.stderr)
    return run_pipeline(run.recipe, folder / run.folder, fresh).metrics


def _content(grid: Grid, metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """sweep.json: the same bytes however often the sweep was interrupted."""
    runs = []
    for run, measured in zip(grid.runs, metrics, strict=True):
        sets = {}
        for arm, title in labels(run.recipe.arms).items():
            point, scores = run.recipe.sweep.points.get(arm), measured["arms"][arm]
            place = {"of": arm, "title": title, "at": {}} if point is None else point.model_dump(mode="json")
            sets[arm] = place | {key: scores[key] for key in SCORES}
        control = {key: measured["arms"][CONTROL][key] for key in SCORES}
        protocol = measured["protocol"]
        runs.append(
            {"folder": run.folder, "at": run.at, "protocol": protocol, "control": control, "arms": sets}
        )
    return {"recipe": grid.runs[0].recipe.name, "keys": list(grid.keys), "runs": runs}


def _swept(content: dict[str, Any]) -> list[SweptRun]:
    """What the figure needs."""
    return [
        SweptRun(
            run["at"],
            run["control"]["last"],
            [SweptSet(arm["title"], run["at"] | arm["at"], arm["last"]) for arm in run["arms"].values()],
        )
        for run in content["runs"]
    ]
