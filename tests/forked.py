"""Scripts as processes of their own, forked from one that has imported torch: its import is paid once.

fastdd itself is imported anew by each script, as a user's would.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PRELOADED = ["torch", "torchvision", "sklearn.datasets", "scipy.stats", "safetensors.torch", "pydantic"]


def output(
    *words: str | Path,
    folder: Path | None = None,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a script prints, with one thread.

    Args:
        words: the script and its arguments; or ``-m`` and a module, or ``-c`` and a program, and theirs.
        folder: the folder in which it runs; None: the current one.
        path: a place that is searched for modules first.
        environment: further variables.
    """
    processes = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    processes.set_forkserver_preload(PRELOADED)
    variables = {"OMP_NUM_THREADS": "1", **(environment or {})}
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("out", "err")]
        work = ([*map(str, words)], streams, folder or Path.cwd(), path, variables)
        process = processes.Process(target=_run, args=work)
        process.start()
        process.join()
        out, err = (stream.read_text() if stream.exists() else "" for stream in streams)
    assert process.exitcode == 0, err
    return out


def _run(
    words: list[str], streams: list[Path], folder: Path, path: Path | None, variables: dict[str, str]
) -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    import torch

    torch.set_num_threads(1)  # the server has loaded it before the variables are set
    os.environ |= variables
    os.chdir(folder)
    sys.path[:0] = [] if path is None else [str(path)]
    first, *rest = words
    sys.argv = [first, *rest] if first not in ("-m", "-c") else rest
    if first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(first, run_name="__main__")
