"""The subjects, and how their works are measured one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from ..errors import InputError
from . import kernels
from .growth import curve_of
from .machine import measured
from .measure import measure
from .results import Ceilings, Clock, Curve, Row
from .subjects import bank, end_to_end, growth, loader, metrics, recover, students
from .work import Scale, Side, Work

SUBJECTS: dict[str, Callable[[Scale], list[Work]]] = {
    "kernels": kernels.works,
    "bank": bank.works,
    "loader": loader.works,
    "recover": recover.works,
    "students": students.works,
    "metrics": metrics.works,
    "end-to-end": end_to_end.works,
}
GROWTH = "growth"
"""the subject of curves, which has no peers"""
Found: TypeAlias = "Row | Curve"


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long.

    Attributes:
        works: patterns of the names of works, such as ``moments_*``; empty: all.
        sides: names of the sides beside ours; empty: all.
        compiled: whether sides that go through torch.compile are measured, which takes a minute for each.
        rounds: rounds that are timed.
        seconds: how long a side runs in a round, at least one call.
    """

    subjects: tuple[str, ...]
    works: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    compiled: bool = True
    clock: Clock = "wall"
    rounds: int = 7
    seconds: float = 0.1

    def wants(self, name: str) -> bool:
        """Whether the work or curve of this name is measured."""
        return not self.works or any(fnmatchcase(name, pattern) for pattern in self.works)

    def wants_side(self, name: str, side: Side) -> bool:
        """Whether a side beside ours is measured."""
        return (not self.sides or name in self.sides) and (self.compiled or not side.compiled)


def names(scale: Scale, subjects: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Subject, name and text of each work and curve of some subjects; nothing is made or measured."""
    for subject in subjects:
        if subject == GROWTH:
            yield from ((subject, sweep.name, sweep.text) for sweep in growth.sweeps(scale))
        else:
            yield from ((subject, work.name, work.text) for work in SUBJECTS[subject](scale))


def run(plan: Plan, scale: Scale) -> tuple[Ceilings, Iterator[Found]]:
    """Measure the ceilings now, and works and curves one by one as they are asked for.

    Raises:
        InputError: no work has a name that is wanted.
    """
    if not any(plan.wants(name) for _, name, _ in names(scale, plan.subjects)):
        known = ", ".join(name for _, name, _ in names(scale, plan.subjects))
        raise InputError(f"no work is called {' or '.join(plan.works)}; there are {known}")
    ceilings = measured(scale.device, plan.clock, quick=scale.quick)
    return ceilings, _each(plan, scale, ceilings)


def _each(plan: Plan, scale: Scale, ceilings: Ceilings) -> Iterator[Found]:
    for subject in plan.subjects:
        if subject == GROWTH:
            for sweep in growth.sweeps(scale):
                if plan.wants(sweep.name):
                    with redirect_stderr(io.StringIO()):  # the progress bars of what is timed
                        curve = curve_of(sweep, scale, plan.clock)
                    yield curve
            continue
        for work in SUBJECTS[subject](scale):
            if plan.wants(work.name):
                with redirect_stderr(io.StringIO()):
                    row = measure(
                        work,
                        subject,
                        scale,
                        ceilings=ceilings,
                        clock=plan.clock,
                        rounds=plan.rounds,
                        seconds=plan.seconds,
                        wanted=plan.wants_side,
                    )
                yield row
