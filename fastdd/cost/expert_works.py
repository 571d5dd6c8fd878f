"""The work of experts: steps of their training, and what an arm needs of them where they are not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..config import Match, TrajectoryMatch
from ..experts import (
    TEST_IMAGES,
    ExpertBuffer,
    ExpertData,
    ExpertPlan,
    Training,
    epochs_to_keep,
    experts_together,
    reach_of,
)
from ..models.build import build
from ..models.flat import FlatNetwork, flattened
from ..models.pooling import pool_in_pairs
from ..recover import TrajectorySignal
from .subject import Subject
from .work import Steps, Work


def expert_works(subject: Subject, device: torch.device) -> Iterator[Work]:
    """The training of the experts that arms follow, where the run trains them."""
    plan, config = expert_plan(subject), subject.recipe.experts
    if plan is None:
        return
    together = min(experts_together(config, device), plan.experts)
    tested = min(TEST_IMAGES, subject.sizes.test)

    def training(images: int) -> Training:
        def black(count: int) -> tuple[Tensor, Tensor]:
            size = (count, *subject.sizes.shape)
            labels = torch.zeros(count, dtype=torch.int64, device=device)
            return torch.zeros(size, dtype=torch.uint8, device=device), labels

        return Training(plan, _network(subject, device), ExpertData(*black(images), *black(tested)))

    def train(steps: Steps, images: int) -> None:
        each = max(1, images // together)
        found, experts = training(each), range(together)
        weights = found.initial(experts)
        while True:
            weights = found.epoch(weights, experts, 1, steps)

    def test(steps: Steps, images: int) -> None:
        found = training(1)
        (weights,) = found.initial(range(1))
        for _ in steps.feed(None):
            found.accuracy(weights[None], range(1), 1)

    each = plan.images_per_class
    learned = subject.sizes.train if each is None else min(each * plan.classes, subject.sizes.train)
    batch, groups = min(plan.batch, learned), -(-plan.experts // together)
    rounds = plan.epochs * -(-learned // batch)
    yield Work(
        "experts", "training", batch * together, groups * rounds, train, pieces=groups, fewest=together
    )
    times = plan.experts * (plan.epochs + 1)
    yield Work("experts", "tests", tested, times, test, pieces=groups, fewest=tested)


def expert_bytes(subject: Subject) -> int:
    """Bytes of the experts that a run trains: all weights after each epoch."""
    plan = expert_plan(subject)
    if plan is None:
        return 0
    weights = sum(each.numel() for each in build(plan.network, plan.classes, plan.shape[0]).parameters())
    return weights * torch.float32.itemsize * plan.experts * (plan.epochs + 1)


def expert_plan(subject: Subject) -> ExpertPlan | None:
    """The experts that a run trains; None: it trains none."""
    followed, config, teacher = _followed(subject), subject.recipe.experts, subject.recipe.teacher
    if not followed or config.path is not None:
        return None
    return ExpertPlan(
        network=followed[0].networks.network,
        structure="",
        experts=config.count,
        epochs=epochs_to_keep(config, reach_of(cast(TrajectoryMatch, each.trajectory) for each in followed)),
        images_per_class=config.images_per_class,
        lr=config.lr,
        batch=config.batch,
        siamese=config.siamese,
        precision=config.precision,
        mean=teacher.mean,
        std=teacher.std,
        shape=subject.sizes.shape,
        resize=None,
        classes=subject.sizes.classes,
        data="",
        seed=0,
    )


def trajectory_signal(subject: Subject, match: Match, device: torch.device) -> TrajectorySignal:
    """The signal of an arm that follows experts."""
    assert match.trajectory is not None  # the caller looks
    network = _network(subject, device)
    experts = cast(ExpertBuffer, _NoExperts(flattened(network.network).to(device)))
    return TrajectorySignal(match.trajectory, match, network=network, experts=experts, count=1, seed=0)


@dataclass(frozen=True)
class _NoExperts:
    """Stands in for experts: random weights, which are a little less after each epoch."""

    initial: Tensor

    def weights(self, expert: int, epoch: int) -> Tensor:
        return self.initial * (1 - 1e-3 * epoch)


def _network(subject: Subject, device: torch.device) -> FlatNetwork:
    name = _followed(subject)[0].networks.network
    network = build(name, subject.sizes.classes, subject.sizes.shape[0]).to(device)
    return FlatNetwork(pool_in_pairs(network, device))


def _followed(subject: Subject) -> list[Match]:
    matched = [each.match for each in subject.arms.values() if each.match is not None]
    return [match for match in matched if match.trajectory is not None]
