"""Trackers: where the events of a run go (runtime/events.py).

log.jsonl gets them always. What the recipe's ``log`` names gets them too: a table in the run folder, or a
service, whose package is imported only then. None of them changes a result.

Scalars of services have the name ``STAGE/NAME``, such as ``recover deda/gaussian``. A run that is continued
goes on in the same place.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from pydantic import JsonValue

from .config import Recipe, as_plain
from .config.yaml_text import dump_yaml
from .errors import InputError
from .run_folder import RunFolder, read, write
from .run_folder.reading import Record
from .runtime.distributed import is_main
from .runtime.events import Event, Receiver, received_by
from .runtime.files import append_line

__all__ = ["Tracker", "require_trackers", "tracked"]

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


PROJECT = "fastdd"
"""W&B's project and MLflow's experiment, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names another"""


class TrackedRun(Record):
    """What a service calls a run."""

    id: str
    """its name there"""


def scalars(event: Event) -> Mapping[str, float]:
    """What of an event is drawn as curves: losses, accuracies, images/s and seconds, by name."""
    values = event.values
    if event.kind == "progress":
        return {f"{event.stage}/images per second": values["rate"]} if values["done"] else {}
    if event.kind == "end":
        return {f"{event.stage}/seconds": values["seconds"]}
    if event.kind in ("losses", "accuracy"):
        return {f"{event.stage}/{name}": value for name, value in values.items()}
    return {}


def place(event: Event) -> int:
    """Where an event lies across: its step, or the images done so far."""
    return int(event.values.get("done", 0)) if event.step is None else event.step


class TensorBoard:
    """Event files in the run folder; `tensorboard --logdir RUN/tensorboard` shows them."""

    def __init__(self, folder: RunFolder) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder.tensorboard))

    def __call__(self, event: Event) -> None:
        for name, value in scalars(event).items():
            self.writer.add_scalar(name, value, place(event))
        if event.files:
            pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in event.files])
            self.writer.add_images(f"{event.stage}/images", pictures, place(event), dataformats="NHWC")
        if event.kind == "end":
            self.writer.flush()

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self.writer.close()


class WeightsAndBiases:
    """A run of W&B, which has the recipe's name and values."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        import wandb

        noted = folder.wandb / "run.json"
        known = read(noted, TrackedRun).id if noted.is_file() else None
        self.image = wandb.Image
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=recipe.name,
            config=as_plain(recipe),
            dir=str(folder.path),
            id=known,
            resume="allow",
        )
        self.stages: set[str] = set()
        if known is None:
            write(noted, TrackedRun(id=self.run.id))

    def __call__(self, event: Event) -> None:
        step = f"{event.stage}/step"
        if event.stage not in self.stages:  # each stage counts its own steps
            self.stages.add(event.stage)
            self.run.define_metric(f"{event.stage}/*", step_metric=step)
        if found := scalars(event):
            self.run.log({**found, step: place(event)})
        if event.files:
            pictures = [self.image(str(file), caption=file.parent.name) for file in event.files]
            self.run.log({f"{event.stage}/images": pictures})

    def close(self, *, failed: bool) -> None:
        """Send what is left."""
        self.run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow, which has the recipe as an artifact; the server is that of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self.client, self.metric = MlflowClient(), Metric
        if folder.mlflow.is_file():
            self.run = read(folder.mlflow, TrackedRun).id
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if known is None else known.experiment_id
        self.run = self.client.create_run(experiment, run_name=recipe.name).info.run_id
        self.client.log_text(self.run, dump_yaml(as_plain(recipe)), "recipe.yaml")
        write(folder.mlflow, TrackedRun(id=self.run))

    def __call__(self, event: Event) -> None:
        now, step = round(1000 * time.time()), place(event)
        found = [self.metric(_mlflow_name(name), value, now, step) for name, value in scalars(event).items()]
        if found:
            self.client.log_batch(self.run, metrics=found)
        for file in event.files:
            self.client.log_artifact(self.run, str(file), f"{_mlflow_name(event.stage)}/{file.parent.name}")

    def close(self, *, failed: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


def _mlflow_name(name: str) -> str:
    """A name in the letters that MLflow takes; ``sre2l+dire`` becomes ``sre2l_dire``."""
    return re.sub(r"[^\w\-. /]", "_", name)


class Tracker(Protocol):
    """Something that keeps or shows events, from its opening to ``close``."""

    def __call__(self, event: Event) -> None:
        """Take an event."""

    def close(self, *, failed: bool) -> None:
        """Finish; failed: an error or a signal ends the run."""


OPENERS: dict[str, Callable[[RunFolder, Recipe], Tracker]] = {
    "csv": lambda folder, recipe: Csv(folder.csv),
    "tensorboard": lambda folder, recipe: TensorBoard(folder),
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
"""each word of ``log`` and what opens its tracker"""
PACKAGES = ("tensorboard", "wandb", "mlflow")
"""words of ``log`` that are packages, and extras of fastdd"""


def require_trackers(recipe: Recipe) -> None:
    """Refuse a tracker that is not installed; no package is imported."""
    for name in recipe.log:
        if name in PACKAGES and find_spec(name) is None:
            raise InputError(
                f"log: {name} is not installed; pip install 'fastdd[{name}]', or leave it out of log"
            )


@contextmanager
def tracked(folder: RunFolder, recipe: Recipe, on_event: Receiver | None = None) -> Iterator[None]:
    """Give the events of the block to log.jsonl, to the recipe's trackers and to a function of the user's.

    Only the main process of torchrun tracks.

    Args:
        on_event: is called last, with each event; an error that it raises ends the run.

    Raises:
        InputError: a tracker cannot be opened.
    """
    if not is_main():
        yield
        return
    opened: list[_Guarded] = []
    failed = True
    try:
        for name in dict.fromkeys(recipe.log):
            opened.append(_opened(name, folder, recipe))
        own = () if on_event is None else (on_event,)
        with received_by(JsonLines(folder.log), *opened, *own):
            yield
        failed = False
    finally:
        for each in opened:
            each.close(failed=failed)


def _opened(name: str, folder: RunFolder, recipe: Recipe) -> _Guarded:
    try:
        return _Guarded(name, OPENERS[name](folder, recipe))
    except Exception as error:  # whatever a service and its settings answer
        raise InputError(
            f"log: {name} cannot be opened: {_said(error)}; check it, or leave it out of log"
        ) from error


class _Guarded:
    """A tracker that is left out from its first error on, since no service is worth a run."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self.works = True

    def __call__(self, event: Event) -> None:
        if self.works:
            self._try(lambda: self.tracker(event))

    def close(self, *, failed: bool) -> None:
        if self.works:
            self._try(lambda: self.tracker.close(failed=failed))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.works = False
            print(f"log: {self.name} failed, the run goes on without it: {_said(error)}", file=sys.stderr)


def _said(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
