"""`kill -9` of a real process in an expert's training, in images that are one unit, in a unit of stages."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked import together
from test_run import Process, kill_when, results

import fastdd
from fastdd.cli import main
from fastdd.run_folder import RunFolder

MTT = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 256, lr: 0.1, pad: 1, flip: 0.0}
bank: {embeddings: 0}
experts: {count: 1, images_per_class: 100}
arms:
  mtt: {method: mtt, steps: 12, match: {trajectory: {steps: 3, epochs: 2, latest_start: 3}}}
recover: {checkpoint_every: 2}
"""


def test_killed_in_an_experts_epoch_and_between_checkpoints_of_a_unit_it_ends_with_the_same_bytes(
    tmp_path: Path, fastdd_process: Process, one_thread: None
) -> None:
    (tmp_path / "mtt.yaml").write_text(MTT)
    run = RunFolder(tmp_path / "killed")
    command = ("recover", tmp_path / "mtt.yaml", "--out", run.path)
    expert, state = run.experts / "00000.safetensors", run.unit_state("mtt", 0)
    partial = expert.with_suffix(".partial.safetensors")
    kill_when(fastdd_process(*command), partial)
    assert partial.is_file()
    assert not expert.is_file()
    kill_when(fastdd_process(*command), state)
    assert state.is_file()
    assert not run.units("mtt")
    process = fastdd_process(*command)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == f"recover done: {run.path}; next: fastdd evaluate {' '.join(map(str, command[1:]))}\n"
    assert not state.exists()
    fastdd.run(tmp_path / "mtt.yaml", tmp_path / "whole", until="recover")
    assert results(run.path) == results(tmp_path / "whole")


FADRM = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 256, lr: 0.1, pad: 1, flip: 0.0}
bank: {embeddings: 20}
arms:
  fadrm: {method: fadrm, steps: 60, batch: {classes: 10}, sizes: [6, 8, 6, 8]}
recover: {unit_images: 10, log_every: 10}
"""
"""two units of four stages of two sizes"""


def done_in_recover(log: Path) -> int:
    """The image-iterations of recover that a run has told of."""
    lines = log.read_text().splitlines() if log.is_file() else []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    told = [
        event["values"]["done"]
        for event in events
        if event["event"] == "progress" and event["stage"] == "recover fadrm"
    ]
    return max(told, default=0)


def test_killed_in_the_middle_of_a_unit_of_stages_it_ends_with_the_same_bytes(
    tmp_path: Path, fastdd_process: Process, one_thread: None
) -> None:
    (tmp_path / "fadrm.yaml").write_text(FADRM.replace("steps: 60", "steps: 240"))
    whole, run = tmp_path / "whole", RunFolder(tmp_path / "killed")
    fastdd.run(tmp_path / "fadrm.yaml", whole, until="bank")
    shutil.copytree(whole, run.path)
    fastdd.run(tmp_path / "fadrm.yaml", whole, until="recover")
    command = ("recover", tmp_path / "fadrm.yaml", "--out", run.path)
    process, end = fastdd_process(*command), time.monotonic() + 300
    while done_in_recover(run.log) < 3400:  # of 4800: the second unit is in its second stage or a later one
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert run.unit("fadrm", 0).is_file()
    assert not run.unit("fadrm", 1).is_file()
    process = fastdd_process(*command)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert results(run.path) == results(whole)


def test_two_processes_share_the_units_of_a_method_with_stages(tmp_path: Path, one_thread: None) -> None:
    (tmp_path / "fadrm.yaml").write_text(FADRM)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    fastdd.run(tmp_path / "fadrm.yaml", whole, until="bank")
    shutil.copytree(whole, shared)
    fastdd.run(tmp_path / "fadrm.yaml", whole, until="recover")
    together("-m", "fastdd", "recover", tmp_path / "fadrm.yaml", "--out", shared)
    assert results(shared) == results(whole)


@pytest.mark.parametrize("part", [False, True])
def test_a_stage_that_is_done_names_the_next_that_has_work(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str], part: bool
) -> None:
    out = tmp_path / "out"
    text = tiny.read_text().split("arms:")[0]
    tiny.write_text(text + "arms: {a: {method: deda}}\nstudent: {network: resnet8, labels: stored}\n")
    stage = ["bank", str(tiny), "--out", str(out), "ipc=1", "--add", "dire"]
    given = f"{tiny} ipc=1 --add dire --out {out}"
    assert main([*stage, *(["--classes", "0:4"] if part else [])]) == 0
    done = " (0:4); next, when all classes are done" if part else "; next"
    assert capsys.readouterr().out == f"bank done: {out}{done}: fastdd recover {given}\n"
    if not part:
        assert main(["recover", *stage[1:]]) == 0
        assert capsys.readouterr().out == f"recover done: {out}; next: fastdd label {given}\n"
