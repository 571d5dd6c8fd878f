"""A work: one repetition of a stage's real code, how often the stage does it, and what it asks of a device.

Where repetitions begin and end, a progress bar tells, which looks on and ends the work after a few.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .counting import Launch
from .fake_device import Kind, fake_device


@dataclass(frozen=True)
class Work:
    """A part of a stage.

    Attributes:
        stage: the stage, by the name under which a run notes its seconds.
        part: what of it is done, such as ``training`` or ``tests``.
        images: images of a repetition of the run.
        times: repetitions in the run, over all processes.
        run: does repetition after repetition of so many images, until what it tells of them ends it.
        repeats: repetitions that must be looked at, where they differ.
        pieces: what of it cannot be shared further, such as units or students; 1: one process does it all.
        compiled: whether torch.compile makes one graph of it.
        captured: whether a CUDA graph repeats it, so that no kernel waits for the host.
        graphs: how many graphs are compiled.
        alike: works whose repetitions cost the same have the same word here; empty: it has none like it.
        fewest: images of the smallest repetition; larger ones take as much more. BatchNorm cannot be trained
            on one.
    """

    stage: str
    part: str
    images: int
    times: float
    run: Callable[[Steps, int], None]
    repeats: int = 1
    pieces: int = 1
    compiled: bool = False
    captured: bool = False
    graphs: int = 1
    alike: str = ""
    fewest: int = 2

    def share(self, processes: int) -> float:
        """The part of the repetitions that falls to the process that has most."""
        return -(-self.pieces // processes) / self.pieces


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


@dataclass(frozen=True)
class Traced:
    """A work that was counted.

    Attributes:
        launches: what one repetition launches; of several that differ, all of them.
        peak: the most bytes that its tensors take at once.
    """

    work: Work
    launches: Sequence[Launch]
    peak: int

    @property
    def flops(self) -> float:
        """Multiplications and additions of a repetition."""
        return sum(launch.flops for launch in self.launches) / self.work.repeats

    @property
    def bytes(self) -> float:
        """Bytes that a repetition reads and writes."""
        return sum(launch.bytes for launch in self.launches) / self.work.repeats


def traced(work: Work, kind: Kind) -> Traced:
    """Count a work on a kind of device."""
    marks: list[int] = []
    with fake_device(kind) as counts:
        steps = Steps(work.repeats, lambda: marks.append(len(counts.launches)))
        with contextlib.suppress(EnoughError), contextlib.redirect_stderr(io.StringIO()):
            work.run(steps, work.images)
        launches = counts.launches[marks[0] : marks[-1]]
    return Traced(work, launches, counts.peak)
