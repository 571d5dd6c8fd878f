"""Layers that a term or the bank cannot use are refused before any work, with the recipe's key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import Tensor, nn

from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.runs.experiment import check

RECIPE = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: "layer_checks:NETWORK", mean: [0.305], std: [0.376]}
arms: {mine: {method: sre2l, steps: 2}}
student: {network: resnet8, steps: 2, batch: 10}
metrics: {full_set: false}
"""


class BasicBlock(nn.Sequential):
    """One block by the name of torchvision's."""


class Net(nn.Module):
    """A network with one BatchNorm, one block and modules that its forward pass never calls."""

    def __init__(self, num_classes: int = 10, *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = BasicBlock(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4) if norm is None else norm)
        self.un = nn.Conv2d(4, 4, 1)
        self.answer = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.answer(self.trunk(x).mean((2, 3)))
        return logits


class NeedsValues(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else x + 1)


class SpareNorm(Net):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.spare = nn.BatchNorm2d(4)


def plain(num_classes: int = 10) -> nn.Module:
    return Net(num_classes)


def values(num_classes: int = 10) -> nn.Module:
    return NeedsValues(num_classes)


def spare(num_classes: int = 10) -> nn.Module:
    return SpareNorm(num_classes)


def untracked(num_classes: int = 10) -> nn.Module:
    return Net(num_classes, norm=nn.BatchNorm2d(4, track_running_stats=False))


def without(num_classes: int = 10) -> nn.Module:
    return Net(num_classes, norm=nn.Identity())


def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, *overrides: str) -> None:
    monkeypatch.setitem(sys.modules, "layer_checks", sys.modules[__name__])
    file = tmp_path / "own.yaml"
    file.write_text(RECIPE.replace("NETWORK", network))
    check(resolve(str(file), overrides).recipe, tmp_path / "out")


@pytest.mark.parametrize(
    ("network", "overrides", "expected"),
    [
        (
            "plain",
            ["arms.mine.terms.gaussian.layers=bn_inputs"],
            r"^arms\.mine\.terms\.gaussian\.layers: Net has one layer of the kind bn_inputs, and the last .*"
            r"; choose module paths, such as \['trunk\.\*'\]",
        ),
        (
            "plain",
            ["arms.mine.terms.gaussian.layers=blocks"],
            r"^arms\.mine\.terms\.gaussian\.layers: Net has one layer of the kind blocks",
        ),
        (
            "plain",
            ["arms.mine.terms.gaussian.layers=stages"],
            r"^arms\.mine\.terms\.gaussian\.layers: Net has no stages",
        ),
        (
            "plain",
            ["arms.mine.terms.gaussian.layers=[un]"],
            r"^arms\.mine\.terms\.gaussian\.layers: the module un of Net takes no part in its forward pass",
        ),
        (
            "plain",
            ["arms.mine.terms.gaussian.layers=[unn]"],
            r"^arms\.mine\.terms\.gaussian\.layers: 'unn' matches no module of Net",
        ),
        ("spare", [], r"^arms\.mine\.terms\.bn: the module spare of SpareNorm takes no part"),
        ("untracked", [], r"^arms\.mine\.terms\.bn: the BatchNorm trunk\.1 has track_running_stats=False"),
        ("without", [], r"^arms\.mine\.terms\.bn: Net has no BatchNorm2d layers.* set it to null"),
        (
            "without",
            ["arms.mine.terms.bn=null", "bank.class_bn=true"],
            r"^bank\.class_bn: Net has no BatchNorm2d layers",
        ),
        ("plain", ["bank.layers=[stages]"], r"^bank\.layers: Net has no stages"),
    ],
)
def test_layers_that_cannot_be_used_are_refused_with_their_key(
    network: str, overrides: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=expected):
        checked(tmp_path, monkeypatch, network, *overrides)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("network", ["plain", "values"])
def test_layers_that_can_be_used_pass(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked(tmp_path, monkeypatch, network, "arms.mine.terms.gaussian.layers=[trunk.0]")
