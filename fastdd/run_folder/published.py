"""A paper's numbers beside those that a run measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..config import Published
from ..config.published import OWN, Number
from .comparison import Fractions, of_all
from .reading import Record

VALUES = {
    "coverage": ("coverage", 4),
    "cosine": ("cosine", 3),
    "vendi": ("Vendi score", 2),
    "seconds": ("recover, s", 1),
}
"""what an arm has one value of, by its key in ``published``: what it is called, and decimals"""


class PublishedRow(Record):
    """A number of a paper beside the run's own."""

    arm: str
    quantity: str
    """what is compared, such as ``accuracy of resnet18_small, best, %``"""
    digits: int
    """decimals with which the numbers are shown"""
    ours: float | None
    """the run's number; null: it has none, since students diverged or nothing was measured"""
    deviation: float | None = None
    """its standard deviation over students; null: there are not several"""
    paper: float
    paper_deviation: float | None = None
    """the standard deviation that the paper gives; null: it gives none"""

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; None where the run has no number."""
        return None if self.ours is None else self.ours - self.paper


class PublishedResult(Record):
    """What a paper prints, beside what the run measured."""

    item: str
    """the paper and its table or figure"""
    differs: str = ""
    """what differs between the paper and this run; empty: nothing is known to"""
    rows: tuple[PublishedRow, ...]


@dataclass(frozen=True)
class Measured:
    """What a run measured of one arm.

    Attributes:
        accuracies: fractions of the students of each kind, by the kind's name in ``published``.
        values: ``coverage``, ``cosine``, ``vendi`` and ``seconds``; what was not measured is absent.
        features: ``coverage``, ``cosine`` and ``vendi`` in other features than the teacher's, likewise.
    """

    accuracies: Mapping[str, Fractions]
    values: Mapping[str, float]
    features: Mapping[str, float] = field(default_factory=dict)


def compare(
    published: Published, arms: Mapping[str, Measured], networks: Mapping[str, str]
) -> PublishedResult:
    """Set a paper's numbers beside those of a run; numbers of arms that the run lacks are left out.

    Args:
        published: the paper's numbers for the run's data set and images a class.
        networks: network of each kind of students, and which accuracy counts, by the kind's name in
            ``published``.
    """
    rows = [*_accuracies(published, arms, networks), *_values(published, arms), *_impacts(published, arms)]
    return PublishedResult(item=published.item, differs=published.differs, rows=tuple(rows))


def _accuracies(
    published: Published, arms: Mapping[str, Measured], networks: Mapping[str, str]
) -> Iterator[PublishedRow]:
    for student, numbers in published.accuracy.items():
        of = networks.get(student, student)
        if student != OWN and not of.startswith(student):
            of = f"{student} ({of})"
        for arm, number in numbers.items():
            if arm not in arms:
                continue
            known = of_all(arms[arm].accuracies.get(student, (None,)))
            percent = None if known is None else [100 * each for each in known]
            yield _row(arm, f"accuracy of {of}, %", number, digits=1, ours=percent)


def _values(published: Published, arms: Mapping[str, Measured]) -> Iterator[PublishedRow]:
    for key, (name, digits) in VALUES.items():
        numbers: Mapping[str, Number] = getattr(published, key)
        values = {arm: each.values.get(key) for arm, each in arms.items()}
        yield from _of_arms(name, numbers, values, digits=digits)
        if key in published.features:
            values = {arm: each.features.get(key) for arm, each in arms.items()}
            yield from _of_arms(f"{name}, CLIP", published.features[key], values, digits=digits)


def _of_arms(
    name: str, numbers: Mapping[str, Number], values: Mapping[str, float | None], *, digits: int
) -> Iterator[PublishedRow]:
    """A row for each number of an arm that the run has."""
    for arm, number in numbers.items():
        if arm in values:
            value = values[arm]
            yield _row(arm, name, number, digits=digits, ours=None if value is None else [value])


def _impacts(published: Published, arms: Mapping[str, Measured]) -> Iterator[PublishedRow]:
    """Each value's place between the least and the most of the arms that the paper compares so."""
    for key, numbers in published.impact.items():
        there = {arm: arms[arm].values[key] for arm in numbers if arm in arms and key in arms[arm].values}
        if not there:
            continue
        least, most = min(there.values()), max(there.values())
        for arm, value in there.items():
            ours = [(value - least) / (most - least)] if most > least else None
            yield _row(arm, f"{VALUES[key][0]}, normalized", numbers[arm], digits=2, ours=ours)


def _row(arm: str, quantity: str, number: Number, *, digits: int, ours: list[float] | None) -> PublishedRow:
    mean = None if ours is None else statistics.mean(ours)
    deviation = statistics.stdev(ours) if ours is not None and len(ours) > 1 else None
    return PublishedRow(
        arm=arm,
        quantity=quantity,
        digits=digits,
        ours=mean,
        deviation=deviation,
        paper=number.mean,
        paper_deviation=number.deviation,
    )
