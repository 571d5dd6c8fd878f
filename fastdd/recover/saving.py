"""Finished units are encoded and written while a GPU works on the next one.

Encoding a 224-pixel image of noise as PNG takes 15 ms, and then the disk is waited for: for 1000 images as
long as a hundred steps or more. Encoders and the disk release the interpreter, so threads are enough. On a
CPU the threads would take their time from the steps, so there a unit is written before the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

import torch

from ..runtime.memory import processors

MOST_THREADS = 8
"""threads that encode; more than a disk keeps up with are of no use"""


def encoding_threads(device: torch.device) -> int:
    """Threads that encode behind the loop, for units that are optimized on a device; 0: none."""
    return 0 if device.type == "cpu" else min(MOST_THREADS, processors())


class SaveImages(Protocol):
    """Encodes and writes the images of a unit, with threads or, for None, one after another."""

    def __call__(self, *, encoders: Executor | None) -> None: ...


class UnitWriter:
    """Writes one unit at a time behind the loop; its block ends when all are on the disk.

    A failure is raised as it came, by the next ``write`` or at the end of the block, unless an error of the
    loop ends the block already. Memory: the images of two units on the host, as uint8.

    Args:
        threads: threads that encode the images of a unit; 0: ``write`` returns when the unit is written.
    """

    def __init__(self, threads: int) -> None:
        # The thread of units hands work to the encoders, so it ends before them.
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="encode") if threads else None
        self._units = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._units.shutdown()
        if self._encoders is not None:
            self._encoders.shutdown()
        if error is None:
            self._wait()

    def write(self, images: SaveImages, mark: Callable[[], None]) -> None:
        """Wait until the unit before is written, then write this one."""
        self._wait()
        if self._encoders is None:
            images(encoders=None)
            mark()
        else:
            self._pending = self._units.submit(self._write, images, mark)

    def _write(self, images: SaveImages, mark: Callable[[], None]) -> None:
        images(encoders=self._encoders)
        mark()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
