"""The figure of a sweep as an SVG file of its own, for a paper: panels, a legend, and nothing that an editor lacks."""

from __future__ import annotations

from . import sweep_figure as geometry
from .page import environment
from .sweep_figure import SweepFigure

COLUMNS = 2
HEADING = 26.0  # room over a panel for its title
LEGEND = 18.0  # height of a line


def sweep_svg(figure: SweepFigure) -> str:
    """The content of the file: two panels a row, beneath them the legend."""
    across, height = min(COLUMNS, len(figure.panels)), figure.height + HEADING
    places = [
        (panel, n % COLUMNS * geometry.PANEL_WIDTH, HEADING + n // COLUMNS * height)
        for n, panel in enumerate(figure.panels)
    ]
    end = -(-len(figure.panels) // COLUMNS) * height + LEGEND / 2
    return environment().get_template("sweep_file.html").render(
        figure=figure,
        geometry=geometry,
        places=places,
        legend=[(line, end + n * LEGEND) for n, line in enumerate(figure.legend)],
        note=end + len(figure.legend) * LEGEND,
        width=across * geometry.PANEL_WIDTH,
        height=end + (len(figure.legend) + 1) * LEGEND,
    )  # fmt: skip
