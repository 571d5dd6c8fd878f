"""DWA: the teacher's weights climb a batch's loss, so that its images differ from other batches'.

    w <- w + (rho / K) g / (||g||_2 + 1e-12),   g = dCE / dw,   K times

CE is the cross-entropy of the batch's initial images after the first step's augmentation. The norm is one
over all weights, so the weights move by at most rho. The released code never restores the weights: a batch
then climbs on from where the batches before it in its slots have led. Their climbs depend on their initial
images alone, so they are repeated for each unit, and units stay independent.

The released code also clears only the gradients of the weights between two ascent steps. So the first
gradient of the images, and with it Adam's moments, holds K gradients of CE beside that of the terms
(``accumulate``).
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
"""(images, draws, labels) of a batch: normalized initial images [N, C, H, W], the first step's augmentation
as ``resample`` takes it (None: none), labels int64 [N]"""


def climb(network: nn.Module, batch: Climb, config: Perturb) -> Tensor | None:
    """Move all weights of a network in eval mode by ``config.steps`` ascent steps, in place.

    Returns:
        The sum of the steps' gradients to the images [N, C, H, W]; None without ``config.accumulate``.
    """
    images, draws, labels = batch
    images = images.detach().requires_grad_(config.accumulate)
    shown = images if draws is None else resample(images, draws)
    weights = list(network.parameters())
    total = torch.zeros_like(images) if config.accumulate else None
    for _ in range(config.steps):
        loss = F.cross_entropy(network(shown), labels)
        if total is not None:
            total += torch.autograd.grad(loss, images, retain_graph=True)[0]
        # The resampled images are part of the next step's graph too.
        gradients = torch.autograd.grad(loss, weights, retain_graph=config.accumulate)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(config.rho / config.steps * gradient / (norm + 1e-12))
    return total


@contextmanager
def perturbed(
    taps: Taps, network: nn.Module, batches: Sequence[Climb], config: Perturb
) -> Iterator[Tensor | None]:
    """Give the taps weights that have climbed the batches in turn; the block's end restores them.

    The block gets what ``climb`` returned for the last batch.

    Args:
        taps: the teacher with taps; its weights are changed in place.
        network: the same teacher without taps, which stays as it is.
    """
    climber, gradient = copy.deepcopy(network).eval().requires_grad_(True), None
    with torch.enable_grad():
        for batch in batches:
            gradient = climb(climber, batch, config)
    # In place, because a compiled step keeps the tensors that it was compiled with.
    pairs = list(zip(taps.network.parameters(), climber.parameters(), network.parameters(), strict=True))
    with torch.no_grad():
        for own, moved, _ in pairs:
            own.copy_(moved)
    taps.update()
    try:
        yield gradient
    finally:
        with torch.no_grad():
            for own, _, before in pairs:
                own.copy_(before)
        taps.update()
