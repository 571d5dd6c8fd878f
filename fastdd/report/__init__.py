"""Report: figures and one self-contained page, made from a finished run folder alone."""

from .page import report

__all__ = ["report"]
