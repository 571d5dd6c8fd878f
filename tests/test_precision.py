"""Arithmetic of the networks: what a precision means on a device, and that the process's switches stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import fastdd
from fastdd.config import Recover
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.runs.pipeline import run
from fastdd.runtime import precision
from fastdd.runtime.precision import float32_products, on_device

CPU = torch.device("cpu")
Switches = dict[str, str | bool]


def switches() -> Switches:
    """What torch says of products and convolutions of float32, in its older and its newer words."""
    return {
        "products": torch.get_float32_matmul_precision(),
        "products in TF32": torch.backends.cuda.matmul.allow_tf32,
        "convolutions in TF32": torch.backends.cudnn.allow_tf32,
        "of a GPU": torch.backends.cuda.matmul.fp32_precision,
        "of a CPU": torch.backends.mkldnn.matmul.fp32_precision,
        "convolutions": torch.backends.cudnn.conv.fp32_precision,
    }


EXACT: Switches = {
    "products": "highest",
    "products in TF32": False,
    "convolutions in TF32": False,
    "of a GPU": "ieee",
    "of a CPU": "ieee",
    "convolutions": "ieee",
}
TF32: Switches = {
    **EXACT,
    "products": "high",
    "products in TF32": True,
    "convolutions in TF32": True,
    "of a GPU": "tf32",
    "convolutions": "tf32",
}


@pytest.fixture(params=["highest", "high", "medium"])
def allowed(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the process allows its products before it calls fastdd; convolutions are as torch has them."""
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")


def test_fp32_is_float32_whatever_the_process_allows_and_its_switches_stay(allowed: str) -> None:
    before = switches()
    assert before["convolutions in TF32"]
    with float32_products("fp32"):
        assert switches() == EXACT
        with float32_products("tf32"):
            assert switches() == TF32
        assert switches() == EXACT
        with float32_products("bf16"):  # what autocast leaves alone is float32
            assert switches() == EXACT
    assert switches() == before

    @float32_products("fp32")
    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert switches() == before


def test_switches_that_torch_itself_cannot_read_stay_too() -> None:
    """A process that used both ways to say it; torch raises where the older one is asked."""
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        with pytest.raises(RuntimeError):
            switches()
        with float32_products("tf32"):
            assert switches() == TF32
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cudnn.rnn.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.allow_tf32 = True


def test_auto_is_what_the_device_is_fast_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, meant in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(precision, "has_fast_bf16", lambda device, fast=fast: fast)
        assert on_device("recover.precision", "auto", CPU) == meant
        assert on_device("recover.precision", "fp32", CPU) == "fp32"


@pytest.mark.parametrize("key", ["teacher", "bank", "recover", "student"])
def test_tf32_is_refused_where_there_is_none(tmp_path: Path, tiny: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"{key}\.precision is tf32, .* device cpu has not; set .* to fp32"):
        fastdd.run(tiny, tmp_path / "run", overrides=["device=cpu", f"{key}.precision=tf32"])
    assert not (tmp_path / "run").exists()


def test_which_gpus_have_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, has in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert precision.has_tf32(torch.device("cuda", 0)) == has


class Watched(nn.Module):
    """A small network that notes the arithmetic of its products and convolutions, forward and backward."""

    seen: ClassVar[set[str]] = set()

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.convolution, self.bn = nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.convolution(x)).relu().mean((2, 3))
        self.note()
        if y.requires_grad:
            y.register_hook(lambda gradient: self.note())
        return self.linear(y)

    @staticmethod
    def note() -> None:
        Watched.seen.add(f"{switches()['of a GPU']} {switches()['convolutions']}")


def test_every_stage_computes_in_its_own_precision(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastdd.register_network("watched", Watched)
    monkeypatch.setattr(precision, "has_tf32", lambda device: True)
    torch.set_float32_matmul_precision("high")
    before = switches()
    changes = ["teacher.network=watched", "student.network=watched", "teacher.epochs=1", "method.steps=2"]
    changes += ["teacher.precision=tf32", "recover.precision=tf32", "student.precision=tf32"]
    changes += ["student.steps=2", "student.seeds=1", "student.evaluations=1", "recover.compile=false"]
    recipe = resolve(str(tiny), changes)
    recipe = recipe.recipe.model_copy(update={"arms": {"sre2l": recipe.recipe.arms["sre2l"]}})
    exact, tf32 = "ieee ieee", "tf32 tf32"
    try:
        for stage, wanted in (("squeeze", tf32), ("bank", exact), ("recover", tf32), ("evaluate", tf32)):
            Watched.seen.clear()
            run(recipe, tmp_path / "run", until=stage)
            # What is checked beforehand, and the features of the metrics, have no precision of their own.
            assert wanted in Watched.seen <= {wanted, exact}, stage
        assert switches() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_matched_gradients_are_float32_in_any_case() -> None:
    from fastdd.recover import Recovery

    def products(name: str) -> str:
        (method,) = resolve(name).recipe.arms.values()
        recovery = Recovery.__new__(Recovery)
        recovery.method, recovery.config = method, Recover(precision="tf32")
        return recovery._products

    assert (products("cifar10-dm"), products("cifar10-dc")) == ("tf32", "fp32")
