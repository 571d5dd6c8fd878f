"""Runs with networks of the user's own: modules and builders as objects, functions named in a recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from forked import Program
from safetensors.torch import load_file
from torch import Tensor, nn

import fastdd
from fastdd.errors import InputError
from fastdd.models import doors

RECIPE = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376]}
arms: {sre2l: {method: sre2l, steps: 2}}
student: {network: resnet8, steps: 2, batch: 10, pad: 1, flip: 0.0, seeds: 2, evaluations: 1}
metrics: {full_set: false}
"""


class Net(nn.Module):
    """A small network whose last layer has no special name, for images of 8 x 8."""

    def __init__(self, num_classes: int = 10, width: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.answer = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.trunk(x).mean((2, 3)))


def net(seed: int = 0, **arguments: int) -> Net:
    torch.manual_seed(seed)
    return Net(**arguments)


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(doors, "_GIVEN", {})
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    sys.modules.pop("my_nets", None)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(RECIPE)
    return tmp_path / "own.yaml"


def test_a_run_with_a_given_teacher_and_student(recipe: Path, tmp_path: Path) -> None:
    out, teacher, student = tmp_path / "out", net(), net(7, width=4)
    fastdd.run(recipe, out, until="recover", teacher=teacher, student=student)
    found = fastdd.run(recipe, out, teacher=teacher, student=student)  # continued
    kept = load_file(out / "teacher.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())
    assert not (out / "squeeze.json").exists()
    written = yaml.safe_load((out / "recipe.yaml").read_text())
    assert [written[key]["network"] for key in ("teacher", "student")] == [
        "object:teacher.Net",
        "object:student.Net",
    ]
    results = json.loads((out / "metrics.json").read_text())
    assert results["teacher"]["network"] == "object:teacher.Net"
    assert 0 <= results["teacher"]["accuracy"] <= 1
    assert (out / "report.html").is_file()
    assert found.path == out
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())

    with pytest.raises(
        InputError, match=r"made with another teacher: trunk\.0\.weight differs; give the same"
    ):
        fastdd.run(recipe, out, teacher=net(1), student=student)
    with pytest.raises(InputError, match=r"made from another student network"):
        fastdd.run(recipe, out, teacher=teacher, student=net(7))
    with pytest.raises(
        InputError, match=r"another recipe \(teacher\.network: object:teacher\.Net there, resnet8 "
    ):
        fastdd.run(recipe, out)


def test_another_process_is_told_to_give_the_object_again(
    recipe: Path, tmp_path: Path, fastdd_process: Callable[..., Program]
) -> None:
    out = tmp_path / "out"
    fastdd.run(recipe, out, until="squeeze", teacher=net())
    process = fastdd_process("run", out / "recipe.yaml", "--out", out)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    said = " ".join(err.split())
    assert (
        "teacher.network: object:teacher.Net was given to fastdd.run as an object by another process" in said
    )
    assert "Traceback" not in err


def test_functions_named_in_a_recipe(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """\
from torch import nn

def make(num_classes, channels):
    stem = [nn.Conv2d(channels, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(8, num_classes))
"""
    (tmp_path / "my_nets.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    overrides = ["teacher.network=my_nets:make", "student.network=my_nets:make", "teacher.epochs=1"]
    found = fastdd.run(recipe, tmp_path / "out", overrides)
    assert found.path == tmp_path / "out"
    curve = json.loads((tmp_path / "out" / "squeeze.json").read_text())["epochs"]
    assert len(curve) == 1
    with pytest.raises(
        InputError, match=r"^student\.network: my_nets .* has no function 'maek' \(did you mean"
    ):
        fastdd.run(recipe, tmp_path / "new", [*overrides, "student.network=my_nets:maek"])
    assert not (tmp_path / "new").exists()


def test_what_is_refused_before_any_work(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"^teacher\.network: object:teacher\.Net returns float32 \[2, 7\]"):
        fastdd.run(recipe, out, teacher=net(num_classes=7))
    with pytest.raises(InputError, match=r"^teacher\.network: .* has no nn\.Linear"):
        fastdd.run(recipe, out, teacher=nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()))
    with pytest.raises(InputError, match=r"^student\.network: .* returns a tuple in eval mode"):
        fastdd.run(recipe, out, teacher=net(), student=lambda: Tupled())
    committee = "committee: {big: {network: 'nowhere_to_be.found:net', mean: [0.305], std: [0.376]}}\n"
    recipe.write_text(RECIPE + committee)
    with pytest.raises(InputError, match=r"^committee\.big\.network: there is no package .nowhere_to_be"):
        fastdd.run(recipe, out)
    recipe.write_text(RECIPE)
    with pytest.raises(
        InputError, match=r"teacher\.weights is t\.safetensors, but the module .* brings its own"
    ):
        fastdd.run(recipe, out, ["teacher.weights=t.safetensors"], teacher=net())
    assert not out.exists()


class Tupled(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = super().forward(x)
        return logits, logits


class NeedsValues(Net):
    """A network whose code needs values, which the meta device lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > -1e9 else super().forward(-x)


def test_a_teacher_whose_code_needs_values_runs(recipe: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fastdd.run(recipe, tmp_path / "out", until="recover", teacher=NeedsValues())


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class ReadsHead(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.answer.weight.sum()


def _with_nan() -> Net:
    module = net()
    module.trunk[0].weight.data[0, 0, 0, 0] = float("nan")
    return module


class NanLogits(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * float("nan")


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        (
            net().half(),
            r"has a tensor 'trunk\.0\.weight' of float16, expected float32; convert it with \.float",
        ),
        (net().double(), r"of float64, expected float32"),
        (torch.jit.script(net()), r"is compiled by torch\.jit"),
        (InPlace(), r"InPlace changes its images in place"),
        (ReadsHead(), r"ReadsHead fails when its layers are recorded \(AttributeError: .*'weight'"),
        (_with_nan(), r"the tensor trunk\.0\.weight holds NaN"),
        (NanLogits(), r"the logits are NaN for 2 of 2 real images"),
    ],
)
def test_a_teacher_that_could_not_serve_is_refused_before_any_work(
    recipe: Path, tmp_path: Path, teacher: nn.Module, expected: str
) -> None:
    with pytest.raises(InputError, match=rf"^teacher\.network: .*{expected}") as refusal:
        fastdd.run(recipe, tmp_path / "out", teacher=teacher)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_tied_weights_are_kept_and_loaded(recipe: Path, tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.Linear(64, 10)
    )
    module[3].weight = module[1].weight
    kept = fastdd.run(
        recipe, tmp_path / "out", ["method.terms.bn=null"], until="squeeze", teacher=module
    ).path
    state = load_file(kept / "teacher.safetensors")
    assert torch.equal(state["1.weight"], state["3.weight"])
