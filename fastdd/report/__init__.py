"""The report: one self-contained page, made from finished run folders alone, and the figure of a sweep."""

from .by_ipc import report_by_ipc, runs_of_sweep
from .page import report
from .sweep_figure import SweepFigure, SweptRun, SweptSet, accuracy_by_key, sweep_svg

__all__ = [
    "SweepFigure",
    "SweptRun",
    "SweptSet",
    "accuracy_by_key",
    "report",
    "report_by_ipc",
    "runs_of_sweep",
    "sweep_svg",
]
