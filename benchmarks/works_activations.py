"""Works on activations, forward and backward: BatchNorm with ReLU and statistics, and spatial moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from baselines import (
    HookedBatchNorm,
    Statistics,
    plain_batch_norm,
    plain_moments,
    released_statistics,
    var_mean_moments,
    var_mean_statistics,
)
from torch import Tensor
from works import DEVICE, QUICK, Call, Provider, Work, compiled, randn, size, with_gradient

from fastdd_kernels import batch_norm_loss_from_moments, frozen_batch_norm, spatial_moments

# -- BatchNorm, ReLU and statistics ----------------------------------------------------------------


class Layer(NamedTuple):
    x: Tensor  # [N, C, H, W] channels-last, a leaf
    upstream: Tensor  # gradient of the output
    parameters: tuple[Tensor, Tensor, Tensor, Tensor]  # weight, bias, running mean and variance, [C]


def layer(batch: int, channels: int, side: int, seed: int) -> Layer:
    weight, bias, mean = (randn(channels, seed=seed + i) for i in range(3))
    weight, var = 1 + 0.2 * weight, 1 + 0.2 * randn(channels, seed=seed + 3).abs()
    x = (1 + 0.3 * mean)[:, None, None] + randn(batch, channels, side, side, seed=seed + 4)
    # The kink of the ReLU is kept clear: there a rounding decides about a whole gradient.
    y = (x - mean[:, None, None]) * (weight / (var + 1e-5).sqrt())[:, None, None] + bias[:, None, None]
    step = 0.01 * ((var + 1e-5).sqrt() / weight)[:, None, None]
    x = torch.where(y.abs() < 1e-3, x + step, x).contiguous(memory_format=torch.channels_last)
    # As small as the gradient of a mean over the batch, and so of the statistics' own size: an error in
    # either shows.
    upstream = randn(*x.shape, seed=seed + 5).contiguous(memory_format=torch.channels_last) / (
        batch * side * side
    )
    return Layer(x.requires_grad_(), upstream, (weight, bias, mean, var))


def resnet18() -> list[Layer]:
    """The 20 BatchNorm inputs of a small-image ResNet-18."""
    shapes = [(64, 32), (128, 16), (256, 8), (512, 4)]
    repeats, batch = size(5, 1), size(100, 8)
    return [
        layer(batch, *shape, seed=10 * i) for i, shape in enumerate(s for s in shapes for _ in range(repeats))
    ]


def large_layer() -> list[Layer]:
    return [layer(*wide[:3], seed=0)]


def layer_gradients(layers: list[Layer], outputs: list[Tensor], loss: Tensor) -> list[Tensor]:
    upstream = [None, *(one.upstream for one in layers)]
    gradients = torch.autograd.grad([loss, *outputs], [one.x for one in layers], upstream)
    return [loss.detach(), *(output.detach() for output in outputs), *gradients]


def batch_norm_truth(layers: list[Layer]) -> list[Tensor]:
    """Layer by layer, and kept in float32: all of it in float64 would be gigabytes."""
    losses, outputs, gradients = [], [], []
    for one in layers:
        x = one.x.detach().double().requires_grad_()
        y, loss = plain_batch_norm(x, *(parameter.double() for parameter in one.parameters))
        (gradient,) = torch.autograd.grad([loss, y], x, [None, one.upstream.double()])
        losses.append(loss.detach())
        outputs.append(y.detach().float())
        gradients.append(gradient.float())
    return [torch.stack(losses).sum(), *outputs, *gradients]


def batch_norm_ours(layers: list[Layer]) -> Call:
    def call() -> list[Tensor]:
        outputs, losses = [], []
        for x, _, (weight, bias, mean, var) in layers:
            y, batch_mean, mean_square = frozen_batch_norm(x, weight, bias, mean, var, relu=True)
            outputs.append(y)
            losses.append(batch_norm_loss_from_moments(batch_mean, mean_square, mean, var))
        return layer_gradients(layers, outputs, torch.cat(losses).sum())

    return call


def batch_norm_hooked(statistics: Statistics) -> Callable[[list[Layer]], Call]:
    def build(layers: list[Layer]) -> Call:
        modules = [HookedBatchNorm(*one.parameters, statistics) for one in layers]

        def call() -> list[Tensor]:
            outputs = [module(one.x) for module, one in zip(modules, layers, strict=True)]
            return layer_gradients(
                layers, outputs, torch.stack([module.r_feature for module in modules]).sum()
            )

        return call

    return build


def batch_norm_compiled(layers: list[Layer]) -> Call:
    def network(xs: list[Tensor], parameters: list[tuple[Tensor, ...]]) -> tuple[list[Tensor], Tensor]:
        pairs = [plain_batch_norm(x, *own) for x, own in zip(xs, parameters, strict=True)]
        return [y for y, _ in pairs], torch.stack([loss for _, loss in pairs]).sum()

    step = compiled(network)
    return lambda: layer_gradients(
        layers, *step([one.x for one in layers], [one.parameters for one in layers])
    )


def batch_norm(name: str, inputs: Callable[[], list[Layer]], traffic: int | None = None) -> Work:
    return Work(
        name,
        inputs,
        batch_norm_truth,
        tolerance=2e-5,
        target=("hook_released", 2.5),
        traffic=traffic,
        providers={
            "ours": Provider(batch_norm_ours),
            "hook_released": Provider(batch_norm_hooked(released_statistics)),
            "hook_var_mean": Provider(batch_norm_hooked(var_mean_statistics)),
            "plain_compiled": Provider(batch_norm_compiled, compiled=True),
        },
    )


# -- spatial moments -------------------------------------------------------------------------------


class Activation(NamedTuple):
    x: Tensor  # [N, C, H, W], a leaf
    shift: Tensor  # [C]
    upstream: list[Tensor]  # gradients of the two moments


def activation(shape: tuple[int, int, int, int], layout: torch.memory_format) -> Activation:
    x = (1 + randn(*shape)).contiguous(memory_format=layout).requires_grad_()
    return Activation(
        x, 1 + 0.1 * randn(shape[1], seed=1), [randn(*shape[:2], seed=2), randn(*shape[:2], seed=3)]
    )


def moments_truth(inputs: Activation) -> list[Tensor]:
    x = inputs.x.detach().double().requires_grad_()
    upstream = [one.double() for one in inputs.upstream]
    return with_gradient(plain_moments(x, inputs.shift.double()), x, upstream)


def moments_call(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Activation], Call]:
    return lambda inputs: lambda: with_gradient(function(inputs.x, inputs.shift), inputs.x, inputs.upstream)


def moments(name: str, shape: tuple[int, int, int, int], layout: torch.memory_format) -> Work:
    return Work(
        name,
        lambda: activation(shape, layout),
        moments_truth,
        tolerance=1e-5,
        # x is read forward and backward, its gradient is written.
        traffic=3 * 4 * math.prod(shape),
        providers={
            "ours": Provider(moments_call(spatial_moments)),
            "var_mean": Provider(moments_call(var_mean_moments)),
            "plain": Provider(moments_call(plain_moments)),
            "plain_compiled": Provider(moments_call(compiled(plain_moments)), compiled=True),
        },
    )


small, wide = (size(100, 4), 64, 32, 32), (128, 256, 56, 56)  # wide: 411 MB, that no cache of a GPU holds
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WORKS = [
    batch_norm("batch_norm", resnet18),
    *(moments(f"moments_{name}", small, layout) for name, layout in LAYOUTS.items()),
]
if DEVICE.type == "cuda" and not QUICK:
    # Forward a read and a write; backward x and the upstream gradient are read, the gradient is written.
    WORKS.append(batch_norm("batch_norm_large", large_layer, traffic=5 * 4 * math.prod(wide)))
    WORKS.extend(moments(f"moments_large_{name}", wide, layout) for name, layout in LAYOUTS.items())
