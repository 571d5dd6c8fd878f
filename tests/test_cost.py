"""What a recover step would launch and move on a GPU, held to what it has come down to; needs no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kernel_checks import randn
from torch import nn

from fastdd.cost.counting import Counting
from fastdd.cost.fake_device import gradients
from fastdd_kernels import dire_loss, frozen_batch_norm, resample, resample_parameters

pytest.importorskip("triton", reason="Triton is not installed")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BOUNDS = {
    "sre2l-resnet18-32": (165, 1.6),
    "sre2l-resnet18-224": (170, 66.0),
    "all-resnet18-224": (536, 71.0),
    "all-resnet50-224": (709, 316.0),
}
"""case of benchmarks/cost.py -> launches and GB of a step's gradient; they only ever come down"""
Found = dict[str, dict[str, Any]]
"""case -> the tool's sums of the gradient and of the update, and how often the host waits"""
MINUTES = 83
"""of 1000 x 50 images of ImageNet-1K, 4000 steps of SRe2L, on one H200 as the tool prices it"""
UPDATE = (3, 3.7)
"""launches and GB of the optimizer and the clipping, 1000 images of 224 x 224"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the tool finds, in a process without Triton's interpreter."""
    result = tmp_path_factory.mktemp("cost") / "cost.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, BENCHMARKS / "cost.py", "--cases", ",".join(BOUNDS), "--rows", "0"]
    done = subprocess.run(
        [*command, "--json", result], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cases: Found = json.loads(result.read_text())
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("case", BOUNDS)
def test_a_step_launches_and_moves_no_more_than_it_did(found: Found, case: str) -> None:
    launches, gigabytes = BOUNDS[case]
    gradient, update = found[case]["gradient"], found[case]["update"]
    assert 100 < gradient["launches"] <= launches
    assert gradient["gigabytes"] <= gigabytes
    assert 0 < update["launches"] <= UPDATE[0]
    assert update["gigabytes"] <= UPDATE[1]
    assert found[case]["waits"] == 0


def test_operations_are_those_of_the_networks(found: Found) -> None:
    """A ResNet-18 takes 1.81 billion multiply-adds forward and as many for the gradient of its images."""
    assert found["sre2l-resnet18-224"]["gradient"]["teraflops"] == pytest.approx(4 * 1.814, rel=0.01)


def test_imagenet_takes_no_longer_than_it_did(found: Found) -> None:
    assert 32 < found["sre2l-resnet18-224"]["minutes"] <= MINUTES  # convolutions alone take 32


def test_the_gradient_that_is_counted_is_that_of_torch() -> None:
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
    ones, real = torch.ones(4), randn(2, 5, 4, dtype=torch.float32)
    drawn = resample_parameters(2, 8, 8, generator=torch.Generator().manual_seed(0))

    def loss(images: torch.Tensor) -> torch.Tensor:
        x = F.relu(first(resample(images, drawn)), inplace=True)
        y, mean, mean_square = frozen_batch_norm(second(x), ones, None, 0 * ones, running_var=ones)
        y += x  # in place on what a function returned
        embedding = F.relu(y, inplace=True).mean((2, 3))
        statistics = mean.square().sum() + mean_square[:, :2].sum()
        return last(embedding).square().sum() + statistics + dire_loss(embedding.view(2, 3, 4), real)

    images = randn(6, 3, 8, 8, dtype=torch.float32).requires_grad_()
    (wanted,) = torch.autograd.grad(loss(images), images)
    counting = Counting()
    with counting:
        found = gradients(counting, [loss(images)], [None])
    torch.testing.assert_close(found[images], wanted)


def test_gradients_of_gradients_are_those_of_torch() -> None:
    """As gradient matching and trajectories ask for them: of weights that are no leaves, then of images."""
    torch.manual_seed(0)
    network, start = nn.Conv2d(3, 4, 3), randn(4, 3, 3, 3, dtype=torch.float32).requires_grad_()
    images = randn(2, 3, 8, 8, dtype=torch.float32).requires_grad_()

    def found(grad: Callable[..., Sequence[torch.Tensor]]) -> list[torch.Tensor]:
        weights = 2 * start
        loss = F.relu(F.conv2d(images, weights, network.bias)).square().mean()
        (moved,) = grad([loss], [weights], differentiable=True)
        return [moved, *grad([(moved - 1).square().sum()], [images, start], differentiable=False)]

    def ours(
        outputs: list[torch.Tensor], inputs: list[torch.Tensor], *, differentiable: bool
    ) -> list[torch.Tensor]:
        by_tensor = gradients(counting, outputs, [None], inputs, differentiable=differentiable)
        return [by_tensor[each] for each in inputs]

    def torchs(
        outputs: list[torch.Tensor], inputs: list[torch.Tensor], *, differentiable: bool
    ) -> Sequence[torch.Tensor]:
        return torch.autograd.grad(outputs, inputs, create_graph=differentiable)

    counting = Counting()
    with counting:
        counted = found(ours)
    for mine, wanted in zip(counted, found(torchs), strict=True):
        torch.testing.assert_close(mine, wanted)


def test_an_output_may_be_a_leaf() -> None:
    images, upstream = randn(2, 3).requires_grad_(), randn(2, 3)
    assert torch.equal(gradients(Counting(), [images], [upstream])[images], upstream)
