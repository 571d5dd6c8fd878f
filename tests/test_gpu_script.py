"""benchmarks/gpu.sh without a GPU: what it would run, how long, and what it says of what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks/gpu.sh"
SECONDS = {"tests": 180, "bench": 480, "results": 540}


def started(*arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHON": sys.executable, **{k: str(v) for k, v in environment.items()}}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_it_is_a_shell_script() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0


@pytest.mark.parametrize("mode", SECONDS)
def test_a_mode_ends_within_its_minutes(mode: str) -> None:
    done = started(mode, "--dry-run", DATA="cifar10.tar.xz")
    assert done.returncode == 0, done.stderr
    lines = [re.fullmatch(r" *(\d+) s  (.+)", line) for line in done.stdout.splitlines()]
    planned = [(int(line[1]), line[2]) for line in lines if line]
    # ten seconds until a command that was interrupted is killed, and ten to look at the machine
    assert sum(seconds for seconds, _ in planned) + 20 <= SECONDS[mode]
    assert len(planned) == {"tests": 1, "bench": 4, "results": 2}[mode]
    for _, command in planned:
        assert all(
            (ROOT / file).exists() for file in re.findall(r"(?:tests|benchmarks)/[\w./]+\.py", command)
        )
        assert "<gpu>" not in command or mode != "tests"


def test_compiled_sides_come_last() -> None:
    lines = [line for line in started("bench", "--dry-run").stdout.splitlines() if " bench " in line]
    assert ["--no-compiled" in line for line in lines] == [True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to do: tests, bench or results"),
        (("all",), "say what to do: tests, bench or results"),
        (("tests", "--fast"), "unknown option --fast; there is --dry-run"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = started(*arguments)
    assert (done.returncode, done.stderr) == (2, f"benchmarks/gpu.sh: {message}\n")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("mode", SECONDS)
def test_without_a_gpu_it_says_so_in_one_line(mode: str, tmp_path: Path) -> None:
    done = started(mode, OUT=tmp_path)
    wanted = f"benchmarks/gpu.sh: needs a CUDA GPU that the torch of {sys.executable} can use\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", wanted)
    assert not list(tmp_path.iterdir())
    absent = started(mode, PYTHON="/no/python")
    assert absent.stderr == "benchmarks/gpu.sh: there is no /no/python; name one with PYTHON=...\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Python with a GPU that lacks the package ``tiny``; what it should run it only names."""
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in
"-W ignore -") if grep -q is_available; then echo NVIDIA_Fake; fi ;;
*needs.py*) {sys.executable} -c "import tiny" 2>/dev/null || echo tiny ;;
"-m pip"*) exec {sys.executable} "$@" ;;
*) echo "ran $*" ;;
esac
"""
    )
    python.chmod(0o755)
    return python


def test_what_is_missing_is_told_before_anything_runs(machine: Path, tmp_path: Path) -> None:
    done = started("tests", PYTHON=machine, OUT=tmp_path / "out")
    wanted = "benchmarks/gpu.sh: tests needs tiny; give a folder of their wheels with WHEELS=...\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", wanted)
    (tmp_path / "wheels").mkdir()
    done = started("tests", PYTHON=machine, OUT=tmp_path / "out", WHEELS=tmp_path / "wheels")
    assert done.returncode == 2
    assert done.stderr.endswith(f"benchmarks/gpu.sh: {tmp_path}/wheels lacks one of: tiny\n")
    assert "ran" not in done.stdout


def test_packages_come_from_a_folder_of_wheels(machine: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            "tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    done = started("tests", PYTHON=machine, OUT=tmp_path / "out", WHEELS=wheels)
    assert done.returncode == 0, done.stderr
    assert "ran -m pytest tests/kernels" in done.stdout
    assert "ran -m pytest tests/kernels" in (tmp_path / "out/NVIDIA_Fake/tests.log").read_text()


def test_the_list_of_packages_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import needs

    for mode, packages in needs.MODES.items():
        assert needs.missing(mode) == []  # nothing, where the tests run
        wanted = {"fastdd"} if mode != "tests" else set()
        dependencies = {
            name for package in wanted | set(packages) - {"torch", "py-cpuinfo"} for name in required(package)
        }
        assert dependencies - {*needs.NEWER.values(), "py-cpuinfo2"} <= {*packages}, mode


def required(package: str) -> set[str]:
    """Names of the packages that one depends on everywhere, as its metadata says."""
    if package == "fastdd":
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    else:
        declared = requires(package) or []
    names = [re.split(r"[^\w.-]", text)[0] for text in declared if ";" not in text]
    return {name.lower().replace("_", "-") for name in names}
