"""Events: what a run tells while it works, and who receives it.

A stage says what it does with ``send``, wherever it stands; it knows no receiver, and without one nothing
happens. Values are those that the host reads anyway, so events make nobody wait for the device.

    begin      a stage begins
    progress   images done so far; the less often the longer the work takes
    losses     each weighted term of recover every ``log_every`` steps; a student's loss where it is read
    accuracy   a teacher's or an expert's after an epoch, a student's at each test
    images     the images of an arm are on the disk
    end        a stage ends
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["begin", "progress", "losses", "accuracy", "images", "end"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        kind: what happened; see the module.
        stage: the work that it happened in, such as ``recover deda`` or ``student deda 0``.
        step: 0-based step of losses, counted over the units of an arm; epochs or steps done, of accuracies;
            None: of other kinds.
        values: numbers by name. progress: ``done`` and ``total`` images, ``rate`` in images a second;
            losses: a value a term; accuracy: fractions, of a teacher also ``loss`` and ``lr``; images: their
            number ``images``; end: ``seconds`` and ``images`` seen.
        files: image files, of which images alone has some: one of each of the first classes.
        time: local time with its offset, such as 2026-07-01T12:00:00+0000.
    """

    kind: Kind
    stage: str
    step: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))


Receiver: TypeAlias = Callable[[Event], None]
_receivers: ContextVar[tuple[Receiver, ...]] = ContextVar("receivers", default=())
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def received_by(*receivers: Receiver) -> Iterator[None]:
    """Give the events of the block to further receivers, in their order; an error of one ends the work."""
    before = _receivers.set((*_receivers.get(), *receivers))
    try:
        yield
    finally:
        _receivers.reset(before)


@contextmanager
def in_stage(name: str) -> Iterator[None]:
    """Let the events of the block be of the work ``name``."""
    before = _stage.set(name)
    try:
        yield
    finally:
        _stage.reset(before)


def is_received() -> bool:
    """Whether anybody receives events."""
    return bool(_receivers.get())


def send(
    kind: Kind,
    *,
    step: int | None = None,
    values: Mapping[str, float] | None = None,
    files: tuple[Path, ...] = (),
) -> None:
    """Tell all receivers of something in the present stage; the arguments are those of ``Event``."""
    receivers = _receivers.get()
    if not receivers:
        return
    event = Event(kind, _stage.get(), step, values=dict(values or {}), files=files)
    for receive in receivers:
        receive(event)
