"""The file of a benchmark run: which machine, and a row for each work with all of its sides. Two compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pydantic import Field, ValidationError

from ..errors import InputError
from ..run_folder.reading import Record, write

Clock: TypeAlias = Literal["processor", "wall"]
"""processor: time of the processor; wall: time by the clock on the wall"""
OURS = "ours"
"""name of the side that the others are compared with"""


class Timing(Record):
    """Seconds of the rounds, or ratios of them."""

    median: float
    low: float
    """the smallest of the rounds"""
    high: float
    """the largest of the rounds"""
    rounds: int
    each: tuple[float, ...] = ()
    """all rounds, in order; empty: they were not kept"""


class SideResult(Record):
    """One side of a work."""

    error: float | None = None
    """error against the truth, relative; null: the side is a part of the work, or was not compared"""
    peak_mb: float | None = None
    """MB that one call adds at its worst moment, results included; null: not measured"""
    time: Timing | None = None
    """seconds of one unit; null: the side was not timed"""
    ratio: Timing | None = None
    """the side's seconds over ours, round by round; null for ours itself"""
    untimed: str = ""
    """why the side was not timed"""


class GoalResult(Record):
    """What ours was to reach."""

    text: str
    """the goal in words"""
    value: float | None = None
    """what was measured; null: it could not be"""
    met: bool | None = None


class Row(Record):
    """A work, measured."""

    subject: str
    work: str
    text: str
    """what was done, with all sizes"""
    quick: bool = False
    """whether the sizes are the small ones"""
    clock: Clock
    tolerance: float | None = None
    """largest error with which a side is timed"""
    unit: str
    """what the seconds are of"""
    floor: float | None = None
    """seconds of a unit that no side can go below, by the ceilings of the machine; null: not counted"""
    sides: dict[str, SideResult]
    goals: tuple[GoalResult, ...] = ()


class Point(Record):
    """A size and what it took."""

    size: float
    seconds: float
    peak_mb: float | None = None


class Curve(Record):
    """How time and memory grow with one size, and the slopes of their logarithms over its."""

    name: str
    text: str
    along: str
    """the size that grows"""
    quick: bool = False
    clock: Clock
    expected: float
    """the exponent of time by the count of operations"""
    points: tuple[Point, ...]
    time_exponent: float
    memory_exponent: float | None = None
    """null: memory was not measured, or is nothing"""


class Ceilings(Record):
    """What the machine can do at best."""

    copy_bytes: float
    """bytes read and written a second by a copy"""
    fp32_operations: float
    """operations a second of a float32 product"""
    bf16_operations: float


class Machine(Record):
    """What was measured on."""

    device: str
    instructions: str
    threads: int
    precision: str
    """arithmetic of ours in works of whole networks"""
    allocator: dict[str, str] = Field(default_factory=dict)
    """variables that set the allocator; none: its defaults"""
    packages: dict[str, str | None]
    note: str = ""
    """what is to be known of the circumstances"""

    @property
    def text(self) -> str:
        """The machine in words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items() if version)
        note = f"; {self.note}" if self.note else ""
        return f"{self.device} ({self.instructions}), {threads}, {self.precision}{note}; {packages}"


class Results(Record):
    """Content of a file of results."""

    machine: Machine
    ceilings: Ceilings | None = None
    """null: of an older run that did not measure them"""
    rows: tuple[Row, ...] = ()
    curves: tuple[Curve, ...] = ()


def timing(values: Sequence[float]) -> Timing:
    """The median, the extremes and all of some rounds."""
    return Timing(
        median=statistics.median(values),
        low=min(values),
        high=max(values),
        rounds=len(values),
        each=tuple(values),
    )


def read_results(file: Path) -> Results:
    """The results in a file.

    Raises:
        InputError: it is absent, or no file of results.
    """
    try:
        return Results.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}; name a file that fastdd bench --json wrote"
        ) from error
    except ValidationError as error:
        raise InputError(
            f"{file} is no file of benchmark results; name one that fastdd bench --json wrote"
        ) from error


def earlier_results(file: Path, machine: Machine) -> Results:
    """What a file holds to which results are added; nothing where it is absent.

    Raises:
        InputError: its results are of another machine or other packages.
    """
    if not file.exists():
        return Results(machine=machine)
    earlier = read_results(file)
    if earlier.machine.model_copy(update={"note": machine.note}) != machine:
        raise InputError(
            f"{file} holds results of another machine, number of threads, precision or version "
            f"({earlier.machine.text}); name another file with --json"
        )
    return earlier


def with_results(
    results: Results, ceilings: Ceilings, rows: Iterable[Row] = (), curves: Iterable[Curve] = ()
) -> Results:
    """Results with further rows and curves, which replace those of the same name and sizes."""
    new_rows = {(row.subject, row.work, row.quick): row for row in rows}
    new_curves = {(curve.name, curve.quick): curve for curve in curves}
    kept_rows = {(row.subject, row.work, row.quick): row for row in results.rows}
    kept_curves = {(curve.name, curve.quick): curve for curve in results.curves}
    return results.model_copy(
        update={
            "ceilings": ceilings,
            "rows": tuple({**kept_rows, **new_rows}.values()),
            "curves": tuple({**kept_curves, **new_curves}.values()),
        }
    )


def write_results(file: Path, results: Results) -> None:
    """Write results, whole or not at all."""
    write(file, results)


STEEPER = 0.2
"""an exponent this much above the expected one is called steeper"""


def seconds_text(seconds: float) -> str:
    """Three figures with a unit: ``19.4 ms``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError("the last unit takes any time")


def floor_text(floor: float, seconds: float) -> str:
    return f"ours takes {seconds / floor:.2g} times that"


def curve_text(curve: Curve) -> str:
    verdict = ", steeper than that" if curve.time_exponent > curve.expected + STEEPER else ""
    memory = "" if curve.memory_exponent is None else f"; memory as the {curve.memory_exponent:.2f}th"
    return (
        f"time grows as the {curve.time_exponent:.2f}th power of {curve.along}{memory} "
        f"(operations: {curve.expected:g}{verdict})"
    )


# -- two results of the same works: what changed by more than the noise ---------------------------------
#
# Of each work and peer the ratio of its time to ours is compared, which a slower or busier machine changes
# little, as both sides of a ratio were timed in turns. Our time itself is compared where both runs are of one
# machine. The noise of a median of n rounds is 1.2533 s / sqrt(n), with s = 1.4826 times the median deviation
# of the rounds from their median; a change counts when it is larger than three times the noise of both runs
# together and than five percent.

LEAST = 0.05
"""smallest relative change that counts"""
DEVIATIONS = 3.0
"""a change counts beyond so many times its noise"""


class Change(NamedTuple):
    """One figure in both results.

    Attributes:
        figure: what is compared, in words.
        before, after: its values; for the gate, 0 where it was green and 1 where it was red.
        noise: relative noise of the quotient of both.
        verdict: whether ours became slower or faster, beyond the noise or not at all.
    """

    row: str
    figure: str
    before: float
    after: float
    noise: float
    verdict: Literal["slower", "faster", "same", "wrong", "right"]


def changes(before: Results, after: Results) -> Iterator[Change]:
    """All figures that both results have, in the order of the later one."""
    earlier = {(row.subject, row.work, row.quick): row for row in before.rows}
    same_machine = before.machine.device == after.machine.device and (
        before.machine.threads == after.machine.threads
    )
    for row in after.rows:
        old = earlier.get((row.subject, row.work, row.quick))
        if old is not None and old.text == row.text and old.clock == row.clock:
            yield from _of_row(old, row, same_machine)


def noise(found: Timing) -> float:
    """Relative noise of a median; of a single round, a tenth."""
    rounds = found.each or (found.low, found.median, found.high)
    if len(rounds) < 2:
        return 0.1
    deviation = 1.4826 * statistics.median(abs(value - found.median) for value in rounds)
    return 1.2533 * deviation / math.sqrt(len(rounds)) / found.median


def _of_row(old: Row, new: Row, same_machine: bool) -> Iterator[Change]:
    name = f"{new.subject} {new.work}"
    ours, mine = old.sides.get(OURS), new.sides.get(OURS)
    if ours is None or mine is None:
        return
    if (ours.time is None) != (mine.time is None):
        red, was = float(mine.time is None), float(ours.time is None)
        yield Change(name, "the result is wrong", was, red, 0.0, "wrong" if red else "right")
        return
    if same_machine and ours.time is not None and mine.time is not None:
        yield _change(name, f"seconds of one {new.unit}", ours.time, mine.time, slower_is_more=True)
    for side, its in new.sides.items():
        before = old.sides.get(side)
        if before is not None and before.ratio is not None and its.ratio is not None:
            yield _change(name, f"{side} over ours", before.ratio, its.ratio, slower_is_more=False)


def _change(name: str, figure: str, old: Timing, new: Timing, *, slower_is_more: bool) -> Change:
    both = math.hypot(noise(old), noise(new))
    growth = math.log(new.median / old.median) * (1 if slower_is_more else -1)
    beyond = abs(growth) > max(DEVIATIONS * both, LEAST)
    verdict: Literal["slower", "faster", "same"]
    verdict = "same" if not beyond else "slower" if growth > 0 else "faster"
    return Change(name, figure, old.median, new.median, both, verdict)
