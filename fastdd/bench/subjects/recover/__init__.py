"""Works of recover: whole steps against released loops, and what layouts, sizes and early ends save."""

from __future__ import annotations

from ...work import Scale, Work
from . import layouts, matching, stages, steps


def works(scale: Scale) -> list[Work]:
    """All works, in the order in which they are measured."""
    parts = (steps.works, matching.works, layouts.cim_works, stages.works, layouts.layout_works)
    return [work for works_of in parts for work in works_of(scale)]
