"""House rules that a machine can check: nothing is unpickled, and the kernels stand alone."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_checks import interpreter_takes

ROOT = Path(__file__).parents[1]


def test_nothing_is_unpickled() -> None:
    sources = [path for package in ("fastdd", "kernels") for path in (ROOT / package).rglob("*.py")]
    assert len(sources) > 40
    for path in sources:
        lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}: {line}"
            assert "torch.load(" not in line or "weights_only=True" in line, where
            assert not re.match(
                r" *(import|from) (c?pickle|dill|joblib|cloudpickle|shelve|marshal)\b", line
            ), where
            assert "yaml.load(" not in line or "Loader=_Loader" in line, where
            assert "allow_pickle=True" not in line, where


@pytest.mark.parametrize("triton", [True, False])
def test_the_kernels_stand_alone(triton: bool) -> None:
    program = (
        "import sys\n"
        + ("" if triton else "sys.modules['triton'] = None\n")
        + "import torch, fastdd_kernels as k\n"
        "x = torch.rand(2, 3, 4, requires_grad=True)\n"
        "k.dire_loss(x, torch.rand(2, 5, 4)).backward()\n"
        "k.spatial_moments(torch.rand(2, 3, 4, 4))\n"
        "k.coverage(torch.rand(9, 4), torch.rand(5, 4), 2)\n"
        "k.resample(torch.rand(2, 3, 4, 4), k.resample_parameters(1, 4, 4))\n"
        "assert x.grad.isfinite().all()\n"
        "above = ('fastdd', 'torchvision', 'nvidia.dali')\n"
        "assert not [m for m in sys.modules if m in above or m.startswith(tuple(a + '.' for a in above))]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_tests_of_the_kernels_need_little() -> None:
    """A machine with a GPU may have torch and pytest alone: each test file is collected there."""
    absent = ("prdc", "vendi_score", "pydantic", "nvidia.dali", "hypothesis", "timm", "pyarrow", "fastdd")
    program = (
        "import sys, pytest\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "sys.exit(pytest.main(['--collect-only', '-q', 'tests/kernels']))\n"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_and_functions_that_docstrings_name_exist() -> None:
    """``loading/crops.py``, and ``models.outline`` or ``views.fkd_orders``, seen from the file or from the
    package."""
    absent, looked = [], 0
    for file in sorted((ROOT / "fastdd").rglob("*.py")):
        near = [file.parent, ROOT / "fastdd", ROOT / "kernels"]
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            for name in re.findall(r"(?<![\w./])((?:\w+/)*\w+\.py)\b", text):
                looked += 1
                if not any((folder / name).is_file() for folder in (*near, ROOT)):
                    absent += [(str(file), name)] * (not list((ROOT / "fastdd").rglob(name)))
            for folder, module, name in re.findall(r"(?<![\w./])([a-z_]+)\.([a-z_]+)\.(\w+)\b(?!/)", text):
                source = ROOT / "fastdd" / folder / f"{module}.py"
                if source.is_file():
                    looked += 1
                    defined = re.search(rf"^(?:def|class) {name}\b|^{name}\b", source.read_text(), re.M)
                    absent += [(str(file), f"{folder}.{module}.{name}")] * (not defined)
    assert not absent
    assert looked > 100


def test_where_tritons_interpreter_works() -> None:
    assert not interpreter_takes(numpy="2.5.0", triton="3.6.0")
    assert interpreter_takes(numpy="2.3.5", triton="3.6.0")
    assert interpreter_takes(numpy="2.4.6", triton="3.8.0+git1")
    assert interpreter_takes(numpy="2.5.0rc1", triton="3.10.0")
