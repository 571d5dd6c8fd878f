"""Where an arm lies on the grid of a sweep, and how keys and values of a grid are written in names and titles."""

from __future__ import annotations

from pydantic import Field, JsonValue

from .base import Config


class Point(Config):
    """An arm that a sweep made from one of the recipe's arms by setting some of its values."""

    of: str
    """the recipe's arm"""
    title: str
    """of that arm, which no other arm of the recipe has"""
    at: dict[str, JsonValue]
    """what was set: ``method.`` and the path in the method -> value"""


class Sweep(Config):
    """The arms that lie on a grid; written by ``fastdd sweep``."""

    keys: tuple[str, ...] = ()
    """of the grid, in its order"""
    points: dict[str, Point] = Field(default_factory=dict)
