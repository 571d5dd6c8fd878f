"""Trajectories: a student that learns from the synthetic images should end where an expert was (MTT, TESLA).

    w_0 = e_t,   w_{i+1} = w_i - a grad_w CE(w_i; augmented b_i),      i = 0 ... N - 1
    L = || w_N - e_{t+M} ||^2 / || e_t - e_{t+M} ||^2

e_t are the weights of an expert after t epochs on the real images (``fastdd.experts``), t and the expert are
drawn anew at every step, b_i are batches from random orders of all synthetic images, and the learning rate a
is learned with them. Each batch has one operation of Siamese augmentation, with parameters an image.

The gradient is exact and needs the memory of one student step (``fastdd_kernels.trajectory_match``). TESLA
(``through_weights: false``) is its cheaper and coarser form. Cost of a step, in forward passes of an image:
12 N times the batch. Everything is float32: bf16 is off by a tenth in one second derivative already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import siamese_augment, trajectory_match

from ...config import Match, TrajectoryMatch
from ...experts import ExpertBuffer, batch_draws
from ...models.flat import FlatNetwork
from ...runtime.seeds import generator
from ..objective import Signal, Variable
from ..plan import Unit, UnitError
from ..steps import Round
from ..terms.base import Values

MOMENTUM = 0.5
"""Momentum of the learned learning rate, as in the released code."""


@dataclass(frozen=True)
class Walk:
    """What is drawn for one trajectory.

    Attributes:
        epoch: epoch of the expert at which the student starts.
        rows: int64 [B], the synthetic images of each student step.
        augmentation: [sum of B, 13], the Siamese parameters of their images, one below the other.
    """

    expert: int
    epoch: int
    rows: list[Tensor]
    augmentation: Tensor


class TrajectorySignal(Signal):
    """Matching of trajectories; it couples all images.

    Args:
        network: the network of the experts, on the device of the images.
        count: how many of the experts are used, from the first on.
    """

    def __init__(
        self,
        config: TrajectoryMatch,
        match: Match,
        *,
        network: FlatNetwork,
        experts: ExpertBuffer,
        count: int,
        seed: int,
    ) -> None:
        self.config, self.siamese, self.network = config, match.siamese, network
        self.experts, self.count, self.seed = experts, count, seed

    def start(self, unit: Unit, steps: int) -> None:
        self.labels = torch.tensor([c for c, _ in unit.rows])
        self.lr, self.velocity = torch.tensor(self.config.lr), torch.tensor(0.0)

    def state(self) -> dict[str, Tensor]:
        return {"lr": self.lr, "velocity": self.velocity}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.lr, self.velocity = state["lr"].cpu(), state["velocity"].cpu()

    def learned(self) -> dict[str, float]:
        return {"lr": self.lr.item()}

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        distances, slopes = [], []
        for number in range(self.config.together):
            distance, slope = self._match(variable.images(), step, number)
            distances.append(distance)
            slopes.append(slope)
        self._learn(torch.stack(slopes).mean().cpu(), step)
        return {"trajectory": torch.stack(distances).mean()}

    def _match(self, images: Tensor, step: int, number: int) -> tuple[Tensor, Tensor]:
        """Add the gradient of one trajectory to the images; return its distance and d distance / d lr."""
        walk = self._draw(len(images), images.shape[2:], step, number)
        start, target = (
            self.experts.weights(walk.expert, epoch).to(images.device)
            for epoch in (walk.epoch, walk.epoch + self.config.epochs)
        )
        rows = torch.cat(walk.rows).to(images.device)
        shown = images[rows]
        if len(walk.augmentation):
            shown = siamese_augment(shown, walk.augmentation)
        sizes = [len(each) for each in walk.rows]
        labels = self.labels.to(images.device)[rows]
        found = trajectory_match(
            self._loss,
            start,
            target,
            list(zip(shown.detach().split(sizes), labels.split(sizes), strict=True)),
            self.lr.to(images.device),
            through_weights=self.config.through_weights,
        )
        factor = self.config.factor / (2 * self.config.together)
        shown.backward(factor * torch.cat(found.images))
        return found.distance, 0.5 * self.config.factor * found.lr

    def _loss(self, weights: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.network(weights, images), labels)

    def _learn(self, slope: Tensor, step: int) -> None:
        """One step of SGD on the learning rate."""
        self.velocity = MOMENTUM * self.velocity + slope
        self.lr = self.lr - self.config.lr_lr * self.velocity
        if not (self.lr.isfinite() and self.lr > 0):
            raise UnitError(
                f"the learned learning rate of the student is {self.lr.item():.3g} after step {step}, "
                f"expected above 0; lower match.trajectory.lr_lr = {self.config.lr_lr:g} or method.lr"
            )

    # -- the draws -----------------------------------------------------------------------------

    def _draw(self, count: int, size: torch.Size, step: int, number: int) -> Walk:
        """What a trajectory is made of: a function of (seed, step, number) alone."""
        config, random = self.config, generator(self.seed, "trajectory", step, number)
        expert = int(torch.randint(self.count, (), generator=random))
        epoch = int(torch.randint(config.latest_start, (), generator=random))
        batches = self._batches(count, random)
        rows = [next(batches) for _ in range(config.steps)]
        drawn = [batch_draws(self.siamese, len(each), size, random) for each in rows]
        return Walk(expert, epoch, rows, torch.cat(drawn))

    def _batches(self, count: int, random: torch.Generator) -> Iterator[Tensor]:
        """Rows of batches from one random order of all images after another.

        As in the released code, an order's short batch comes first.
        """
        size = count if self.config.batch == "all" else self.config.batch
        while True:
            yield from reversed(torch.randperm(count, generator=random).split(size))
