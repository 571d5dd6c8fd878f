"""``fastdd doctor``, ``schema`` and ``completion``: what helps before there is a run."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import torch

from fastdd.cli import main
from fastdd.config.sources import Sourced, parse_recipe
from fastdd.recipes.schema import recipe_schema
from fastdd.runtime import doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that take no time."""
    monkeypatch.setattr(doctor, "COMPILE", "print('0.1 s')")
    monkeypatch.setattr(doctor, "TRITON", "print('ran')")


def test_doctor_tells_what_is_there(quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--out", str(tmp_path / "not/there")]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert {"fastdd", "torch", "triton", "GPU", "threads", "memory", "disk"} <= found.keys()
    assert found["torch.compile"] == {"name": "torch.compile", "state": "ok", "text": "0.1 s", "remedy": ""}
    assert found["disk"]["text"].endswith(f"free at {tmp_path}")


@pytest.mark.usefixtures("quick")
def test_what_does_not_work_is_a_fault_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "COMPILE", "raise RuntimeError('no compiler')")
    monkeypatch.setattr(doctor, "TRITON", "import os; os.abort()")
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "absent-package"))
    monkeypatch.setattr(doctor, "OPTIONAL", {"other-package": ("pip install other-package", "nothing")})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert main(["doctor", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "RuntimeError: no compiler" in told
    assert "torch.compile: recover.compile=false" in told
    assert "ended with -6" in told
    assert "absent-package: pip install --upgrade fastdd" in told
    assert "other-package: pip install other-package" in told
    assert "export OMP_NUM_THREADS=" in told


@pytest.mark.usefixtures("quick")
def test_a_file_in_the_place_of_the_folder_of_runs_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    found = {each.name: each for each in doctor.examine(tmp_path / "runs")}
    assert (found["disk"].state, found["disk"].text) == ("fault", f"{tmp_path / 'runs'} is a file")


def test_every_command_that_adds_something_names_an_extra_that_has_it() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for package, (command, _) in doctor.OPTIONAL.items():
        extra = re.fullmatch(r"pip install 'fastdd\[(\w+)\]'", command)
        if extra is None:
            assert command == f"pip install {package}"
        else:
            assert any(each.startswith(package) for each in project["optional-dependencies"][extra[1]])


def test_a_trial_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "COMPILE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "TRITON", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "LONGEST", 0.2)
    last = doctor.examine(tmp_path)[-1]
    assert (last.state, last.text) == ("absent", "not known: the trial took longer than 0.2 s")


@pytest.mark.slow
def test_a_kernel_really_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LONGEST", 300.0)
    started = doctor._start(doctor.TRITON)
    assert isinstance(started, subprocess.Popen)
    _, error = started.communicate(timeout=300)
    assert started.returncode == 0, error


def unknown_keys(value: object, schema: object, whole: dict[str, object], path: str = "") -> list[str]:
    """Keys of a recipe that a schema does not know."""
    if isinstance(value, Sourced):
        value = value.value
    if not isinstance(schema, dict):
        return []
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]  # type: ignore[index]
    choices = schema.get("anyOf", [])
    if choices:
        return min((unknown_keys(value, each, whole, path) for each in choices), key=len)
    if not isinstance(value, dict):
        return [path] if schema.get("type") == "null" and value is not None else []
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    if schema.get("type") != "object":
        return [path]
    found = []
    for key, each in value.items():
        if key not in known and rest is False:
            found.append(f"{path}.{key}")
        else:
            found += unknown_keys(each, known.get(key, rest), whole, f"{path}.{key}")
    return found


def test_the_schema_knows_every_key_of_the_recipes_that_are_there() -> None:
    whole = recipe_schema()
    folder = resources.files("fastdd.recipes")
    texts = (folder / "all.yaml").read_text().split("\n---\n")
    recipes = {text.partition("name: ")[2].split()[0]: parse_recipe(text, "all.yaml") for text in texts}
    together = folder / "datasets" / "all.yaml"
    recipes |= parse_recipe(together.read_text(), together.name)
    assert len(recipes) > 15
    for name, content in recipes.items():
        assert unknown_keys(content, whole, whole) == [], name
    assert unknown_keys({"teacher": {"netwrk": "resnet8"}}, whole, whole) == [".teacher.netwrk"]
    wrong = {"arms": {"a": {"method": "deda", "terms": {"gausian": {}}}}}
    assert unknown_keys(wrong, whole, whole) == [".arms.a.terms.gausian"]


def test_the_schema_says_what_keys_mean_and_which_words_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    parts = schema["$defs"]
    assert parts["Teacher"]["properties"]["epochs"]["description"] == "passes over the training images"
    assert parts["Teacher"]["properties"]["epochs"]["default"] == 30
    assert {"deda", "sre2l", "dire"} <= set(parts["Arm"]["properties"]["method"]["enum"])
    assert "cosine" in parts["Teacher"]["properties"]["schedule"]["enum"]
    assert "cifar10" in schema["properties"]["dataset"]["anyOf"][0]["enum"]
    assert "sre2l-cifar" in json.dumps(parts["Student"]["properties"]["protocol"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "doctor" in script
    assert "download" in script
