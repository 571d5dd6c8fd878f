"""Train the experts that a folder lacks, in groups, and keep each epoch of each.

The processes of torchrun take groups from one queue. A group that was killed goes on after the last epoch
that all of its experts have on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..models.flat import FlatNetwork
from ..runtime.distributed import barrier, claims, from_main, is_main
from ..runtime.events import send
from ..runtime.precision import float32_products
from ..runtime.progress import Bar, progress
from .plan import ExpertPlan
from .store import Trajectory, expert_file, partial_file, settle_plan
from .training import ExpertData, Training


def build_experts(
    folder: Path, plan: ExpertPlan, *, network: FlatNetwork, group: int, real: Callable[[], ExpertData]
) -> int:
    """Train what a folder lacks; nothing is read where it lacks nothing.

    Args:
        network: their network, on the device where they are trained.
        real: gives the real images, on that device.

    Returns:
        The images that this process trained on.

    Raises:
        InputError: the folder holds experts of another plan or a damaged file, or an expert diverges.
    """
    if is_main():
        settle_plan(folder, plan)
    barrier()
    groups = [range(first, min(first + group, plan.experts)) for first in range(0, plan.experts, group)]
    left = from_main(
        lambda: [each for each in groups if not all(expert_file(folder, k).is_file() for k in each)]
    )
    if not left:
        return 0
    training = Training(plan, network, real())
    images = len(training.real.images)
    total = sum(len(each) * (plan.epochs - _done(folder, each)) for each in left) * images
    trained = 0
    with progress("experts", total) as bar, float32_products(plan.precision):
        for number in claims("experts", len(left)):
            trained += _train_group(folder, left[number], training, bar) * images
    barrier()
    return trained


def _done(folder: Path, experts: range) -> int:
    """The last epoch that all experts of a group have on disk."""
    return max(0, min(len(Trajectory.open(folder, k).weights) for k in experts) - 1)


def _train_group(folder: Path, experts: range, training: Training, bar: Bar) -> int:
    """Train a group to its end; returns the epochs that were done, summed over its experts."""
    lacking = [k for k in experts if not expert_file(folder, k).is_file()]
    known = [Trajectory.open(folder, k) for k in experts]
    if not all(each.weights for each in known):
        known = [Trajectory([], []) for _ in experts]
        initial = training.initial(experts)
        for each, row, accuracy in zip(known, initial, training.accuracy(initial, experts, 0), strict=True):
            each.add(row, accuracy)
    done = min(len(each.weights) for each in known) - 1
    known = [Trajectory(each.weights[: done + 1], each.accuracy[: done + 1]) for each in known]
    weights = torch.stack([each.weights[-1] for each in known]).to(training.device)
    for epoch in range(done + 1, training.plan.epochs + 1):
        weights = training.epoch(weights, experts, epoch, bar)
        reached = training.accuracy(weights, experts, epoch)
        for k, each, row, accuracy in zip(experts, known, weights, reached, strict=True):
            each.add(row, accuracy)
            if k in lacking:
                each.save(partial_file(folder, k))
        mean = sum(each.accuracy[-1] for each in known) / len(known)
        whose = f"expert {experts[0]}" if len(experts) == 1 else f"experts {experts[0]} to {experts[-1]}"
        send("accuracy", step=epoch, values={f"accuracy of {whose}": mean})
        bar.line(f"{whose}, epoch {epoch}/{training.plan.epochs}: test {mean:.2%}")
    for k in lacking:
        partial_file(folder, k).replace(expert_file(folder, k))
    return (training.plan.epochs - done) * len(experts)
