"""The network of each step, and its training between the steps (DC, DSA, CAFE, IDC).

    step = steps * number + position       step: of the images; number: of the network
    position 0: the network is drawn anew; later it trains for some epochs before the step, where it trains

DC learns from all synthetic images, which couples the classes, IDC from real ones. Everything that a training
draws comes from one generator of (seed, step), so a network depends on the seed, the step and the synthetic
images alone. Its weights and the momentum of its optimizer are the state inside a unit. Cost: three forward
passes of each image an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd_kernels import siamese_augment

from ...config import Inner, Match, Precision
from ...data.loading.augment import mix_batch
from ...experts import batch_draws
from ...runtime.seeds import generator
from ..objective import Variable
from ..plan import Unit
from .networks import RandomNetworks
from .real import RealImages

STATISTICS_IMAGES = 16
"""real images of each class that BatchNorm's statistics are taken of, as in released code of DC"""
MIXED = 0.5
"""probability with which CutMix mixes a batch, as in released code of IDC"""


class StepNetwork:
    """The network of each step."""

    def __init__(
        self, match: Match, *, real: RealImages, networks: RandomNetworks, precision: Precision
    ) -> None:
        self.match, self.real, self.networks, self.precision = match, real, networks, precision

    def start(self, unit: Unit) -> None:
        """Begin a unit, whose images it learns from if it learns from synthetic ones."""
        self.labels = torch.tensor([c for c, _ in unit.rows])
        self.drawn = -1
        self.optimizer = self._new_optimizer()

    def advance(self, step: int, variable: Variable) -> int:
        """Bring the network to a step.

        Returns:
            The number of the draws of real images and augmentation. A network that is trained has new ones in
            each step, another has the same as long as it serves.
        """
        config = self.match.networks
        number, position = divmod(step, config.steps)
        drawn = number if config.inner is None else step
        if drawn == self.drawn:
            return drawn
        self.drawn = drawn
        if config.inner is None or position == 0:
            self.networks.draw(number)
            self.optimizer = self._new_optimizer()
        else:
            self._train(config.inner, step, variable)
        if self.networks.normalizes:
            each = [self.real.drawn(c, STATISTICS_IMAGES, drawn) for c in range(self.real.classes)]
            self.networks.freeze_statistics(torch.cat(each))
        return drawn

    def state(self) -> dict[str, Tensor]:
        """Weights and momentum, where the network is trained."""
        if self.match.networks.inner is None:
            return {}
        weights = {f"network/{name}": weight for name, weight in self.networks.state().items()}
        moments = [self.optimizer.state[each].get("momentum_buffer") for each in self._parameters()]
        return weights | {f"momentum/{k}": each for k, each in enumerate(moments) if each is not None}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue, after ``start``, from what ``state`` returned."""
        if self.match.networks.inner is None:
            return
        self.networks.restore(
            {name.removeprefix("network/"): t for name, t in state.items() if name.startswith("network/")}
        )
        for place, parameter in enumerate(self._parameters()):
            if (momentum := state.get(f"momentum/{place}")) is not None:
                self.optimizer.state[parameter]["momentum_buffer"] = momentum.clone()

    # -- training ------------------------------------------------------------------------------

    def _parameters(self) -> list[torch.nn.Parameter]:
        return list(self.networks.network.parameters())

    def _new_optimizer(self) -> torch.optim.SGD:
        inner = self.match.networks.inner or Inner()
        return torch.optim.SGD(
            self._parameters(), lr=inner.lr, momentum=inner.momentum, weight_decay=inner.weight_decay
        )

    def _train(self, inner: Inner, step: int, variable: Variable) -> None:
        """Train the network for its epochs before a step."""
        random = generator(self.real.seed, "match inner", step)
        synthetic = variable.images().detach() if inner.on == "synthetic" else None
        self.networks.network.train()
        for _ in range(inner.epochs):
            count = sum(self.real.counts) if synthetic is None else len(synthetic)
            wanted = inner.images if synthetic is None else None
            for rows in torch.randperm(count, generator=random)[:wanted].split(inner.batch):
                if synthetic is None:
                    images, labels = self.real.take(rows), self.real.labels(rows)
                else:
                    images, labels = synthetic[rows.to(synthetic.device)], self.labels[rows]
                self._step(*self._augmented(images, labels, inner, random))
        self.optimizer.zero_grad()

    def _augmented(
        self, images: Tensor, labels: Tensor, inner: Inner, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented and mixed images, and their targets [N, classes]."""
        drawn = batch_draws(self.match.siamese, len(images), images.shape[2:], random)
        images = siamese_augment(images, drawn) if len(drawn) else images
        targets = F.one_hot(labels.to(images.device), self.real.classes).float()
        if inner.mix == "none" or float(torch.rand((), generator=random)) >= MIXED:
            return images, targets
        images, mixed = mix_batch(images, targets, inner.mix, alpha=1.0, draw=random)
        assert mixed is not None  # there were targets
        return images, mixed

    def _step(self, images: Tensor, targets: Tensor) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.networks(images, self.precision).logits, targets).backward()
        self.optimizer.step()
