"""Several processes and several jobs: the same bytes as one process gives, whoever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Program, together
from test_run import results

import fastdd
from fastdd import resolve
from fastdd.config import FULL
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder, Session
from fastdd.run_folder.results import Manifest
from fastdd.runs import student_stage
from fastdd.runs.experiment import check
from fastdd.runs.run import Run
from fastdd.runs.status import status
from fastdd.runs.student_stage import Job, longest_first
from fastdd.runtime.files import remove_leftovers

Process = Callable[..., Program]


def wait(process: Program | subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def squeezed(finished: Path, out: Path) -> Path:
    """A copy of a finished run that has nothing but its teacher."""
    shutil.copytree(finished, out)
    for name in ("bank", "images", "recover", "students"):
        shutil.rmtree(out / name)
    for name in ("embeddings.safetensors", "metrics.json", "report.html"):
        (out / name).unlink()
    return out


def test_two_processes_give_the_bytes_of_one(finished: Path, tmp_path: Path) -> None:
    out = squeezed(finished, tmp_path / "out")
    together("-m", "fastdd", "run", finished.parent / "tiny.yaml", "--out", out)
    assert results(out) == results(finished)


LABELLED = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, flip: 0.0}
bank: {embeddings: 0}
method: {steps: 2}
arms: {sre2l: {method: sre2l}}
labels: LABELS
student: {network: convnet1, steps: 4, pad: 1, seeds: 2, labels: stored}
students: {deep: {network: resnet8, steps: 2, pad: 1, seeds: 1, labels: stored}}
metrics: {full_set: false}
"""
"""students learn from labels by view, in two files, or by image"""


@pytest.mark.parametrize(
    ("processes", "how"),
    [(2, "{per: view, epochs: 200}"), pytest.param(3, "{per: image}", marks=pytest.mark.slow)],
)
def test_labels_and_students_have_the_same_bytes_whoever_made_them(
    tmp_path: Path, one_thread: None, processes: int, how: str
) -> None:
    recipe, whole, shared = tmp_path / "labelled.yaml", tmp_path / "whole", tmp_path / "shared"
    recipe.write_text(LABELLED.replace("LABELS", how))
    fastdd.run(recipe, whole, until="squeeze")
    shutil.copytree(whole, shared)
    fastdd.run(recipe, whole)
    together("-m", "fastdd", "run", recipe, "--out", shared, processes=processes)
    assert results(shared) == results(whole)


def test_the_longest_students_come_first_where_processes_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labelled.yaml").write_text(LABELLED.replace("LABELS", "{}"))
    experiment = check(resolve(str(tmp_path / "labelled.yaml")), tmp_path / "out")
    run = Run(experiment, Session(RunFolder(tmp_path / "out"), Manifest.model_construct()))
    jobs = [Job("", "random", 0), Job("", FULL, 1), Job("deep", "sre2l", 0), Job("deep", FULL, 0)]
    assert longest_first(run, jobs) == jobs
    monkeypatch.setattr(student_stage, "world_size", lambda: 2)
    assert longest_first(run, jobs) == [*jobs[2:], *jobs[:2]]


HOST = """
import os, sys
from pathlib import Path
from fastdd.errors import InputError
from fastdd.runtime import distributed
distributed.DELAY = 0.3
folder = Path(sys.argv[1], sys.argv[2].replace("RANK", os.environ["RANK"]))
folder.mkdir(parents=True, exist_ok=True)
if distributed.is_main():
    (folder / "manifest.json").write_text("written by process 0")
try:
    distributed.require_shared(folder / "manifest.json", Path.read_bytes)
    text = "shared"
except InputError as error:
    text = str(error)
Path(sys.argv[1], "said-" + os.environ["RANK"]).write_text(text)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "shared"), [("out", True), ("host-RANK", False)])
def test_a_folder_that_hosts_do_not_share_is_one_line_in_every_process(
    tmp_path: Path, folder: str, shared: bool
) -> None:
    (tmp_path / "host.py").write_text(HOST)
    together(tmp_path / "host.py", tmp_path, folder)
    for number in range(2):
        said = (tmp_path / f"said-{number}").read_text()
        if shared:
            assert said == "shared"
        else:
            assert said.startswith(f"process 1 on {socket.gethostname()} does not see what process 0 on ")
            assert "choose one with --out on a file system that all hosts share" in said


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


@pytest.mark.slow
def test_a_rank_that_dies_is_started_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for name in ("images", "recover", "students"):
        shutil.rmtree(out / name)
    for name in ("embeddings.safetensors", "metrics.json", "report.html"):
        (out / name).unlink()
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "2"]
    command = [sys.executable, "-m", *launcher, "-m", "fastdd", "run", finished.parent / "tiny.yaml"]
    process = subprocess.Popen(
        [*command, "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    first = out / "recover" / "random" / "unit_00000.json"
    end = time.monotonic() + 120
    while not first.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(workers(process.pid)[-1], signal.SIGKILL)
    wait(process)
    remove_leftovers([out])
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
