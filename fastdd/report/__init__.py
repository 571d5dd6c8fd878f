"""The report: one self-contained page, made from a finished run folder alone, and the figure of a sweep."""

from .page import report
from .sweep_figure import SweepFigure, SweptRun, SweptSet, accuracy_by_key, sweep_svg

__all__ = ["SweepFigure", "SweptRun", "SweptSet", "accuracy_by_key", "report", "sweep_svg"]
