"""``fastdd profile``: where the time of a stage goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fastdd.cli import main
from fastdd.cost.profile import PARTS, profile
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve

CPU = torch.device("cpu")
TINY = ["teacher.network=resnet8", "student.network=resnet8", "ipc=2"]


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("recover", {"forward", "statistics", "terms", "backward", "optimizer"}),
        ("students", {"augment", "forward", "terms", "backward", "optimizer"}),
        ("students resnet-soft", {"augment", "forward", "teacher's forward", "terms", "backward"}),
        ("squeeze", {"augment", "forward", "terms", "backward", "optimizer"}),
        ("bank", {"teacher's forward"}),
    ],
)
def test_each_part_of_a_stage_has_its_time(stage: str, parts: set[str], tmp_path: Path) -> None:
    recipe = resolve("digits", TINY, arms=["sre2l"]).recipe
    found = profile(recipe, stage, tmp_path / "trace.json", repetitions=2, device=CPU)
    assert parts <= found.parts.keys() <= set(PARTS)
    assert sum(found.parts.values()) == pytest.approx(found.seconds, rel=0.01)
    assert found.sentence.startswith(f"{found.stage} is bound by ")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert any(event.get("name") == "aten::convolution" for event in trace["traceEvents"])


def test_functions_are_no_longer_marked_afterwards(tmp_path: Path) -> None:
    before = torch.nn.Module.__call__, torch.Tensor.backward
    profile(resolve("digits", TINY, arms=["sre2l"]).recipe, "bank", tmp_path / "t", repetitions=1, device=CPU)
    assert (torch.nn.Module.__call__, torch.Tensor.backward) == before


def test_a_stage_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    recipe = resolve("digits", TINY, arms=["sre2l"]).recipe
    with pytest.raises(InputError, match=r"there is no stage 'recovr'.*recover sre2l"):
        profile(recipe, "recovr", tmp_path / "trace.json", device=CPU)


def test_the_command_prints_a_table_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    command = [
        "profile",
        "digits",
        "recover",
        *TINY,
        "--arms",
        "sre2l",
        "--steps",
        "1",
        "--trace",
        str(trace),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "recover sre2l, steps" in said
    assert "recover sre2l is bound by" in said
    assert trace.is_file()
