"""Figures for papers: what the page of a run shows, as figures of matplotlib.

    import fastdd
    figure = fastdd.plots.accuracy("runs/digits")
    fastdd.plots.save(figure, "accuracy.pdf")

Runs are given by their folders, or as ``fastdd.run`` returns them. Colors and markers of the arms are those
of the page. Figures have no titles, which stand in captions, and are as wide as a column of two; ``width``
says otherwise, in inches. Whiskers are 95 % confidence intervals of the mean over students, or one standard
deviation with ``error="deviation"``; one student has none. Students that diverged have no mark.

matplotlib is imported when the first figure is asked for.
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from .config import CONTROL, FULL
from .errors import InputError, suggestion
from .report.bytes_figure import shipped_by
from .report.figures import mean, spread
from .report.finished_run import FinishedArm, FinishedRun, read_run
from .report.several_runs import require_one_series, runs_of_sweep
from .report.sheets import Tile, open_tile
from .report.templates import page_colors
from .run_folder.comparison import Fractions, half_interval, of_all
from .runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .runs.result import RunResult

    Run: TypeAlias = str | Path | RunResult | FinishedRun

__all__ = ["accuracy", "accuracy_by_bytes", "accuracy_by_images", "images", "losses", "save"]

Error: TypeAlias = Literal["interval", "deviation"]

COLUMN = 3.3
"""width in inches of a column of a page with two"""
MARKERS = ("o", "s", "D", "^", "v", "P")
"""the page's markers in matplotlib's names, by an arm's index"""


def require_matplotlib() -> None:
    """Refuse figures where matplotlib is missing; it is not imported."""
    if find_spec("matplotlib") is None:
        raise InputError("figures need matplotlib, which is not installed; pip install 'fastdd[plots]'")


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A new figure in the look of the papers' figures, which belongs to no window.

    Raises:
        InputError: matplotlib is missing.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure as New

    with matplotlib.rc_context(
        {
            "font.size": 8,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.linewidth": 0.4,
            "grid.color": "#ececec",
            "axes.axisbelow": True,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "lines.linewidth": 1.2,
            "lines.markersize": 4,
            "legend.frameon": False,
            "legend.fontsize": 7,
        }
    ):
        yield New(figsize=(width, height), layout="constrained")


def draw(
    axes: Axes,
    label: str,
    index: int,
    places: Sequence[tuple[float, Fractions]],
    *,
    error: Error,
    joined: bool,
) -> None:
    """Draw the sets of an arm: where each lies across, and the accuracies of its students."""
    if not places:
        return
    known = [(x, of_all(fractions) or []) for x, fractions in places]
    axes.errorbar(
        [x for x, _ in known],
        [100 * mean(fractions) for _, fractions in known],
        yerr=[half(fractions, error) for _, fractions in known],
        color=tint(index),
        marker=MARKERS[index % len(MARKERS)],
        linestyle=(":" if index == 0 else "-") if joined else "none",
        elinewidth=0.8,
        label=plain(label),
    )


def finish(axes: Axes) -> None:
    axes.set_ylabel("test accuracy (%)")
    axes.grid(axis="y")
    axes.legend()


def half(fractions: Sequence[float], error: Error) -> float:
    """Half the length of a whisker in percentage points."""
    if error == "deviation":
        return 100 * spread(fractions)
    return 100 * (half_interval(fractions) or 0.0)


def tint(index: int) -> str:
    """The page's color of an arm."""
    return page_colors()["control" if index == 0 else f"a{1 + (index - 1) % 7}"]


def plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def pasted(rows: Sequence[Sequence[Tile]]) -> tuple[np.ndarray, tuple[int, int]]:
    """Images side by side, uint8 [H, W, 3], and the height and width of one; all take the size of the
    first."""
    opened = [[open_tile(tile) for tile in row] for row in rows]
    size = opened[0][0].size
    lines = [[np.asarray(each if each.size == size else each.resize(size)) for each in row] for row in opened]
    return np.vstack([np.hstack(line) for line in lines]), (size[1], size[0])


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure with its fonts embedded, whole or not at all.

    Args:
        path: a file whose name ends in .pdf, .svg, .png or another format of matplotlib's.

    Raises:
        InputError: matplotlib has no such format, or the file cannot be written.
    """
    import matplotlib

    path, content = Path(path), io.BytesIO()
    kind = path.suffix.removeprefix(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise InputError(
            f"{path}: {kind or 'no ending'} is no format of figures; use {', '.join(sorted(known))}"
        )
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    # TrueType fonts in PDF, outlines in SVG, and the same bytes each time.
    with (
        matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "fastdd"}),
        warnings.catch_warnings(record=True) as caught,
    ):
        figure.savefig(content, format=kind, dpi=300, metadata=undated.get(kind))
    write_bytes(path, content.getvalue())
    _tell(path, [str(each.message) for each in caught])
    return path


def _tell(path: Path, found: Sequence[str]) -> None:
    """Say in a line what matplotlib warned of; letters that its font lacks are told together."""
    lacking = (re.match(r"Glyph (\d+)", text) for text in found)
    letters = dict.fromkeys(chr(int(glyph[1])) for glyph in lacking if glyph)
    rest = dict.fromkeys(text for text in found if not text.startswith("Glyph "))
    if letters:
        print(
            f"{path}: the font lacks {' '.join(letters)}; name one that has them in matplotlib's font.family",
            file=sys.stderr,
        )
    for text in rest:
        print(f"{path}: {text}", file=sys.stderr)


def accuracy(run: Run, student: str = "", *, error: Error = "interval", width: float = COLUMN) -> Figure:
    """Test accuracy of every arm: each student, their mean, and the way there from the control's mean.

    Args:
        run: a finished run.
        student: a name of the recipe's ``students``; empty for the section ``student``.

    Raises:
        InputError: the run is not finished, has no such students, or matplotlib is missing.
    """
    found = _read(run)
    last = _last(found, student)
    rows = [(arm.label, tint(arm.index), last[arm.key]) for arm in found.arms if arm.key in last]
    if found.metrics.full_set is not None:
        rows.append((found.metrics.full_set.title, tint(0), last[FULL]))
    reference = of_all(last[CONTROL])
    with new_figure(width, 0.5 + 0.24 * len(rows)) as figure:
        axes = figure.subplots()
        if reference is not None:
            axes.axvline(100 * mean(reference), color=tint(0), linewidth=0.8, linestyle=":")
        for row, (_, color, accuracies) in enumerate(rows):
            if (fractions := of_all(accuracies)) is None:
                continue
            middle = 100 * mean(fractions)
            if reference is not None:
                start = 100 * mean(reference)
                axes.barh(row, middle - start, height=0.5, left=start, color=color, alpha=0.25)
            axes.scatter([100 * value for value in fractions], [row] * len(fractions), s=9, color=color)
            axes.errorbar(middle, row, xerr=half(fractions, error), marker="|", markersize=9, color=color)
        axes.set_yticks(range(len(rows)), [plain(label) for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("test accuracy (%)")
        axes.grid(axis="x")
    return figure


def accuracy_by_bytes(
    runs: Run | Sequence[Run], student: str = "", *, error: Error = "interval", width: float = COLUMN
) -> Figure:
    """Accuracy against the bytes that a student reads, images, labels and weights; a line joins the controls.

    Args:
        runs: one finished run, or several with the same classes and students.
        student: as for ``accuracy``.

    Raises:
        InputError: as for ``accuracy``; or no bytes were measured.
    """
    found = _several(runs)
    labels = _indices(found)
    with new_figure(width, 0.75 * width) as figure:
        axes = figure.subplots()
        for label, index in labels.items():
            places = []
            for run, arm in _of(label, found):
                shipped, fractions = shipped_by(arm, student), of_all(_last(run, student).get(arm.key, ()))
                if shipped is not None and fractions:
                    places.append((shipped.total / 1e6, fractions))
            draw(axes, label, index, sorted(places), error=error, joined=index == 0)
        if not axes.has_data():
            raise InputError(f"{found[0].folder} has no bytes of its sets; evaluate it with this version")
        axes.set_xscale("log")
        axes.set_xlabel("bytes read by a student (MB)")
        finish(axes)
    return figure


def accuracy_by_images(
    runs: Sequence[Run], student: str = "", *, error: Error = "interval", width: float = COLUMN
) -> Figure:
    """Accuracy against images a class, a line an arm.

    Args:
        runs: finished runs with the same classes and students, each with images a class of its own; or the
            folder of a sweep over ipc, alone.
        student: as for ``accuracy``.

    Raises:
        InputError: as for ``accuracy``; or two runs have as many images a class.
    """
    found = _several(runs)
    sizes = [run.metrics.ipc for run in found]
    for run, other in pairwise(found):
        if run.metrics.ipc == other.metrics.ipc:
            raise InputError(
                f"{run.folder} and {other.folder} both have {run.metrics.ipc} images a class; leave one out"
            )
    with new_figure(width, 0.75 * width) as figure:
        axes = figure.subplots()
        for label, index in _indices(found).items():
            places = []
            for run, arm in _of(label, found):
                if fractions := of_all(_last(run, student).get(arm.key, ())):
                    places.append((run.metrics.ipc, fractions))
            draw(axes, label, index, places, error=error, joined=True)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("images per class")
        finish(axes)
    return figure


def losses(run: Run, *, width: float = COLUMN) -> Figure:
    """Loss terms by step, weighted and averaged over units: a panel for each arm that has some, on the same
    logarithmic axes. Values that are not positive are left out.

    Raises:
        InputError: the run is not finished, no arm has losses, or matplotlib is missing.
    """
    found = _read(run)
    arms = [arm for arm in found.arms if any(arm.losses.values())]
    if not arms:
        raise InputError(f"{found.folder} has no losses: none of its arms is optimized")
    terms = list(dict.fromkeys(term for arm in arms for term in arm.losses))
    colors = page_colors()
    with new_figure(width, 1.5 * len(arms)) as figure:
        panels = figure.subplots(len(arms), sharex=True, sharey=True, squeeze=False)[:, 0]
        for arm, axes in zip(arms, panels, strict=True):
            for term, curve in arm.losses.items():
                known = [(step, value) for step, value in curve if value > 0]
                color = colors[f"k{terms.index(term) % 10}"]
                axes.plot([step for step, _ in known], [value for _, value in known], color=color, label=term)
            axes.set_yscale("log")
            axes.set_ylabel(plain(arm.label))
            axes.legend(loc="upper right", ncols=2)
        panels[-1].set_xlabel("step")
    return figure


def images(run: Run, arm: str | None = None, *, width: float = COLUMN) -> Figure:
    """Images edge to edge: a row a class and a column a slot of one arm, or a row an arm with the first
    image of each class. At most 20 classes and ten slots are shown.

    Args:
        arm: the arm; None: all.

    Raises:
        InputError: the run is not finished or lacks the arm, or matplotlib is missing.
    """
    found = _read(run)
    known = {each.key: each for each in found.arms}
    if arm is None:
        rows = {
            each.label: [found.image(each, name, 0) for name in found.shown_classes] for each in found.arms
        }
    elif arm in known:
        slots = range(found.shown_slots)
        rows = {name: [found.image(known[arm], name, slot) for slot in slots] for name in found.shown_classes}
    else:
        raise InputError(
            f"{found.folder} has no arm {arm!r}{suggestion(arm, list(known))}; arms: {', '.join(known)}"
        )
    picture, (height, side) = pasted(list(rows.values()))
    down, across = len(rows), picture.shape[1] // side
    with new_figure(width, width * picture.shape[0] / picture.shape[1] + 0.2) as figure:
        axes = figure.subplots()
        axes.imshow(picture, interpolation="none", extent=(0, across, down, 0), aspect=height / side)
        axes.hlines(range(1, down), 0, across, color="white", linewidth=0.6)
        axes.vlines(range(1, across), 0, down, color="white", linewidth=0.6)
        axes.set_yticks([row + 0.5 for row in range(down)], [plain(label) for label in rows])
        names = found.shown_classes if arm is None else ()
        middles = [column + 0.5 for column in range(len(names))]
        axes.set_xticks(middles, [plain(name) for name in names], rotation=90)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


# -- reading --------------------------------------------------------------------------------------


def _read(run: Run) -> FinishedRun:
    if isinstance(run, FinishedRun):
        return run
    return read_run(Path(run) if isinstance(run, str | Path) else run.path)


def _several(runs: Run | Sequence[Run]) -> list[FinishedRun]:
    """Runs that can share a figure, by their images a class; the folder of a sweep stands for its runs."""
    given: Sequence[Run] = runs if isinstance(runs, list | tuple) else [runs]  # type: ignore[list-item]
    if len(given) == 1 and isinstance(given[0], str | Path):
        given = runs_of_sweep(Path(given[0])) or given
    found = sorted(map(_read, given), key=lambda run: run.metrics.ipc)
    require_one_series(found)
    return found


def _last(run: FinishedRun, student: str) -> Mapping[str, Fractions]:
    """Accuracies after the last step of each set's students."""
    if student and student not in run.recipe.students:
        known = ", ".join(run.recipe.students) or "none"
        near = suggestion(student, list(run.recipe.students))
        raise InputError(f"{run.folder} has no further students {student!r}{near}; students: {known}")
    return run.metrics.last(student)


def _indices(runs: Sequence[FinishedRun]) -> dict[str, int]:
    """The place of each arm among those of all runs, by label; 0 is the control."""
    labels = dict.fromkeys(arm.label for run in runs for arm in run.arms)
    return {label: index for index, label in enumerate(labels)}


def _of(label: str, runs: Sequence[FinishedRun]) -> Iterator[tuple[FinishedRun, FinishedArm]]:
    """The arm of a label in each run that has it."""
    return ((run, arm) for run in runs for arm in run.arms if arm.label == label)
