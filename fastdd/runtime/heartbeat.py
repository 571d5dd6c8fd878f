"""Beats of the processes of torchrun, by which the others notice that a machine is lost without a word.

A process that dies closes its connections, and the others fail at once. A machine without power or network
closes nothing: who waits for one of its processes would wait for days. So each process counts in the store,
and watches the next one. Where that is silent for long this process ends, and torchrun starts all that are
left again.
"""

from __future__ import annotations

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
    """Beat in a thread of this process until it ends.

    Args:
        store: torchrun's store; a connection of its own, since others may wait on theirs.
        number: number of this process.
        size: number of processes.
    """
    arguments = (store, number, (number + 1) % size, _end)
    threading.Thread(target=watch, args=arguments, name="heartbeat", daemon=True).start()


def watch(
    store: Store, number: int, other: int, lost: Callable[[int], None], *, patience: float | None = None
) -> None:
    """Beat for one process and watch another, until that is silent or the store is gone.

    Args:
        store: where beats are counted.
        number: number of this process.
        other: number of the watched one.
        lost: called with ``other`` when it is silent.
        patience: seconds of silence; None: PATIENCE.
    """
    patience = PATIENCE if patience is None else patience
    heard, at = -1, time.monotonic()
    while True:
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
        time.sleep(min(BEAT, patience / 5))


def _end(other: int) -> None:
    """End this process from a thread, whatever it waits for."""
    print(
        f"process {other} has been silent for {PATIENCE:.0f} s, so its machine is lost; torchrun starts the "
        "others again, and they continue with what is on the disk",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
