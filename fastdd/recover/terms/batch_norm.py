"""SRe2L's BatchNorm statistics, of the batch or of each class (LPLD)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastdd_kernels import batch_norm_loss_from_moments

from ...bank import Bank
from ...config import BatchNorm
from ...teachers import Features, Taps, layer_names
from ..plan import Unit
from .base import Shape, Values


class BatchNormTerm:
    """SRe2L's statistics of a batch against the teacher's running ones, or against those of its class (LPLD)."""

    def __init__(self, config: BatchNorm, shape: Shape, taps: Taps, bank: Bank) -> None:
        self.config, self.shape, self.bank = config, shape, bank
        self.layers = list(layer_names(taps.network, "bn_inputs"))
        self.running = taps.running
        self.factors = [config.weight * (config.first if i == 0 else 1.0) for i in range(len(self.layers))]
        # Class statistics span the slots of a class, global ones the whole batch.
        self.groups = shape[0] * shape[1] if config.target == "class" else shape[0]

    def targets(self, unit: Unit) -> list[tuple[Tensor, Tensor]] | None:
        if self.config.target == "global":
            return None
        device = self.running[self.layers[0]][0].device
        pairs = (self.bank.class_batch_norm(layer, unit.groups) for layer in self.layers)
        return [(mean.to(device), var.to(device)) for mean, var in pairs]

    def __call__(
        self, features: Features, images: Tensor, targets: list[tuple[Tensor, Tensor]] | None
    ) -> Values:
        values = []
        for i, (layer, factor) in enumerate(zip(self.layers, self.factors, strict=True)):
            running_mean, running_var = self.running[layer]
            mean, var = (running_mean, running_var) if targets is None else targets[i]
            loss = batch_norm_loss_from_moments(
                *features.moments[layer],
                mean,
                var,
                groups=self.groups,
                shift=running_mean,
                variance_weight=self.config.variance,
            )
            values.append(factor * loss.sum())
        return {"bn": torch.stack(values).sum()}
