"""A file that names a function, a teacher's card or a run's recipe, never makes fastdd import or call it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from run_folders import begin_with
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.evaluate import teacher_features
from fastdd.models import doors
from fastdd.models.doors import give_object
from fastdd.run_folder import RunFolder
from fastdd.teachers import open_teacher
from fastdd.teachers.card import METADATA_KEY

CPU = torch.device("cpu")
FUNCTION = "their_nets:make"
SOURCE = """\
from pathlib import Path
from fastdd.models.build import build

Path("MARK").touch()

def make(num_classes, channels):
    return build("resnet8", num_classes, channels)
"""
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that the module their_nets, of the current directory, writes when it is imported."""
    (tmp_path / "their_nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path / "MARK"
    sys.modules.pop("their_nets", None)


def name_network(path: Path, network: str) -> None:
    """Write another network into a teacher's card."""
    with safe_open(str(path), framework="pt") as file:
        card = json.loads(file.metadata()[METADATA_KEY])
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(card | {"network": network})})


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A stranger's run, whose teacher's card and recipe name a function for teacher and student."""
    folder = Path(shutil.copytree(finished, tmp_path / "theirs"))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    for section in ("teacher", "student"):
        recipe[section]["network"] = FUNCTION
    begin_with(RunFolder(folder), recipe)
    name_network(folder / "teacher.safetensors", FUNCTION)
    return folder


TEACHER = "--teacher-network their_nets:make"
STUDENT = "--student their_nets:make"
OWN_STUDENT = "--student resnet8"
OWN_TEACHER = "--teacher-network resnet8"
ONE_STUDENT = "--arm deda --no-full-set --no-control --seeds 1 steps=1"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate theirs --arm deda", TEACHER),
        (f"evaluate theirs --arm deda {OWN_STUDENT}", TEACHER),
        (f"evaluate theirs --arm deda {OWN_TEACHER}", STUDENT),
        (f"evaluate theirs --arm deda steps=1 {OWN_TEACHER}", STUDENT),
        (f"evaluate anybodys --teacher theirs/teacher.safetensors --data digits {OWN_STUDENT}", TEACHER),
        ("robust theirs --arm deda", TEACHER),
        (f"robust theirs --arm deda {OWN_TEACHER}", STUDENT),
        ("metrics theirs --arm deda", TEACHER),
        ("metrics anybodys --real digits --teacher theirs/teacher.safetensors", TEACHER),
    ],
)
def test_a_command_names_the_option_and_calls_nothing(
    run: Path, mark: Path, command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run / "images" / "deda", "anybodys")
    assert main(command.split()) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"names the function {FUNCTION}, and a function is called only where you name it yourself" in said
    assert said.endswith(f"add {option}")
    assert not mark.exists()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("squeeze tiny.yaml --out new teacher.weights=theirs/teacher.safetensors", 2),
        ("squeeze tiny.yaml --out new teacher.init=theirs/teacher.safetensors", 2),
        ("run tiny.yaml --out new teacher.weights=theirs/teacher.safetensors", 2),
        ("label tiny.yaml --out new teacher.weights=theirs/teacher.safetensors", 2),
        ("evaluate tiny.yaml --out new teacher.weights=theirs/teacher.safetensors", 2),
        ("run tiny.yaml --out theirs", 2),
        ("status theirs", 0),
        ("report theirs", 0),
        ("export theirs --arm deda --to imagefolder --out exported", 0),
    ],
)
def test_no_other_command_calls_what_a_file_names(
    mark: Path, tiny: Path, command: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == status, capsys.readouterr().err
    assert tiny.exists()
    assert not mark.exists()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "command",
    [
        f"evaluate theirs {ONE_STUDENT} {TEACHER} {STUDENT}",
        f"evaluate theirs {ONE_STUDENT} {TEACHER} network={FUNCTION}",
        f"metrics theirs --arm deda {TEACHER}",
    ],
)
def test_a_function_is_called_where_the_user_names_it(mark: Path, command: str) -> None:
    assert main(command.split()) == 0
    assert mark.exists()


def test_the_data_root_of_a_run_is_no_reason_to_call_a_function(
    finished: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "theirs"))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    for root in (FUNCTION, f"function:{FUNCTION}"):
        recipe["data"]["root"] = root
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        for command in ("evaluate", "robust", "metrics"):
            assert main([command, "theirs", "--arm", "deda"]) == 2
            assert "called only where you ask for it" in capsys.readouterr().err
        for command in ("status theirs", "report theirs"):
            assert main(command.split()) == 0
        assert not mark.exists()


def test_from_python_the_network_is_an_argument(run: Path, mark: Path) -> None:
    path = run / "teacher.safetensors"
    for open_one in (open_teacher, teacher_features):
        with pytest.raises(InputError, match=r"^--teacher: the card of .* names the function"):
            open_one(path, CPU)
    assert not mark.exists()
    assert open_teacher(path, CPU, network="resnet8").card.network == "resnet8"
    assert not mark.exists()
    assert open_teacher(path, CPU, network=FUNCTION).card.network == FUNCTION
    assert mark.exists()
    with pytest.raises(InputError, match=r"is no resnet20"):
        open_teacher(path, CPU, network="resnet20")


def test_an_object_is_not_built_from_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "_GIVEN", {})
    name = give_object("student", lambda: pytest.fail("the object of this process was called"))
    path = run / "teacher.safetensors"
    name_network(path, name)
    with pytest.raises(
        InputError,
        match=r"names object:student\.lambda, an object that was given to fastdd\.run, which cannot be built "
        r"from its name; name a function that builds it: --teacher-network package\.module:function$",
    ):
        open_teacher(path, CPU)
    assert open_teacher(path, CPU, network="resnet8").card.classes == tuple("0123456789")


def test_networks_of_torchvision_and_timm_need_no_option() -> None:
    for network in ("resnet18", "torchvision:resnet18", "timm:resnet18"):
        doors.check_recorded_network(network, "the card", "--teacher-network")
