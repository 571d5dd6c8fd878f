"""The report: one self-contained page, made from finished run folders alone, and the figure of a sweep."""

from .page import report
from .several_runs import report_runs, require_page, runs_of_sweep
from .snapshot_figure import report_squeeze
from .sweep_figure import SweepFigure, SweptRun, SweptSet, accuracy_by_key, sweep_svg

__all__ = [
    "SweepFigure",
    "SweptRun",
    "SweptSet",
    "accuracy_by_key",
    "report",
    "report_runs",
    "report_squeeze",
    "require_page",
    "runs_of_sweep",
    "sweep_svg",
]
