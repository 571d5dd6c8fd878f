"""DWA: a teacher whose weights have climbed the loss of a batch, so that its images differ from those of other batches.

    w <- w + (rho / K) g / (||g||_2 + 1e-12),   g = dCE / dw of the batch after the first step's augmentation,   K times

with one norm over all weights, so that the teacher moves rho at most. The released code never takes the weights back:
a batch then climbs on from where the batches before it in its slot have led. Their climbs depend on their initial
images alone, so they can be repeated, and units stay independent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd_kernels import resample

from ..config import Perturb
from ..teachers import Taps

Climb = tuple[Tensor, Tensor | None, Tensor]
"""initial images [N, C, H, W], the first step's draws, labels [N]"""


def climb(network: nn.Module, batch: Climb, config: Perturb) -> None:
    """K ascent steps of all weights of a network in eval mode, in place."""
    images, draws, labels = batch
    images = images if draws is None else resample(images, draws)
    weights = list(network.parameters())
    for _ in range(config.steps):
        loss = F.cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(config.rho / config.steps * gradient / (norm + 1e-12))


@contextmanager
def perturbed(taps: Taps, network: nn.Module, batches: Sequence[Climb], config: Perturb) -> Iterator[None]:
    """Taps with weights that have climbed the batches, one after the other; as they were when the block ends.

    Args:
        taps: made of the network.
        network: the teacher without taps.
    """
    climber = copy.deepcopy(network).eval().requires_grad_(True)
    with torch.enable_grad():
        for batch in batches:
            climb(climber, batch, config)
    # In place: a compiled step keeps the tensors that it was compiled with.
    pairs = list(zip(taps.network.parameters(), climber.parameters(), network.parameters(), strict=True))
    with torch.no_grad():
        for own, moved, _ in pairs:
            own.copy_(moved)
    try:
        yield
    finally:
        with torch.no_grad():
            for own, _, before in pairs:
                own.copy_(before)
