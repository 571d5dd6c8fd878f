"""Beats of the processes of torchrun, by which the others notice that a machine is lost without a word.

A process that dies closes its connections, and the others fail at once. A machine without power or network
closes nothing: who waits for one of its processes would wait for days. So each process counts in the store,
and watches the next one. Where that is silent for long this process ends, and torchrun starts all that are
left again.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT = 10.0
"""seconds between two beats"""
PATIENCE = 300.0
"""seconds of silence after which a process is lost; one that is halted for a moment or waits for a slow disk
is not"""


def beat(store: Store, number: int, size: int) -> None:
    """Beat in a thread of this process until it ends. The thread ends first: one that the interpreter's end
    meets in a call of the store would abort the process.

    Args:
        store: torchrun's store; a connection of its own, since others may wait on theirs.
    """
    ended = threading.Event()
    arguments = (store, number, (number + 1) % size, _end)
    thread = threading.Thread(
        target=watch, args=arguments, kwargs={"ended": ended}, name="heartbeat", daemon=True
    )
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join(timeout=BEAT)

    atexit.register(stop)


def watch(
    store: Store,
    number: int,
    other: int,
    lost: Callable[[int], None],
    *,
    patience: float | None = None,
    ended: threading.Event | None = None,
) -> None:
    """Beat for one process and watch another, until that is silent, the store is gone or it is told to end.

    Args:
        store: where beats are counted.
        number: number of this process.
        other: number of the watched one.
        lost: called with ``other`` when it is silent.
        patience: seconds of silence; None: PATIENCE.
        ended: is set when the beat should end; None: nobody sets it.
    """
    patience = PATIENCE if patience is None else patience
    ended = threading.Event() if ended is None else ended
    heard, at = -1, time.monotonic()
    while not ended.is_set():
        try:
            store.add(f"beat/{number}", 1)
            now = store.add(f"beat/{other}", 0)
        except RuntimeError:  # the store went with torchrun, which ends this process too
            return
        if now != heard:
            heard, at = now, time.monotonic()
        elif time.monotonic() - at > patience:
            lost(other)
            return
        ended.wait(min(BEAT, patience / 5))


def _end(other: int) -> None:
    """End this process from a thread, whatever it waits for."""
    print(
        f"process {other} has been silent for {PATIENCE:.0f} s, so its machine is lost; torchrun starts the "
        "others again, and they continue with what is on the disk",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
