"""Open the trackers of a run, feed them while it works, and close them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

from ..config import Recipe
from ..errors import InputError
from ..run_folder import RunFolder
from ..runtime.distributed import is_main
from ..runtime.events import Event, Receiver, received_by
from .files import Csv, JsonLines
from .services import MLflow, TensorBoard, WeightsAndBiases


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
