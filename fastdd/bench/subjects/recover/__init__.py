"""Works of recover: whole steps against released loops, and what layouts, sizes and early ends save."""

from __future__ import annotations

from ...work import Scale, Work
from . import layouts, matching, pairs, stages, steps


def works(scale: Scale) -> list[Work]:
    """All works, in the order in which they are measured."""
    return [work for module in (steps, matching, pairs, stages, layouts) for work in module.works(scale)]
