"""SRe2L's match of BatchNorm statistics, of each batch or of each class (LPLD).

    sum_l w_l (||mean_l - target mean_l||_2 + v ||var_l - target var_l||_2)        w_first = 10

The sum is over the inputs of all BatchNorm2d layers, with plain (unsquared) norms and the biased variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from fastdd_kernels import batch_norm_losses, layer_columns

from ...config import Config
from ...config.base import NotNegative
from ...teachers import Features, batch_norm_layers
from ..plan import Unit
from .base import ClassBatchNorm, Context, Needs, Term, Values, register_term

Statistics = tuple[Tensor, Tensor]
"""mean and variance of the channels of all layers, each [D] or, of each class, [classes, D]"""


CLASS_STATISTICS: Mapping[str, ClassBatchNorm] = {
    "global": "none",
    "class": "true",
    "class_running": "running",
}
"""target -> the bank's statistics of each class that it takes, ``bank.class_bn``"""


class BatchNorm(Config):
    """SRe2L: sum over layers of ||var - running_var||_2 + ||mean - running_mean||_2 of BatchNorm inputs."""

    weight: NotNegative = 0.01
    """factor of the sum; the papers' r_bn"""
    first: NotNegative = 10.0
    """factor on the loss of the first layer"""
    variance: NotNegative = 1.0
    """factor on the norm of the variances (DWA: 11)"""
    target: Literal["global", "class", "class_running"] = "global"
    """global: the batch against the teacher's running statistics; class: the slots of each class against the
    statistics of its real images; class_running: against running averages over them, as LPLD's released code
    gathers them, which lack the variance between images"""


class BatchNormTerm(Term[BatchNorm, Statistics | None]):
    """The match of BatchNorm statistics; ``target: global`` needs no targets beside the teacher's own."""

    configuration = BatchNorm
    labels: ClassVar = {"bn": "BatchNorm statistics"}
    position = 10

    def __init__(self, config: BatchNorm, context: Context) -> None:
        super().__init__(config, context)
        self.layers = [layer for layer in context.taps.layers if layer.startswith("bn.")]
        self.running = _joined([context.taps.running[layer] for layer in self.layers])
        factors = [config.weight * (config.first if i == 0 else 1.0) for i in range(len(self.layers))]
        self.factors = torch.tensor(factors, device=self.device)
        widths = [len(context.taps.running[layer][0]) for layer in self.layers]
        # On a CPU one sum a layer costs no more, and keeps its rounding.
        self.columns = layer_columns(widths).to(self.device) if self.device.type == "cuda" else None
        batches, classes, _ = context.shape
        # Class statistics span the slots of a class, global ones the whole batch.
        self.groups = batches if config.target == "global" else batches * classes

    @classmethod
    def needs(cls, config: BatchNorm, network: nn.Module) -> Needs:
        layers = tuple(batch_norm_layers(network))
        return Needs(moments=layers, class_batch_norm=CLASS_STATISTICS[config.target])

    def targets(self, unit: Unit) -> Statistics | None:
        if self.config.target == "global":
            return None
        mean, var = _joined([self.context.bank.class_batch_norm(layer, unit.groups) for layer in self.layers])
        return mean.to(self.device), var.to(self.device)

    def __call__(self, features: Features, images: Tensor, targets: Statistics | None) -> Values:
        losses = batch_norm_losses(
            [features.moments[layer] for layer in self.layers],
            *(self.running if targets is None else targets),
            shift=self.running[0],
            groups=self.groups,
            variance_weight=self.config.variance,
            columns=self.columns,
        )
        return {"bn": (self.factors * losses.sum(1)).sum()}


def _joined(layers: list[Statistics]) -> Statistics:
    """The statistics of several layers side by side."""
    return torch.cat([mean for mean, _ in layers], dim=-1), torch.cat([var for _, var in layers], dim=-1)


register_term("bn", BatchNormTerm)
