"""The files by which people and services know a repository: their syntax, and that they fit the package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no workflows")


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_each_file_follows_the_schema_of_its_kind(schema: str, pattern: str) -> None:
    pytest.importorskip("check_jsonschema")
    paths = sorted(ROOT.glob(pattern))
    assert paths
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def steps() -> Iterator[tuple[Path, dict[str, str]]]:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                yield path, step


def test_workflows_run_the_scripts_that_anybody_runs() -> None:
    ran = [(path, step["run"]) for path, step in steps() if "run" in step]
    called = set()
    for path, command in ran:
        script = re.match(r"\.ci/\w+", command)
        assert script or command.startswith(("pip install -e", "test -f ")), f"{path}: {command}"
        if script:
            called.add(script[0])
    assert called == {".ci/run", ".ci/tests", ".ci/wheel", ".ci/docs"}
    assert all(os.access(path, os.X_OK) for path in ROOT.glob(".ci/*") if path.suffix != ".txt")


def test_actions_are_pinned_to_a_commit_with_its_version_beside_it() -> None:
    used = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 10
    for line in used:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_only_publishing_may_write_and_without_a_secret() -> None:
    for path in WORKFLOWS:
        text = path.read_text()
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}, path
        assert "secrets." not in text, path


def test_the_tested_versions_of_python_are_those_that_the_package_names() -> None:
    named = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    matrix = yaml.safe_load((GITHUB / "workflows/tests.yml").read_text())["jobs"]["tests"]["strategy"][
        "matrix"
    ]
    assert set(matrix["python"]) == named
    assert PROJECT["requires-python"] == f">={min(named, key=lambda text: int(text[2:]))}"


def test_the_oldest_tested_versions_are_the_oldest_allowed() -> None:
    bounds = dict(text.split(">=") for text in PROJECT["dependencies"] if ">=" in text)
    lines = (ROOT / ".ci/oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert pins == {name: f"{v if '.' in v else v + '.0'}.*" for name, v in bounds.items()}
