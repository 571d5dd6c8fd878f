"""Gradients of a network's weights, from synthetic and from real images of each class (DC, DSA, IDC).

    L = sum_c D( grad_w CE(w; a_c S_c), grad_w CE(w; a_c R_c) )

w are the weights of the step's network, R_c real images of class c, S_c its synthetic ones in the unit, a_c
one Siamese draw for both, CE the mean cross-entropy with label c, and D a distance of fastdd_kernels. The
gradient of an image depends on its own class alone, so the classes go one after the other, each with its own
backward pass: the sums are those of all at once, and memory does not grow with their number.

All of it is float32 whatever ``recover.precision`` is: the second derivative in bf16 is wrong by 10 %. (On a
GPU TF32 is precise enough.) Cost of a step, in forward passes of an image: 3 real + 9 IPC for each class,
beside the training of the network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd_kernels import gradient_distance, siamese_augment

from ...config import GradientMatch, Match
from ...errors import InputError
from ...runtime.seeds import generator
from ..objective import Signal, Variable
from ..plan import Unit
from ..steps import Round
from ..terms.base import Values
from .features import CHUNK
from .inner import StepNetwork
from .networks import RandomNetworks, Recorded
from .real import RealImages


def compared_weights(config: GradientMatch, networks: RandomNetworks) -> list[Tensor]:
    """The weights whose gradients are compared."""
    matrices_only = config.matrices_only or config.metric == "rows"
    found: list[Tensor] = []
    for module in networks.network.modules():
        if not config.convolutions_only or isinstance(module, nn.Conv2d):
            own = module.parameters(recurse=False)
            found += [
                each for each in own if each.ndim >= 2 or not (matrices_only or config.convolutions_only)
            ]
    if not found:
        raise InputError(
            f"match.gradients.convolutions_only: {networks.name} has no convolution; set it to false, or "
            "choose a network such as convnet"
        )
    return found


class GradientSignal(Signal):
    """Gradients of the weights of a step's network, class by class.

    Args:
        network: the network of each step, in float32, whose weights get gradients.
    """

    def __init__(
        self, config: GradientMatch, match: Match, *, real: RealImages, network: StepNetwork
    ) -> None:
        self.config, self.match, self.real = config, match, real
        self.network, self.networks = network, network.networks
        self.weights = compared_weights(config, self.networks)
        self.real_embeddings: dict[int, Tensor] = {}

    def start(self, unit: Unit, steps: int) -> None:
        self.network.start(unit)
        self.classes, self.slots = unit.groups, unit.shape[2]
        self.rows = unit.rows
        self.augmentation: dict[int, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        return self.network.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.network.restore(state)

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        number = self.network.advance(step, variable)
        images = variable.images()
        gradient, total = torch.zeros_like(images), images.new_zeros(())
        for c in dict.fromkeys(self.classes):
            self.augmentation[c] = self.real.siamese(self.match.siamese, c, number)
            target = self._real_gradient(c, number)
            for group in (g for g, other in enumerate(self.classes) if other == c):
                rows = self._taking_part(group, step).to(images.device)
                chunk = images[rows].detach().requires_grad_()
                loss = self._cross_entropy(self._recorded(chunk, c), c) / len(rows)
                mine = torch.autograd.grad(loss, self.weights, create_graph=True)
                distance = gradient_distance(mine, target, self.config.metric)
                gradient[rows] = torch.autograd.grad(distance, chunk)[0]
                total += distance.detach()
        images.backward(gradient)
        return {"gradients": total}

    def _real_gradient(self, c: int, number: int) -> list[Tensor]:
        """The gradient of the mean cross-entropy of a class's real images, added up over chunks of them."""
        images = self.real.drawn(c, self.match.networks.real, number)
        total = [torch.zeros_like(weight) for weight in self.weights]
        embeddings = []
        for chunk in images.split(CHUNK[images.device.type]):
            recorded = self._recorded(chunk, c)
            loss = self._cross_entropy(recorded, c) / len(images)
            for mine, each in zip(total, torch.autograd.grad(loss, self.weights), strict=True):
                mine += each
            embeddings.append(recorded.embedding.detach())
        if self.match.added.through == "network":
            self.real_embeddings[c] = torch.cat(embeddings)
        return total

    def _taking_part(self, group: int, step: int) -> Tensor:
        """Positions int64 in the unit of the images of a group that take part in a step."""
        first, wanted = group * self.slots, self.config.synthetic
        if wanted is None or wanted >= self.slots:
            return torch.arange(first, first + self.slots)
        random = generator(self.real.seed, "match synthetic", step, *self.rows[first])
        return first + torch.randperm(self.slots, generator=random)[:wanted]

    def _recorded(self, images: Tensor, c: int) -> Recorded:
        drawn = self.augmentation[c]
        return self.networks(siamese_augment(images, drawn) if len(drawn) else images)

    def _cross_entropy(self, recorded: Recorded, c: int) -> Tensor:
        """Summed over the images, all of class c."""
        labels = torch.full((len(recorded.logits),), c, device=recorded.logits.device)
        return F.cross_entropy(recorded.logits, labels, reduction="sum")

    def embedding(self, images: Tensor, groups: range) -> Tensor:
        """Embeddings [N, D] of the images of these groups of the unit, through the network of the step."""
        each = zip(images.split(self.slots), groups, strict=True)
        return torch.cat([self._recorded(part, self.classes[g]).embedding for part, g in each])
