"""Trajectory matching: N steps of a ConvNet, and the gradient to the images that it took them on.

The adjoint keeps N weight vectors and one step's graph, unrolled autograd the graphs of N steps; so the
memory of the latter grows with N. Two numbers of steps show it. Time: 4/3 by the count of passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import trajectory_match
from fastdd_kernels.trajectory import Batch, TrajectoryMatch, trajectory_match_reference

from ...models.build import build
from ...models.flat import FlatNetwork, flattened
from ..work import Call, Goal, Scale, Side, Work

CLASSES = 10
Match = Callable[..., TrajectoryMatch]


class Trajectory(NamedTuple):
    """A student's network, where it starts and should arrive, and what it learns from."""

    network: FlatNetwork
    start: Tensor  # [P]
    target: Tensor  # [P]
    batches: list[Batch]
    lr: Tensor


def trajectory(scale: Scale, steps: int, batch: int) -> Trajectory:
    """Some steps of a random ConvNet on noise."""
    device = scale.device
    torch.manual_seed(0)
    network = build(network_of(scale)[0], CLASSES).to(device)
    side = network_of(scale)[1]
    start = flattened(network)
    labels = (torch.arange(batch) % CLASSES).to(device)
    batches = [(scale.randn(batch, 3, side, side, seed=step), labels) for step in range(steps)]
    target = start + 0.01 * scale.randn(len(start), seed=steps)
    return Trajectory(FlatNetwork(network), start, target, batches, torch.tensor(0.01, device=device))


def network_of(scale: Scale) -> tuple[str, int]:
    """Name of the network, and the side of its images in pixels."""
    return ("convnet1", 8) if scale.quick else ("convnet3", 32)


def call(match: Match) -> Callable[[Trajectory], Call]:
    def build_call(inputs: Trajectory) -> Call:
        def loss(weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(inputs.network(weights, images), labels)

        def run() -> list[Tensor]:
            found = match(loss, inputs.start, inputs.target, inputs.batches, inputs.lr)
            return [found.distance, found.lr, *found.images]

        return run

    return build_call


def truth(inputs: Trajectory) -> list[Tensor]:
    """The unrolled steps in float64."""
    double = inputs._replace(
        start=inputs.start.double(),
        target=inputs.target.double(),
        batches=[(images.double(), labels) for images, labels in inputs.batches],
        lr=inputs.lr.double(),
    )
    return call(trajectory_match_reference)(double)()


def trajectory_work(scale: Scale, steps: int, memory_share: float) -> Work[Trajectory]:
    """The distance of the last weights to the target, and the gradients of step size and images."""
    batch, (network, side) = scale.size(10, 4), network_of(scale)
    return Work(
        f"trajectory_{steps}_steps",
        f"MTT's gradient through {steps} steps of {network} on {batch} images of {side} x {side}",
        lambda: trajectory(scale, steps, batch),
        truth,
        tolerance=0.1,  # a ReLU that rounding decides changes the pixels around it; the tests have none
        goals=(Goal("time", 1.4, "unrolled"), Goal("memory", memory_share, "unrolled")),
        sides={"ours": Side(call(trajectory_match)), "unrolled": Side(call(trajectory_match_reference))},
    )


def works(scale: Scale) -> list[Work]:
    """Few steps and many."""
    return [trajectory_work(scale, 4, 0.7), trajectory_work(scale, 16, 0.25)]
