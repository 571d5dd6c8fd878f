"""`kill -9` of a real process in the middle of an expert's training, and of images that are one unit."""

from __future__ import annotations

from pathlib import Path

import pytest
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
