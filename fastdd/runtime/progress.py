"""Progress of long work: a bar with images/s and time left on a terminal, lines in a log file, events."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from .console import console, counted
from .distributed import is_main
from .events import in_stage, is_received, send

LINE_EVERY_SECONDS = 10.0
FIRST_EVENTS, LAST_EVENTS = 1.0, 30.0
"""seconds between two events of progress at the beginning, and at most"""


class Bar(Protocol):
    """What a stage sees of its progress bar."""

    def advance(self, images: int, note: str = "") -> None:
        """Count images (or image-iterations) as done; note is a short text such as the loss."""

    def line(self, text: str) -> None:
        """Say something that stays, such as the result of an epoch."""


class _Lines:
    """One line every ten seconds, for logs and pipes."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total, self.done = stage, total, 0
        self.start = self.last = time.perf_counter()

    def advance(self, images: int, note: str = "") -> None:
        self.done += images
        now = time.perf_counter()
        if now - self.last >= LINE_EVERY_SECONDS:
            self.last = now
            rate = self.done / (now - self.start)
            left = (self.total - self.done) / rate if rate else 0.0
            print(
                f"{self.stage}: {self.done}/{self.total} images, {rate:.0f} images/s, "
                f"{left:.0f} s left {note}",
                file=sys.stderr,
                flush=True,
            )

    def line(self, text: str) -> None:
        print(f"{self.stage}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        seconds = time.perf_counter() - self.start
        rate = self.done / max(seconds, 1e-9)
        print(
            f"{self.stage}: {counted(self.done, 'image')} in {seconds:.1f} s, {rate:.0f} images/s",
            file=sys.stderr,
            flush=True,
        )


class _Rich:
    """A live bar on a terminal."""

    def __init__(self, stage: str, total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rate]:>9} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console(stderr=True),
        )
        self.stage = stage
        self.task = self.progress.add_task(stage, total=total, rate="", note="")
        self.done, self.start = 0, time.perf_counter()
        self.progress.start()

    def advance(self, images: int, note: str = "") -> None:
        self.done += images
        rate = f"{self.done / max(time.perf_counter() - self.start, 1e-9):,.0f}"
        self.progress.update(self.task, advance=images, rate=rate, note=note)

    def line(self, text: str) -> None:
        self.progress.console.print(f"{self.stage}: {text}")

    def close(self) -> None:
        self.progress.stop()


class _Silent:
    """For a stage with nothing to count."""

    def advance(self, images: int, note: str = "") -> None:
        pass

    def line(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Told:
    """A bar whose progress is also sent as events: every second at first, then every fiftieth of its time."""

    def __init__(self, bar: _Rich | _Lines | _Silent, total: int) -> None:
        self.bar, self.total, self.done = bar, total, 0
        self.start = time.perf_counter()
        self._send(self.start)

    def advance(self, images: int, note: str = "") -> None:
        self.bar.advance(images, note)
        self.done += images
        now = time.perf_counter()
        if now >= self.next:
            self._send(now)

    def line(self, text: str) -> None:
        self.bar.line(text)

    def close(self) -> None:
        self.bar.close()
        self._send(time.perf_counter())

    def _send(self, now: float) -> None:
        seconds = now - self.start
        self.next = now + min(max(FIRST_EVENTS, seconds / 50), LAST_EVENTS)
        rate = self.done / seconds if seconds else 0.0
        send("progress", values={"done": self.done, "total": self.total, "rate": round(rate, 3)})


@contextmanager
def progress(stage: str, total: int) -> Iterator[Bar]:
    """A bar for ``total`` images of work named ``stage``, closed when the block ends; none where total is 0.

    Events of the block are of that stage. Of the processes of torchrun the first alone shows its share.
    """
    bar: _Silent | _Rich | _Lines | _Told
    if not total or not is_main():
        bar = _Silent()
    else:
        bar = _Rich(stage, total) if sys.stderr.isatty() else _Lines(stage, total)
    with in_stage(stage):
        if total and is_received():
            bar = _Told(bar, total)
        try:
            yield bar
        finally:
            bar.close()
