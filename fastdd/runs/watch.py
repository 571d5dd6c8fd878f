"""Watch a run of another process by the files of its folder: log.jsonl, and the locks of who is at work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ..run_folder import RunFolder, require_run
from ..runtime.console import counted
from ..runtime.lock import workers

SHOWN = 4
"""accuracies and finished stages that are shown, the last ones"""


@dataclass
class Watched:
    """What the log of a run tells so far.

    Attributes:
        log: the file; ``read`` goes on where it stopped.
        stage: the stage that is being done; empty: none.
        work: what of it the progress is of, such as ``student deda 0``; empty: it has not begun.
        done, total: images, or image-iterations, of that.
        rate: images a second since it began.
        losses: the last losses of the stage, in words.
        accuracies: every accuracy that was reached, in words.
        finished: the stages that ended, and their seconds.
        news: local time of the last event; None: there was none.
    """

    log: Path
    stage: str = ""
    work: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    losses: str = ""
    accuracies: list[str] = field(default_factory=list)
    finished: list[tuple[str, float]] = field(default_factory=list)
    news: datetime | None = None
    _at: int = 0

    def read(self) -> None:
        """Take in the events that were written since; a line that is none is left out."""
        if not self.log.is_file():
            return
        with open(self.log, "rb") as file:
            file.seek(self._at)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]  # the last line may be half written
        self._at += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self._take(event["event"], event["stage"], event.get("step"), event.get("values", {}))
                self.news = datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z")
            except (ValueError, KeyError, TypeError):
                continue

    def _take(self, kind: str, stage: str, step: int | None, values: dict[str, float]) -> None:
        if kind == "begin":
            self.stage, self.work, self.losses = stage, "", ""
        elif kind == "end":
            self.stage, self.work, self.losses = "", "", ""
            self.finished.append((stage, values["seconds"]))
        elif kind == "progress":
            self.work, self.rate = stage, values["rate"]
            self.done, self.total = int(values["done"]), int(values["total"])
        elif kind == "losses":
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.losses = f"{numbers} at step {step}"
        elif kind == "accuracy":
            reached = [(name, value) for name, value in values.items() if name.startswith("accuracy")]
            told = ", ".join(f"{name} {100 * value:.1f} %" for name, value in reached)
            self.accuracies.append(f"{stage}: {told} at {step}")

    def rows(self, now: datetime) -> list[tuple[str, str]]:
        """What is shown: a heading and a text a row."""
        shown = [("stage", self.stage or "none")]
        if self.work:
            share = f" ({100 * self.done // self.total} %)" if self.total else ""
            shown.append((self.work, f"{self.done:,} of {counted(f'{self.total:,}', 'image')}{share}"))
            shown.append(("images/s", f"{self.rate:,.1f}" if self.rate else "-"))
            shown.append(("time left", self._left(now)))
        if self.losses:
            shown.append(("losses", self.losses))
        shown += [("accuracy", text) for text in self.accuracies[-SHOWN:]]
        shown += [("done", f"{name}, {seconds:,.1f} s") for name, seconds in self.finished[-SHOWN:]]
        if self.news is not None:
            shown.append(("last news", f"{self._age(now)} ago"))
        return shown

    def _left(self, now: datetime) -> str:
        if not self.rate:
            return "-"
        seconds = round((self.total - self.done) / self.rate)
        return str(max(timedelta(seconds=seconds) - self._age(now), timedelta()))

    def _age(self, now: datetime) -> timedelta:
        passed = timedelta() if self.news is None else now - self.news
        return timedelta(seconds=max(0, round(passed.total_seconds())))


def watch(
    folder: Path, every: float = 1.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[tuple[str, str]]]:
    """What a run tells, again and again until nobody is at work in its folder; the last is its end.

    Args:
        every: seconds between two looks.
        sleep: waits for seconds.

    Raises:
        InputError: there is no run, and nobody is at work.
    """
    run = RunFolder(folder)
    if not workers(folder):
        require_run(folder)
    watched = Watched(run.log)
    while True:
        busy = workers(folder)
        watched.read()
        who = [f"{each.command}, pid {each.pid} on {each.host}, since {each.since}" for each in busy]
        rows = watched.rows(datetime.now().astimezone())
        yield [*(("at work", text) for text in who or ["nobody"]), *rows]
        if not busy:
            return
        sleep(every)
