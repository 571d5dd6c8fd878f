"""A work, measured: each side is compared with the truth, then its memory, then all sides in turns.

The first call of a side warms up, the second is measured for memory. A side that is off by more than the
tolerance is not timed; if that is ours, none is, so that no speed stands beside a wrong result.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias, TypeVar, cast

from ..errors import InputError
from . import kernels
from .clock import in_turns, peak_mb, seconds_of
from .growth import curve_of
from .machine import floor_seconds, measured
from .results import OURS, Ceilings, Clock, Curve, GoalResult, Row, SideResult, timing
from .subjects import bank, end_to_end, growth, loader, metrics, recover, students
from .work import Goal, Scale, Side, Tensors, Work, largest_error, norm_error

LONGEST = 60.0
"""seconds that the rounds of a side may take; fewer rounds are run of a slow one, at least three"""
Inputs = TypeVar("Inputs")


def measure(
    work: Work[Inputs],
    subject: str,
    scale: Scale,
    *,
    ceilings: Ceilings,
    clock: Clock,
    rounds: int,
    seconds: float,
    wanted: Callable[[str, Side[Inputs]], bool] = lambda name, side: True,
) -> Row:
    """The row of a work.

    Args:
        ceilings: what the machine can do, measured in this run.
        rounds: rounds that are timed.
        seconds: how long a side runs in a round, at least one call.
        wanted: which of the other sides are measured.
    """
    inputs = work.inputs()
    truth = work.truth(inputs)
    tolerance = work.tolerance if isinstance(work.tolerance, float) else work.tolerance(inputs)
    calls: dict[str, Callable[[], object]] = {}
    once: dict[str, float] = {}
    sides: dict[str, SideResult] = {}
    for name, side in work.sides.items():
        if name != OURS and not wanted(name, side):
            continue
        if text := side.missing():
            sides[name] = SideResult(untimed=text)
            continue
        call = side.build(inputs)
        error = None if side.part else _error(work, side, inputs, truth, call)
        known = error if error is not None and math.isfinite(error) else None
        if error is not None and not error <= tolerance:
            sides[name] = SideResult(error=known, untimed=f"off by {error:.1e}, more than {tolerance:.0e}")
            if name == OURS:
                break
            continue
        if side.part or side.outputs is not None:
            call()
        peak, once[name] = _peak_and_seconds(call, clock, scale)
        sides[name] = SideResult(error=known, peak_mb=peak)
        calls[name] = call
    if OURS not in calls:
        calls.clear()
    rounds = min(rounds, max(3, int(LONGEST / max(once.values(), default=1.0))))
    times = in_turns(calls, once, rounds=rounds, seconds=seconds, clock=clock, device=scale.device)
    for name, own in times.items():
        update = {"time": timing([each / work.count for each in own])}
        if name != OURS:
            update["ratio"] = timing([its / mine for its, mine in zip(own, times[OURS], strict=True)])
        sides[name] = sides[name].model_copy(update=update)
    floor = None if work.least is None else floor_seconds(work.least(inputs), ceilings) / work.count
    return Row(
        subject=subject,
        work=work.name,
        text=work.text,
        quick=scale.quick,
        clock=clock,
        tolerance=tolerance,
        unit=work.unit,
        floor=floor,
        sides=sides,
        goals=() if scale.quick else tuple(_reached(work.goals, sides)),
    )


def _peak_and_seconds(call: Callable[[], object], clock: Clock, scale: Scale) -> tuple[float | None, float]:
    seconds: list[float] = []
    peak = peak_mb(lambda: seconds.append(seconds_of(call, 1, clock, scale.device)), scale.device)
    if not seconds:  # memory cannot be measured here, so nothing was called
        seconds.append(seconds_of(call, 1, clock, scale.device))
    return peak, max(seconds[0], 1e-9)


def _error(
    work: Work[Inputs], side: Side[Inputs], inputs: Inputs, truth: Tensors, call: Callable[[], object]
) -> float:
    outputs = cast(Tensors, call()) if side.outputs is None else side.outputs(inputs)
    return (largest_error if work.error == "largest" else norm_error)(outputs, truth)


def _reached(goals: Sequence[Goal], sides: dict[str, SideResult]) -> Iterator[GoalResult]:
    """Each goal, and what was measured of it."""
    for goal in goals:
        value = _value(goal, sides.get(goal.side), sides.get(goal.against))
        met = None if value is None else value >= goal.value if goal.kind == "faster" else value <= goal.value
        yield GoalResult(text=_text(goal), value=value, met=met)


def _value(goal: Goal, ours: SideResult | None, other: SideResult | None) -> float | None:
    """What was measured; None: a side was not, or not its memory."""
    if goal.kind == "megabytes":
        return None if ours is None else ours.peak_mb
    if ours is None or other is None:
        return None
    if goal.kind == "memory":
        return None if ours.peak_mb is None or not other.peak_mb else ours.peak_mb / other.peak_mb
    if ours.time is None or other.time is None:
        return None
    mine = 1.0 if ours.ratio is None else ours.ratio.median
    its = 1.0 if other.ratio is None else other.ratio.median
    return mine / its if goal.kind == "time" else its / mine


def _text(goal: Goal) -> str:
    who = "" if goal.side == OURS else f"{goal.side}: "
    bound = {
        "megabytes": f"at most {goal.value:g} MB",
        "memory": f"at most {goal.value:.0%} of the memory of {goal.against}",
        "time": f"at most {goal.value:g} times the time of {goal.against}",
        "share": f"{goal.against} at most {goal.value:.0%} of the time",
        "faster": f"at least {goal.value:g} times as fast as {goal.against}",
    }
    return who + bound[goal.kind]


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
