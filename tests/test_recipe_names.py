"""Misspelt names of devices, networks and weights are refused by every command that takes a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.teachers.recipe_names import check_names

NAMES = {
    "device=cud": "device 'cud' is unknown (did you mean 'cuda'?)",
    "device=gpu": "device 'gpu' is unknown (did you mean 'cuda'?)",
    "device=CPU": "device 'CPU' is unknown; use auto, cpu, cuda or cuda:N",
    "teacher.network=resnt20": "teacher.network: unknown network 'resnt20' (did you mean 'resnet20'?)",
    "teacher.network=torchvision:resnt18": "torchvision has no classification model 'resnt18'",
    "teacher.network=tim:resnet18": "no package 'tim' for tim:resnet18 (did you mean 'timm'?)",
    "student.network=convnt3": "student.network: unknown network 'convnt3' (did you mean 'convnet3'?)",
    "student.network=my-lab:net": "student.network: there is no package 'my-lab' for my-lab:net",
    "students.convnet-soft.network=convnt": "students.convnet-soft.network: unknown network 'convnt'",
    "arms.dm.match.networks.network=convet3": "arms.dm.match.networks.network: unknown network 'convet3'",
    "teacher.weights=torchvison:IMAGENET1K_V1": "(did you mean 'torchvision:IMAGENET1K_V1'?)",
    "teacher.init=torchvision:IMAGENET1K_V1": "teacher.init: torchvision:IMAGENET1K_V1 are weights of",
}
"""an override of the recipe digits -> what the message has"""
COMMANDS = ("show", "run", "estimate", "profile", "slurm", "score")


@pytest.mark.parametrize("override", NAMES)
def test_a_misspelt_name_is_refused_with_its_key_and_the_nearest_known_one(override: str) -> None:
    with pytest.raises(InputError) as refused:
        check_names(resolve("digits", [override]).recipe)
    assert NAMES[override] in str(refused.value)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_alike_and_before_any_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for override in ("device=cud", "teacher.network=resnt20"):
        assert main([command, "digits", override]) == 2
        assert NAMES[override] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_refuses_the_last_of_its_points_before_it_downloads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "digits", "--grid", "student.network=resnet8,resnt8", "--out", str(tmp_path / "out")]
    assert main([*words, "--download"]) == 2
    assert "student.network: unknown network 'resnt8' (did you mean 'resnet8'?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        "device=cuda:3",
        "student.network=convnet",
        "student.network=vit",
        "student.network=resnet18",
        "teacher.network=object:teacher.Net",
        "teacher.weights=weights of mine.pth",
    ],
)
def test_names_that_only_a_run_can_judge_are_left_to_it(override: str) -> None:
    check_names(resolve("digits", [override]).recipe)


def test_showing_a_recipe_imports_no_code_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_network_of_somebody.py").write_text("raise SystemExit('this was executed')")
    monkeypatch.chdir(tmp_path)
    check_names(resolve("digits", ["student.network=a_network_of_somebody:net"]).recipe)
