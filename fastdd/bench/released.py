"""The steps of the released recover loops in plain PyTorch, as their sources do them.

    SRe2L   roll the batch by two integers, teacher in eval mode and without gradients of its weights, a hook
            on every BatchNorm that copies its input channel by channel, Adam, clip, and the loss
            CE + r_bn sum_l w_l (||var|| + ||mean||)
    DiRe    the same, and class after class three torchmetrics matrices of its embeddings; the real embeddings
            were saved with requires_grad, so they get a gradient too

Eager, float32, contiguous; the loss is read by the host at every step. Descriptions: SRe2L (arXiv
2306.13092), recover_cifar; DiRe (arXiv 2512.13083), recover_cifar_regularized and utils_regularized.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .peers import StatisticsHook, released_diversity_loss, released_statistics


@dataclass
class ReleasedLoop:
    """A batch of images through a contiguous copy of the teacher.

    Attributes:
        network: the teacher; its last linear layer takes the embeddings.
        labels: [N], class after class where there are real embeddings.
        bounds: normalized (black, white) of each channel.
        first: further factor on the first layer.
        real: real embeddings [m, D] of each class of the batch, for DiRe; empty for SRe2L.
    """

    network: nn.Module
    labels: Tensor
    bounds: Sequence[tuple[float, float]]
    r_bn: float = 0.01
    first: float = 10.0
    real: Sequence[Tensor] = ()
    hooks: list[StatisticsHook] = field(init=False)

    def __post_init__(self) -> None:
        network = copy.deepcopy(self.network).to(memory_format=torch.contiguous_format)
        self.network = network.eval().requires_grad_(False)
        self.hooks = [
            StatisticsHook(m, released_statistics) for m in network.modules() if isinstance(m, nn.BatchNorm2d)
        ]
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        self.embedding = torch.zeros(())
        linear.register_forward_pre_hook(self._note)
        self.real = [rows.clone().requires_grad_() for rows in self.real]

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.embedding = inputs[0]

    def loss(self, images: Tensor, roll: tuple[int, int] = (0, 0)) -> Tensor:
        """Loss of images [N, C, H, W] after a roll by (rows, columns), a scalar."""
        logits = self.network(torch.roll(images, roll, (2, 3)))
        loss = F.cross_entropy(logits, self.labels)
        rescale = [self.first] + [1.0] * (len(self.hooks) - 1)
        statistics = [hook.r_feature * scale for hook, scale in zip(self.hooks, rescale, strict=True)]
        loss = loss + self.r_bn * torch.stack(statistics).sum()
        if self.real:
            each = len(self.labels) // len(self.real)
            loss = loss + released_diversity_loss(self.embedding, self.real, each)
        return loss

    def optimize(self, images: Tensor, steps: int, lr: float, jitter: int = 4) -> Tensor:
        """The last iterate of some steps from normalized images [N, C, H, W]."""
        images = images.detach().contiguous().requires_grad_()
        optimizer = torch.optim.Adam([images], lr=lr, betas=(0.5, 0.9))
        kept = images.detach()
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            loss = self.loss(images, (random.randint(0, jitter), random.randint(0, jitter)))
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for channel, (low, high) in enumerate(self.bounds):
                    images[:, channel] = torch.clamp(images[:, channel], low, high)
            if loss.item() < 1e4:  # a bound that is never lowered: every iterate is copied, the last one kept
                kept = images.detach().clone()
        return kept
