"""Several processes and several jobs: the same bytes as one process gives, whoever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_run import results

import fastdd
from fastdd.errors import InputError
from fastdd.runs.status import status
from fastdd.runtime.files import remove_leftovers

Process = Callable[..., "subprocess.Popen[str]"]


def torchrun(*arguments: str | Path, restarts: int = 0) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        str(restarts),
        "-m",
        "fastdd",
        *map(str, arguments),
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def test_two_processes_give_the_bytes_of_one(finished: Path, tmp_path: Path) -> None:
    wait(torchrun("run", finished.parent / "tiny.yaml", "--out", tmp_path / "out"))
    assert results(tmp_path / "out") == results(finished)


def workers(launcher: int) -> list[int]:
    """Processes that torchrun has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == launcher:
            found.append(int(stat.parent.name))
    return sorted(found)


def test_a_rank_that_dies_is_started_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for name in ("images", "recover", "labels", "students"):
        shutil.rmtree(out / name)
    for name in ("embeddings.safetensors", "metrics.json", "report.html"):
        (out / name).unlink()
    process = torchrun("run", finished.parent / "tiny.yaml", "--out", out, restarts=2)
    first = out / "recover" / "random" / "unit_00000.json"
    end = time.monotonic() + 120
    while not first.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    wait(process)
    remove_leftovers(out)
    assert results(out) == results(finished)


def test_jobs_share_a_run_folder(finished: Path, tmp_path: Path, fastdd_process: Process) -> None:
    out, recipe = tmp_path / "out", finished.parent / "tiny.yaml"
    for command, part in (("bank", "--classes=4:10"), ("bank", "--classes=0:4"), ("recover", "--units=1:3")):
        wait(fastdd_process(command, recipe, "--out", out, part))
    rows = {row.stage: (row.done, row.total) for row in status(out)}
    assert rows["bank"] == (10, 10)
    assert rows["recover deda"] == (2, 3)
    assert rows["recover random"] == (0, 1)
    assert rows["students deda"] == (0, 2)
    wait(fastdd_process("run", recipe, "--out", out))
    assert results(out) == results(finished)
    assert all(row.done == row.total for row in status(out))


def test_parts_and_folders_that_are_none(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes 5:11 are not within the 10 classes 0:10"):
        fastdd.run(tiny, tmp_path / "out", until="bank", part=range(5, 11))
    with pytest.raises(
        InputError, match="a part is one of the bank's classes or recover's units; until is 'label'"
    ):
        fastdd.run(tiny, tmp_path / "other", until="label", part=range(1))
    with pytest.raises(InputError, match="is no run folder"):
        status(tmp_path)
