"""Whether students of one set reach more than those of another: paired differences and their certainty.

Students of one seed have the same initial weights and the same random numbers whatever they learn, so the
difference of two sets is the mean of the differences seed by seed:

    d_s = a_s - b_s,    mean(d) +- t(1 - .05 / (2 m), S - 1) std(d) / sqrt(S)

for S seeds, with the quantile t of Student's distribution and m comparisons of which one is picked
(Bonferroni; m = 1 for an interval that stands for itself). It speaks of other students of the same images:
whether another run of the method would give images as good is told by runs with other seeds alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, TypeAlias

from .reading import Record

Fractions: TypeAlias = Sequence[float | None]
"""test accuracies as fractions, one a student; None: the student diverged"""
EvaluatedOn = Literal["test", "validation"]
"""the split that students are tested on"""
CONFIDENCE = 0.95
"""confidence of every interval"""
MOST_SEEDS = 1000
"""largest number of seeds that is suggested"""


class Difference(Record):
    """Mean difference of the students of two sets, seed by seed."""

    mean: float
    """a fraction; above 0: the first set is better"""
    deviation: float | None
    """sample standard deviation of the differences, a fraction; null: of one seed"""
    interval: float | None
    """half the width of the 95 % confidence interval, a fraction; null: one seed tells none"""
    seeds: int
    """students of each set"""

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves 0 out; never so with one seed, nor where all differences are the same,
        which of few test images happens by chance and shows no spread."""
        return bool(self.interval) and abs(self.mean) > (self.interval or 0.0)


def difference(ours: Fractions, others: Fractions, comparisons: int = 1) -> Difference | None:
    """Compare the students of two sets.

    Args:
        ours: accuracies of the one, by seed.
        others: those of the other; seeds that one of them lacks are left out.
        comparisons: how many such differences were looked at to pick this one.

    Returns:
        None where a student diverged, or there is none.
    """
    first, second = of_all(ours), of_all(others)
    if not first or not second:
        return None
    each = [a - b for a, b in zip(first, second, strict=False)]
    if len(each) == 1:
        return Difference(mean=each[0], deviation=None, interval=None, seeds=1)
    deviation = statistics.stdev(each)
    interval = _quantile(len(each), comparisons) * deviation / math.sqrt(len(each))
    return Difference(mean=statistics.mean(each), deviation=deviation, interval=interval, seeds=len(each))


def half_interval(fractions: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of a mean over students: t(.975, S - 1) std / sqrt(S), a fraction;
    None for one student."""
    if len(fractions) < 2:
        return None
    return _quantile(len(fractions), 1) * statistics.stdev(fractions) / math.sqrt(len(fractions))


def more_seeds(differences: Sequence[Difference], half_width: float) -> int | None:
    """The smallest number of seeds with which intervals are expected to be as narrow as wanted.

    Args:
        differences: what was found so far; their pooled standard deviation is taken.
        half_width: wanted half width, a fraction.

    Returns:
        At most ``MOST_SEEDS``; None where there are as many already, or no difference has a standard
        deviation.
    """
    known = [each for each in differences if each.deviation is not None]
    if not known:
        return None
    freedom = sum(each.seeds - 1 for each in known)
    variance = sum((each.seeds - 1) * (each.deviation or 0.0) ** 2 for each in known) / freedom
    enough = (n for n in range(2, MOST_SEEDS) if _quantile(n, 1) * math.sqrt(variance / n) <= half_width)
    seeds = next(enough, MOST_SEEDS)
    return seeds if seeds > max(each.seeds for each in known) else None


def difference_text(found: Difference) -> str:
    """Points with their interval, such as ``+3.1 ± 0.8``.

    ``≈`` leads where they are not distinguishable from 0. One seed has no interval."""
    text = f"{100 * found.mean:+z.1f}"
    if found.interval is None:
        return text
    return f"{'' if found.distinguishable else '≈ '}{text} ± {100 * found.interval:.1f}"


def _quantile(seeds: int, comparisons: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons)))


def of_all(accuracies: Fractions) -> list[float] | None:
    """The accuracies where every student has one; None: some diverged, and the mean of the rest misleads."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return known if len(known) == len(accuracies) else None


def diverged_text(accuracies: Fractions) -> str:
    """How many students have no accuracy, such as ``2 of 3 diverged``; empty: all have one."""
    lost = sum(accuracy is None for accuracy in accuracies)
    return f"{lost} of {len(accuracies)} diverged" if lost else ""


def mean_text(accuracies: Fractions) -> str:
    """Mean and sample standard deviation over seeds in percent, such as ``81.3 ± 0.4``, or how many
    diverged."""
    if (fractions := of_all(accuracies)) is None:
        return diverged_text(accuracies)
    deviation = f" ± {100 * statistics.stdev(fractions):.1f}" if len(fractions) > 1 else ""
    return f"{100 * statistics.mean(fractions):.1f}{deviation}"


def best_title(evaluated_on: EvaluatedOn, reported: Literal["last", "best"]) -> str | None:
    """What the best of a student's test passes is called; None: it is not told.

    The best is a choice, so it is told of the validation images. Of the test images it is told only where the
    protocol's authors report it.
    """
    if evaluated_on == "validation":
        return "best on validation"
    return "best on the test set" if reported == "best" else None
