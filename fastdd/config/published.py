"""Numbers that a paper prints for the sets of a run, which tables show beside the run's own."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer

from .base import Config, Text

OWN = "student"
"""name under which the numbers of the recipe's section ``student`` stand, among those of further students"""
WRITTEN = re.compile(r"(-?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?")


class Number(NamedTuple):
    """A number of a paper's table.

    Attributes:
        mean: the value.
        deviation: its standard deviation; None: the paper gives none.
    """

    mean: float
    deviation: float | None = None


def _number(given: object) -> Number:
    """A number from ``27.2 ± 0.4``, from one alone, or from what a saved recipe holds of it."""
    if isinstance(given, str) and (found := WRITTEN.fullmatch(given.strip())):
        return Number(float(found[1]), None if found[2] is None else float(found[2]))
    parts = given if isinstance(given, list | tuple) else [given]
    numbers = [part for part in parts if isinstance(part, int | float) and not isinstance(part, bool)]
    if len(numbers) == len(parts) and 1 <= len(numbers) <= 2:
        return Number(*map(float, numbers))
    raise ValueError(f"expected a number such as 27.2 ± 0.4, got {given!r}")


def _plain(number: Number) -> list[float]:
    return [value for value in number if value is not None]


Printed = Annotated[
    Number, BeforeValidator(_number), PlainSerializer(_plain, return_type=list[float], when_used="json")
]
ByArm = dict[str, Printed]
"""number of each arm, by its name in the recipe"""
Diversity = Literal["coverage", "cosine", "vendi"]


class Published(Config):
    """What a paper prints for a data set and a number of images a class."""

    item: Text
    """the paper and its table or figure, such as ``DiRe, Tables 2 and 3``"""
    differs: str = ""
    """what differs between the paper and this run, in a sentence; empty: nothing is known to"""
    accuracy: dict[str, ByArm] = Field(default_factory=dict)
    """test accuracy in percent, by the name of the students; ``student`` are those of that section"""
    coverage: ByArm = Field(default_factory=dict)
    """share of the real images that are covered, 0 to 1"""
    cosine: ByArm = Field(default_factory=dict)
    """mean cosine within the classes"""
    vendi: ByArm = Field(default_factory=dict)
    """mean Vendi score of the classes"""
    seconds: ByArm = Field(default_factory=dict)
    """seconds of recover"""
    features: dict[Diversity, ByArm] = Field(default_factory=dict)
    """``coverage``, ``cosine`` and ``vendi`` in the features that ``metrics.features`` names"""
    impact: dict[Diversity, ByArm] = Field(default_factory=dict)
    """by ``coverage``, ``cosine`` or ``vendi``: the value's place between the least (0) and the most (1) of
    all arms that have one here"""
