"""Count what a repetition of a work asks of a device that is not there."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .counting import Launch
from .fake_device import Kind, fake_device
from .steps import EnoughError, Steps
from .work import Work


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
    with fake_device(kind) as counts, torch.device(kind):
        steps = Steps(work.repeats, lambda: marks.append(len(counts.launches)))
        with contextlib.suppress(EnoughError), contextlib.redirect_stderr(io.StringIO()):
            work.run(steps, work.images)
        launches = counts.launches[marks[0] : marks[-1]]
    return Traced(work, launches, counts.peak)
