"""SECURITY.md: the tests that it names exist, and the source has no call that its promises rule out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastdd
import fastdd_kernels

ROOT = Path(__file__).parents[1]
PACKAGES = [Path(str(package.__file__)).parent for package in (fastdd, fastdd_kernels)]
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "runpy",
    "subprocess",
    "pty",
    "urllib",
    "http",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "huggingface_hub",
    "ssl",
}
"""modules that the package does not import"""
ALLOWED = {
    "teachers/released.py": {"huggingface_hub"},
    "runtime/hub.py": {"urllib", "huggingface_hub"},
    "runtime/doctor.py": {"subprocess"},
}
"""file -> modules that it may import: two download where --download asks for it, of which one sends where
--push does, and one tries the compilers"""
CALLS = {
    "eval",
    "exec",
    "__import__",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
}
CALLS |= {"np.load", "numpy.load", "torch.hub.load", "socket.create_connection", "socket.socket"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert re.search(rf"^def {test}\(" if test else "^def test_", (ROOT / file).read_text(), re.M), test


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_call_that_a_promise_rules_out(package: Path) -> None:
    for path in package.rglob("*.py"):
        name = str(path.relative_to(package))
        ruled_out = MODULES - ALLOWED.get(name, set())
        assert not {module.split(".")[0] for module in imported(path)} & ruled_out, name
        for call, node in calls(path):
            assert call not in CALLS, f"{name}: {call}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if call == "torch.load":
                assert name == "runtime/torch_files.py", name
                assert given["weights_only"] == "True"
            assert given.get("allow_pickle", "False") == "False", name
            assert given.get("pretrained", "False") == "False", name
            assert given.get("shell", "False") == "False", name
