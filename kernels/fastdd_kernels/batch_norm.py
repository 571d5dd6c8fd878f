"""Frozen BatchNorm, with or without ReLU, and the moments of its input, in one read.

    y = (x - running_mean) * weight / sqrt(running_var + eps) + bias

A teacher in eval mode reads each activation twice when its statistics are wanted: once to normalize, once to
measure. Here one pass does both, and one backward pass merges the gradients of y and of the statistics
(``moments.py``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batch_norm_loss import batch_norm_loss_from_moments
from .moments import (
    affine_moments,
    check_activation,
    check_channels,
    spatial_moments_reference,
    statistics_dtype,
)
from .residual import residual_moments

# -- reference -------------------------------------------------------------------------------------


def frozen_batch_norm_reference(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition: batch normalization in eval mode, and the moments of its input."""
    y = F.batch_norm(x, running_mean, running_var, weight, bias, training=False, eps=eps)
    return (F.relu(y) if relu else y, *spatial_moments_reference(x, running_mean))


# -- public function and module --------------------------------------------------------------------


def _scale(running_var: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    scale = (running_var + eps).rsqrt()
    return scale if weight is None else scale * weight


def frozen_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization in eval mode, with optional ReLU, and the moments of its input.

    Differentiable in x alone, twice in eager mode: the layer is frozen, its parameters are constants.

    Args:
        x: activation [N, C, H, W], any float dtype.
        weight, bias: affine parameters [C], or None for 1 and 0.
        running_mean, running_var: statistics of the frozen layer [C].
        eps: added to the variance.
        relu: clip y at zero.

    Returns:
        ``(y, mean, mean_square)``: y [N, C, H, W] in the dtype of x, and
        ``spatial_moments(x, shift=running_mean)``, each [N, C].

    Raises:
        ValueError: x is not 4-D or has an empty spatial extent, or a parameter does not fit x.
    """
    check_activation(x)
    parameters = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    for name, value in parameters.items():
        check_channels(name, value, x.shape[1])
    dtype = statistics_dtype(x)
    shift, scale = running_mean.to(dtype), _scale(running_var, weight, eps).to(dtype)
    return affine_moments(
        x, shift, scale, torch.zeros_like(shift) if bias is None else bias.to(dtype), relu=relu
    )


def _constants(bn: nn.BatchNorm2d) -> dict[str, Tensor]:
    """Copies of what a frozen layer needs: its statistics, and the scale and bias that they make."""
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("the layer has track_running_stats=False: there are no statistics to freeze")
    return {
        "running_mean": bn.running_mean.clone(),
        "running_var": bn.running_var.clone(),
        "scale": _scale(bn.running_var, bn.weight, bn.eps).detach(),
        "bias": torch.zeros_like(bn.running_mean) if bn.bias is None else bn.bias.detach().clone(),
    }


class FrozenBatchNorm2d(nn.Module):
    """An ``nn.BatchNorm2d`` in eval mode that notes the moments of its input on the way, without a hook.

        layers = FrozenBatchNorm2d.convert(teacher)
        logits = teacher(images)
        loss = criterion(logits, labels) + sum(layer.loss() for layer in layers).sum()

    Args:
        bn: the layer to stand in for; its values are copied to buffers, and change by :meth:`update` alone.
        relu: clip the result at zero, in place of a ReLU that follows.

    Attributes:
        moments: (mean, mean_square) [N, C] about running_mean, of the last forward pass; None before.

    Raises:
        ValueError: the layer keeps no running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, bn: nn.BatchNorm2d, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.moments: tuple[Tensor, Tensor] | None = None
        for name, value in _constants(bn).items():
            self.register_buffer(name, value)

    @torch.no_grad()
    def update(self, bn: nn.BatchNorm2d) -> None:
        """Take the values of a layer anew, in place, after they were changed there."""
        for name, value in _constants(bn).items():
            self.get_buffer(name).copy_(value)

    def with_moments(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """:func:`frozen_batch_norm` of x [N, C, H, W] with this layer's values.

        Given a residual [N, C, H, W], it is added to y, and the sum is rectified.
        """
        check_activation(x)
        check_channels("running_mean", self.running_mean, x.shape[1])
        dtype = statistics_dtype(x)
        shift, scale, bias = (value.to(dtype) for value in (self.running_mean, self.scale, self.bias))
        if residual is not None:
            return residual_moments(x, residual, shift, scale, bias=bias)
        return affine_moments(x, shift, scale, bias, relu=self.relu)

    def forward(self, x: Tensor) -> Tensor:
        """The normalized activation [N, C, H, W] in the dtype of x; sets ``moments``."""
        y, mean, mean_square = self.with_moments(x)
        self.moments = (mean, mean_square)
        return y

    def loss(self, groups: int = 1) -> Tensor:
        """:func:`batch_norm_loss` of the last forward pass, [groups].

        Raises:
            RuntimeError: there has been no forward pass.
        """
        if self.moments is None:
            raise RuntimeError("no forward pass has been made, so there are no moments to compare")
        return batch_norm_loss_from_moments(*self.moments, self.running_mean, self.running_var, groups=groups)

    @classmethod
    def convert(cls, network: nn.Module) -> list[FrozenBatchNorm2d]:
        """Replace every BatchNorm2d inside a network, in place; returns the new layers in module order."""
        layers: list[FrozenBatchNorm2d] = []
        for path, module in list(network.named_modules()):
            if path and isinstance(module, nn.BatchNorm2d):
                layers.append(cls(module))
                network.set_submodule(path, layers[-1])
        return layers
