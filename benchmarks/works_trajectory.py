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
from works import DEVICE, QUICK, Call, Provider, Work, randn, size

from fastdd.models.build import build
from fastdd.models.flat import FlatNetwork, flattened
from fastdd_kernels import trajectory_match
from fastdd_kernels.trajectory import Batch, TrajectoryMatch, trajectory_match_reference

CLASSES = 10
Match = Callable[..., TrajectoryMatch]


class Trajectory(NamedTuple):
    """A student's network, where it starts and should arrive, and what it learns from."""

    network: FlatNetwork
    start: Tensor  # [P]
    target: Tensor  # [P]
    batches: list[Batch]
    lr: Tensor


def trajectory(steps: int, batch: int) -> Callable[[], Trajectory]:
    def inputs() -> Trajectory:
        name, side = ("convnet1", 8) if QUICK else ("convnet3", 32)
        torch.manual_seed(0)
        network = build(name, CLASSES).to(DEVICE)
        start = flattened(network)
        labels = (torch.arange(batch) % CLASSES).to(DEVICE)
        batches = [(randn(batch, 3, side, side, seed=step), labels) for step in range(steps)]
        target = start + 0.01 * randn(len(start), seed=steps)
        return Trajectory(FlatNetwork(network), start, target, batches, torch.tensor(0.01, device=DEVICE))

    return inputs


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


def trajectory_work(steps: int, memory_share: float) -> Work[Trajectory]:
    return Work(
        f"trajectory_{steps}_steps",
        trajectory(steps, size(10, 4)),
        truth,
        tolerance=0.1,  # a ReLU that rounding decides changes the pixels around it; the tests have none
        target=("unrolled", 1 / 1.4),
        memory_share=memory_share,
        providers={
            "ours": Provider(call(trajectory_match)),
            "unrolled": Provider(call(trajectory_match_reference)),
        },
    )


WORKS = [trajectory_work(4, 0.7), trajectory_work(16, 0.25)]
