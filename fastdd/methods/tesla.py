"""TESLA (Cui et al., ICML 2023): MTT with the gradient of each student step alone.

The released code forms the gradient of an image from the step that sees it, and holds the student's weights
fixed: how the image moves all later steps is left out. So it is MTT with ``through_weights`` false. Its
gradient is half of the squared distance's, ``factor`` 1. TABLE is its own settings; the rest is mtt.py's.
"""

from __future__ import annotations

from ..config.sources import code, paper
from . import mtt
from .declaration import Declaration, Patch, borrowed, register_method

METHOD = {
    **mtt.METHOD,
    "title": paper("TESLA"),
    "match": {**mtt.MATCH, "trajectory": {"through_weights": code(False), "factor": code(1.0)}},
    "steps": code(10_000),
}
TABLE = {("cifar10", 1): mtt.Row(50, 2, 5, 1000.0, 1e-7, 0.01), ("cifar100", 50): mtt.TABLE["cifar100"][50]}


def at(dataset: str | None, ipc: int) -> Patch:
    """TESLA's own row, else MTT's."""
    row = TABLE.get((dataset or "", ipc))
    return borrowed(mtt.at(dataset, ipc)) if row is None else mtt.row_patch(row, released=True)


register_method("tesla", Declaration(METHOD, ("cifar10", "cifar100"), at=at, protocol=code("mtt")))
