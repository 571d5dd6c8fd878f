"""Idle threads of OpenMP sleep soon, beside other programs too, unless the user says otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from fastdd.runtime.threads import WAITING, wait_briefly

CHOICES = [
    {"GOMP_SPINCOUNT": "77"},
    {"OMP_WAIT_POLICY": "active"},
    {"KMP_BLOCKTIME": "200"},
    {"KMP_LIBRARY": "turnaround"},
]


def environment_of(program: str, **variables: str) -> str:
    """What OpenMP says of itself when a new process runs a program in which torch is loaded."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "OMP_DISPLAY_ENV": "VERBOSE", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_the_waiting_is_set_where_no_variable_of_it_is() -> None:
    environment = {"OMP_NUM_THREADS": "2"}
    wait_briefly(environment)
    assert environment == {"OMP_NUM_THREADS": "2", **WAITING}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_users_value_is_kept(choice: dict[str, str]) -> None:
    environment = dict(choice)
    wait_briefly(environment)
    assert environment == choice


COMMAND = "from fastdd.cli import main; main(['data', 'check', 'digits'])"


@pytest.mark.slow
@pytest.mark.parametrize("program", [COMMAND, "import fastdd, torch"])
@pytest.mark.parametrize("chosen", [None, "77"])
def test_the_runtime_that_torch_loads_has_read_it(program: str, chosen: str | None) -> None:
    said = environment_of(program, **({} if chosen is None else {"GOMP_SPINCOUNT": chosen}))
    counts = set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said))
    if not counts:
        pytest.skip("torch has loaded another runtime than libgomp")
    assert counts == {WAITING["GOMP_SPINCOUNT"] if chosen is None else chosen}
