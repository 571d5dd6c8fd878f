"""Every Triton kernel compiled ahead of time for GPUs that are not there, and its binary held to a budget.

No stack and no spills, shared memory within the chip's limit, tensor-core instructions where a product is
meant for them, 16-byte loads where the memory is aligned, and no float atomics, whose order would change from
run to run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

HERE = Path(__file__).parent
SHARED = {"cuda:80": 163, "cuda:90": 227, "cuda:100": 227, "hip:gfx942": 64}  # KiB a program may have


@pytest.fixture(scope="module", params=list(SHARED))
def reports(request: pytest.FixtureRequest) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """(target, call -> a row for each kernel launched), from a process without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = [sys.executable, HERE / "aot.py", request.param]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


@pytest.mark.slow
def test_binaries_are_within_budget(reports: tuple[str, dict[str, list[dict[str, Any]]]]) -> None:
    target, rows = reports
    assert len(rows) > 20
    complaints = []
    for name, launches in rows.items():
        assert launches, f"{name} launches nothing"
        for row in launches:
            checks = {
                "stack or spills": row["spills"] == 0,
                "registers": row["registers"] <= (512 if target.startswith("hip") else 255),
                "shared memory": row["shared"] <= SHARED[target] * 1024,
                "no tensor cores": row["tensor_cores"] > 0 or "dot" not in row["kernel"],
                "no 16-byte loads": row["wide_loads"] > 0 or "odd" in name or "resample" in row["kernel"],
                "float atomics": row["float_atomics"] == 0,
            }
            complaints += [f"{name}: {check}: {row}" for check, good in checks.items() if not good]
    assert not complaints, "\n".join(complaints)
