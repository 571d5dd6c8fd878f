"""What an import costs and needs: few modules, and packages that are dependencies or extras."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fastdd
import fastdd_kernels
from fastdd import recover
from fastdd.config import as_plain
from fastdd.config.yaml_text import dump_yaml
from fastdd.errors import InputError
from fastdd.runtime.files import write_text
from fastdd_kernels import product

ROOT = Path(__file__).parents[1]
PACKAGES = [Path(str(package.__file__)).parent for package in (fastdd, fastdd_kernels)]
MODULES = {
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "nvidia-dali-cuda130": "nvidia",
    "mlflow-skinny": "mlflow",
    "vendi-score": "vendi_score",
}
"""distribution -> the module that it brings, where the names differ"""


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_fastdd_imports_no_library() -> None:
    heavy = {"torch", "numpy", "pydantic", "yaml", "rich", "jinja2", "sklearn", "scipy", "torchvision", "PIL"}
    assert not loaded_after("import fastdd") & heavy


def test_importing_the_kernels_imports_no_compiler() -> None:
    assert "torch._dynamo" not in loaded_after("import fastdd_kernels")


def test_the_status_of_a_run_needs_no_torch(tmp_path: Path) -> None:
    recipe = fastdd.resolve("digits", add=["dire"])
    write_text(tmp_path / "recipe.yaml", dump_yaml(as_plain(recipe)))
    code = f"from pathlib import Path; from fastdd.runs.status import status; status(Path({str(tmp_path)!r}))"
    assert "torch" not in loaded_after(code)


def test_every_name_of_recover_is_there_when_it_is_asked_for() -> None:
    assert all(getattr(recover, name) is not None for name in recover.__all__)
    with pytest.raises(AttributeError, match="no attribute 'recovery'"):
        recover.recovery  # noqa: B018


def test_what_the_compiler_may_take_as_constant_is_marked_as_it_marks_it() -> None:
    def constant() -> int:
        return 1

    assert vars(torch.compiler.assume_constant_result(constant)) == vars(product._reduced)


def imported() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from ((alias.name.partition(".")[0], path) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    yield node.module.partition(".")[0], path


def modules_of(requirements: list[str]) -> set[str]:
    names = [re.split(r"[\s<>=;\[]", text)[0] for text in requirements]
    return {MODULES.get(name, name) for name in names}


def test_every_dependency_is_imported_and_every_import_is_a_dependency_or_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = modules_of(project["dependencies"])
    extras = {
        name: modules_of(requirements)
        for name, requirements in project["optional-dependencies"].items()
        if name not in ("dev", "docs")
    }
    used = {name for name, _ in imported()}
    assert required <= used
    # the last two are pydantic's own dependencies
    own = {"fastdd", "fastdd_kernels", *sys.stdlib_module_names, "pydantic_core", "typing_extensions"}
    assert used - own - required <= set().union(*extras.values())
    assert not {module: name for name, modules in extras.items() for module in modules & required}


def test_metrics_without_torchmetrics_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("fastdd.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(vars(fastdd), "metrics", raising=False)
    with pytest.raises(InputError, match=r"needs torchmetrics.*pip install 'fastdd\[metrics\]'"):
        _ = fastdd.metrics
