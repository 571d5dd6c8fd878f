"""Trackers that are files of the run folder: log.jsonl and log.csv."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

from pydantic import JsonValue

from ..runtime.events import Event
from ..runtime.files import append_line

LOSSES_EVERY = 1.0
"""seconds between two lines of losses of one stage in log.jsonl; the files of units hold all of recover's"""


class JsonLines:
    """One line of JSON an event: time, stage, event, and where it has some step, values and files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event.kind == "losses":
            now = time.monotonic()
            if now - self._told.get(event.stage, float("-inf")) < LOSSES_EVERY:
                return
            self._told[event.stage] = now
        line: dict[str, JsonValue] = {"time": event.time, "stage": event.stage, "event": event.kind}
        if event.step is not None:
            line["step"] = event.step
        if event.values:
            line["values"] = dict(event.values)
        append_line(self.path, json.dumps(line))


class Csv:
    """A row a value: time, stage, event, step, name, value; an event without values has one row."""

    HEAD = ("time", "stage", "event", "step", "name", "value")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            append_line(path, _row(*self.HEAD))

    def __call__(self, event: Event) -> None:
        step = "" if event.step is None else event.step
        values: dict[str, float | str] = {**event.values} or {"": ""}
        rows = (_row(event.time, event.stage, event.kind, step, *each) for each in values.items())
        append_line(self.path, "\n".join(rows))

    def close(self, *, failed: bool) -> None:
        """Nothing is open between two events."""


def _row(*cells: float | str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
