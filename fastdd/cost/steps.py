"""Where repetitions of a work begin and end: a progress bar that looks on, and ends the work after a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class EnoughError(Exception):
    """Ends a work of which enough repetitions have been seen."""


class Steps:
    """What a work tells of its repetitions; it is a progress bar where the real code has one.

    Args:
        wanted: repetitions that are looked at. One more comes first, in which all is made that is made once.
        look: is called at the end of the first repetition and of each one that is looked at.
    """

    def __init__(self, wanted: int, look: Callable[[], None]) -> None:
        self.wanted, self.look, self.done = wanted, look, 0

    def end(self) -> None:
        """A repetition has ended.

        Raises:
            EnoughError: as many as wanted were looked at.
        """
        self.look()
        self.done += 1
        if self.done > self.wanted:
            raise EnoughError

    def feed(self, item: T) -> Iterator[T]:
        """What a work takes, once for each repetition."""
        while True:
            yield item
            self.end()

    def advance(self, images: int, note: str = "") -> None:
        """A repetition has ended, as a progress bar is told."""
        if images:
            self.end()

    def line(self, text: str) -> None:
        """Say nothing."""
