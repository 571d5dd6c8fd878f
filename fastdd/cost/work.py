"""A work: one repetition of a stage's real code, and how often the stage does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .steps import Steps


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
