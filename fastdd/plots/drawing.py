"""How figures look, what is drawn in them, and how they are written."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ..errors import InputError
from ..report.figures import mean, spread
from ..report.sheets import Tile, open_tile
from ..report.templates import page_colors
from ..run_folder.comparison import Fractions, half_interval, of_all
from ..runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
