"""Benchmarks in tiny shapes: they run, and both sides of each step benchmark have the same gradient."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_both_sides_of_every_row_have_the_same_gradient(tmp_path: Path) -> None:
    result = tmp_path / "steps.json"
    command = [
        sys.executable,
        "benchmarks/steps.py",
        "--quick",
        "--forms",
        "eager",
        "--rounds",
        "1",
        "--json",
        result,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row for row in json.loads(result.read_text())["rows"]}
    assert list(rows) == ["statistics", "sre2l", "dire", "deda"]
    for row in rows.values():
        assert row["gradient error"] < 1e-4  # float32
        assert row["ratio"] > 0
        assert all(len(times["wall"]) == 1 for times in row["seconds a step"].values())


def test_the_walk_counts_the_files_that_run_for_each_stage() -> None:
    command = [sys.executable, "benchmarks/walk.py", "--files"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"^(one .*): (\d+) files, \d+ functions of fastdd; ", done.stdout, re.MULTILINE)
    assert [stage for stage, _ in counts] == ["one SRe2L unit", "one bank pass", "one student"]
    assert all(int(files) > 0 for _, files in counts)
    assert "    fastdd/recover/loop.py: " in done.stdout
    assert "    fastdd_kernels/resample.py: " in done.stdout


def test_a_step_of_dm_has_the_gradient_of_the_released_one(tmp_path: Path) -> None:
    result = tmp_path / "matching.json"
    command = [sys.executable, "benchmarks/matching.py", "--quick", "--real", "40", "--ipc", "2"]
    command += ["--rounds", "1", "--json", str(result)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(result.read_text())
    assert figures["repeatable"]
    assert figures["cosine"] > 0.99  # bf16 where it is fast
    assert figures["released over ours"] > 0


def test_works_are_timed_in_turns_and_networks_in_both_layouts(tmp_path: Path) -> None:
    commands = {
        "turns": ["moments_contiguous", "--providers", "plain", "--rounds", "2", "--seconds", "0.001"],
        "layouts": ["--networks", "resnet8:8:2", "--rounds", "2", "--device", "cpu"],
    }
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "FASTDD_BENCH_QUICK": "1",
        "FASTDD_BENCH_DEVICE": "cpu",
    }
    found = {}
    for name, arguments in commands.items():
        result = tmp_path / f"{name}.json"
        command = [sys.executable, f"benchmarks/{name}.py", *arguments, "--json", str(result)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(result.read_text())["rows"]
    (work,) = found["turns"]
    assert work["provider"] == "plain"
    assert work["over ours"] > 0
    assert len(work["rounds"]) == 2
    assert all(row["chosen"] == "channels-last" for row in found["layouts"])
