"""How long a thread of OpenMP that has no work waits awake before it sleeps.

torch splits an operation among threads of OpenMP, and a thread that finished its part spins, to be there at
once for the next one. Where other programs want the same cores, a spinning thread takes the time that the
thread it waits for needs, so that a step takes a hundred times as long. A short wait costs next to
nothing on an idle machine (``benchmarks/waiting.py`` measures it).

The runtimes read their variables when they are loaded, and torch loads one of them: so this must be said
before torch is imported. ``import fastdd`` says it, so every command, every process of torchrun, and a
program that imports fastdd before torch have it; processes that these start inherit it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

WAITING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}
"""Each runtime reads its own variable: GNU's libgomp (in torch's wheels for Linux) a number of spins, LLVM's
and Intel's (in other builds of torch) milliseconds."""

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which a user chooses the waiting; where one is set, nothing is changed."""


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep soon in a runtime that is loaded later, unless the user chose otherwise."""
    if not any(name in environment for name in _CHOICES):
        environment.update(WAITING)
