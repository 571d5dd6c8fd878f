"""Two results of the same works: what changed by more than the noise.

Of each work and peer the ratio of its time to ours is compared, which a slower or busier machine changes
little, as both sides of a ratio were timed in turns. Our time itself is compared where both runs are of one
machine. The noise of a median of n rounds is 1.2533 s / sqrt(n), with s = 1.4826 times the median deviation
of the rounds from their median; a change counts when it is larger than three times the noise of both runs
together and than five percent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Literal, NamedTuple

from .results import OURS, Results, Row, Timing

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
