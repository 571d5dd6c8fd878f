"""Programs as processes of their own, forked from servers that have imported torch: its import is paid once.

A script imports fastdd anew, as a user's would; ``fastdd`` the command is forked from a server that has
imported fastdd as well. All have one thread. What depends on how an interpreter starts (the locale, Triton's
interpreter) needs a process that is started as usual.

python tests/forked.py MODULE ...        a server, which imports the modules first
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

PRELOADED = (
    "torch",
    "torchvision.transforms.v2",
    "sklearn.datasets",
    "scipy.stats",
    "safetensors.torch",
    "pydantic",
)
COMMAND = (*PRELOADED, "fastdd.cli", "fastdd.runs.pipeline", "flat_map")


class Program:
    """A process that a server forked, with what ``subprocess.Popen`` offers of one."""

    def __init__(self, server: subprocess.Popen[str], request: Mapping[str, object]) -> None:
        self._server, self._folder = server, tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("out", "err")]
        self.returncode: int | None = None
        self.pid: int = self._ask({"streams": [*map(str, self._streams)], **request})

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None: it still runs."""
        if self.returncode is None:
            self.returncode = self._ask(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it wrote to its output and its errors, when it has ended."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked program", timeout)
            time.sleep(0.01)
        out, err = (stream.read_text() if stream.exists() else "" for stream in self._streams)
        return out, err

    def _ask(self, request: object) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: int = json.loads(self._server.stdout.readline())
        return answer


def start(
    *words: str | Path,
    folder: Path | None = None,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    modules: tuple[str, ...] = COMMAND,
) -> Program:
    """Start a program with one thread.

    Args:
        words: the script and its arguments; or ``-m`` and a module, or ``-c`` and a program, and theirs.
        folder: the folder in which it runs; None: the current one.
        path: a place that is searched for modules first.
        environment: further variables.
        modules: what the server has imported that it is forked from.
    """
    request = {
        "words": [*map(str, words)],
        "folder": str(folder or Path.cwd()),
        "path": None if path is None else str(path),
        "variables": {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
    }
    return Program(_server(modules), request)


def output(
    *words: str | Path,
    folder: Path | None = None,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a script prints, which imports fastdd anew; the arguments are those of ``start``."""
    program = start(*words, folder=folder, path=path, environment=environment, modules=PRELOADED)
    out, err = program.communicate(timeout=600)
    assert program.returncode == 0, err
    return out


def together(*words: str | Path, processes: int = 2) -> str:
    """Run a program in several processes that find one another as those of torchrun do.

    Args:
        words: see ``start``.
        processes: their number.

    Returns:
        What they wrote to their errors.
    """
    from torch.distributed import TCPStore

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # which outlives them
    count = str(processes)
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "none"}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    programs = [
        start(*words, environment={**shared, "RANK": str(number), "LOCAL_RANK": str(number)})
        for number in range(processes)
    ]
    while None in (found := [program.poll() for program in programs]) and not any(found):
        time.sleep(0.01)
    for program in programs:
        if program.poll() is None:  # another has failed
            program.send_signal(9)
    errors = "".join(program.communicate()[1] for program in programs)
    assert found == [0] * processes, errors
    return errors


# -- the server ------------------------------------------------------------------------------------


@cache
def _server(modules: tuple[str, ...]) -> subprocess.Popen[str]:
    """A server, which ends with this process."""
    return subprocess.Popen(
        [sys.executable, __file__, *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def main() -> None:
    """Answer each line of the input: a program by its process, which runs it and ends; a process by its exit
    status."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in sys.argv[1:]:
        import_module(module)
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        if isinstance(asked, int):
            ended, status = os.waitpid(asked, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif not (answer := os.fork()):
            answers.close()
            return _run(**asked)
        print(json.dumps(answer), file=answers, flush=True)
    return None


def _run(
    words: list[str], streams: list[str], folder: str, path: str | None, variables: dict[str, str]
) -> None:
    for number, name in enumerate((os.devnull, *streams)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    first, *rest = words
    is_script = first not in ("-m", "-c")
    sys.path[0] = str(Path(first).parent) if is_script else folder
    sys.path[:0] = [] if path is None else [path]
    sys.argv = words if is_script else rest
    if is_script:
        runpy.run_path(first, run_name="__main__")
    elif first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
