"""The section ``sweep`` of a recipe, which ``fastdd sweep`` writes: where arms lie on the grid."""

from __future__ import annotations

from pydantic import Field, JsonValue

from .base import Config


class Point(Config):
    """Where an arm lies that a sweep made by setting some values of one of the recipe's arms."""

    of: str
    """name of the recipe's arm"""
    title: str
    """title of the recipe's arm, which no other arm of the recipe has"""
    at: dict[str, JsonValue]
    """the values that were set, by ``method.`` and their path in the method"""


class Sweep(Config):
    """The arms that lie on a grid."""

    keys: tuple[str, ...] = ()
    """keys of the grid, in its order"""
    points: dict[str, Point] = Field(default_factory=dict)
    """places on the grid, by arm"""
