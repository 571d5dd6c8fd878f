"""The examples run as a user would run them, and do what they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_own_loop_brings_every_term_down() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_loop.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [int(step) for step, _ in lines] == [0, 50, 100, 150, 199]
    first, last = (ast.literal_eval(lines[i][1]) for i in (0, -1))
    assert last["cross-entropy"] < 0.1 * first["cross-entropy"]
    assert last["BatchNorm"] < first["BatchNorm"]
    assert last["DiRe"] < first["DiRe"]
