"""Works on activations, forward and backward: BatchNorm with ReLU and statistics, and spatial moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastdd_kernels import (
    batch_norm_loss_from_moments,
    frozen_batch_norm,
    resample,
    resample_parameters,
    spatial_moments,
)

from ..peers import (
    HookedBatchNorm,
    Statistics,
    plain_batch_norm,
    plain_moments,
    released_statistics,
    torchvision_resample,
    var_mean_moments,
    var_mean_statistics,
)
from ..work import Call, Goal, Least, Scale, Side, Work, compiled, with_gradient

# -- BatchNorm, ReLU and statistics ----------------------------------------------------------------


class Layer(NamedTuple):
    x: Tensor  # [N, C, H, W] channels-last, a leaf
    upstream: Tensor  # gradient of the output
    parameters: tuple[Tensor, Tensor, Tensor, Tensor]  # weight, bias, running mean and variance, [C]


def layer(scale: Scale, batch: int, channels: int, side: int, *, seed: int) -> Layer:
    """A layer of random activations and statistics."""
    randn = scale.randn
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


def resnet18(scale: Scale) -> list[Layer]:
    """The 20 BatchNorm inputs of a small-image ResNet-18; quick: one of each size."""
    shapes = [(64, 32), (128, 16), (256, 8), (512, 4)]
    repeats, batch = scale.size(5, 1), scale.size(100, 8)
    each = [shape for shape in shapes for _ in range(repeats)]
    return [layer(scale, batch, *shape, seed=10 * i) for i, shape in enumerate(each)]


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
                layers, outputs, torch.stack([module.hook.r_feature for module in modules]).sum()
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


def batch_norm_work(name: str, text: str, inputs: Callable[[], list[Layer]]) -> Work[list[Layer]]:
    """Output, statistics loss and gradients of some layers."""
    return Work(
        name,
        f"BatchNorm, ReLU and the loss of its statistics, forward and backward, {text}",
        inputs,
        batch_norm_truth,
        tolerance=2e-5,
        goals=(Goal("faster", 2.5, "hook_released"),),
        # Forward a read and a write; backward x and the upstream gradient are read, the gradient is written.
        least=lambda layers: Least(bytes=sum(5 * one.x.nbytes for one in layers)),
        sides={
            "ours": Side(batch_norm_ours),
            "hook_released": Side(batch_norm_hooked(released_statistics)),
            "hook_var_mean": Side(batch_norm_hooked(var_mean_statistics)),
            "plain_compiled": Side(batch_norm_compiled, compiled=True),
        },
    )


# -- spatial moments -------------------------------------------------------------------------------


class Activation(NamedTuple):
    x: Tensor  # [N, C, H, W], a leaf
    shift: Tensor  # [C]
    upstream: list[Tensor]  # gradients of the two moments


Shape = tuple[int, int, int, int]


def activation(scale: Scale, shape: Shape, layout: torch.memory_format) -> Activation:
    x = (1 + scale.randn(*shape)).contiguous(memory_format=layout).requires_grad_()
    upstream = [scale.randn(*shape[:2], seed=seed) for seed in (2, 3)]
    return Activation(x, 1 + 0.1 * scale.randn(shape[1], seed=1), upstream)


def moments_truth(inputs: Activation) -> list[Tensor]:
    x = inputs.x.detach().double().requires_grad_()
    upstream = [one.double() for one in inputs.upstream]
    return with_gradient(plain_moments(x, inputs.shift.double()), x, upstream)


def moments_call(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Activation], Call]:
    return lambda inputs: lambda: with_gradient(function(inputs.x, inputs.shift), inputs.x, inputs.upstream)


def moments_work(name: str, scale: Scale, shape: Shape, layout: torch.memory_format) -> Work[Activation]:
    """Both moments, and the gradient of the activations."""
    return Work(
        name,
        "spatial mean and mean square of activations "
        + " x ".join(map(str, shape))
        + ", forward and backward",
        lambda: activation(scale, shape, layout),
        moments_truth,
        tolerance=1e-5,
        goals=(Goal("faster", 1.0, "plain_compiled"),),
        # x is read forward and backward, its gradient is written.
        least=lambda inputs: Least(bytes=3 * inputs.x.nbytes),
        sides={
            "ours": Side(moments_call(spatial_moments)),
            "var_mean": Side(moments_call(var_mean_moments)),
            "plain": Side(moments_call(plain_moments)),
            "plain_compiled": Side(moments_call(compiled(plain_moments)), compiled=True),
        },
    )


WIDE = (128, 256, 56, 56)
"""411 MB, which no cache of a GPU holds"""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def activation_works(scale: Scale) -> list[Work]:
    """The works on activations; on a GPU also of large ones."""
    small = (scale.size(100, 4), 64, 32, 32)
    text = f"{scale.size(20, 4)} layers of a small ResNet-18, {scale.size(100, 8)} images"
    found: list[Work] = [batch_norm_work("batch_norm", text, lambda: resnet18(scale))]
    found += [moments_work(f"moments_{name}", scale, small, layout) for name, layout in LAYOUTS.items()]
    if scale.device.type == "cuda" and not scale.quick:
        wide = "a layer of 128 x 256 x 56 x 56"
        found.append(batch_norm_work("batch_norm_large", wide, lambda: [layer(scale, *WIDE[:3], seed=0)]))
        found += [
            moments_work(f"moments_large_{name}", scale, WIDE, layout) for name, layout in LAYOUTS.items()
        ]
    return found


class Images(NamedTuple):
    x: Tensor  # [N, 3, H, W], a leaf
    upstream: Tensor
    parameters: Tensor  # [1, 7], on the CPU


def images(scale: Scale, batch: int, side: int) -> Images:
    """A batch, and one draw of crop, flip and roll."""
    draws = resample_parameters(65, side, side, roll=(-4, 5), generator=torch.Generator().manual_seed(0))
    # The draw of middling area, flipped and rolled: of fixed cost, neither the cheapest nor the dearest crop.
    middle = draws[(draws[:, 5] * draws[:, 6]).argsort()[len(draws) // 2]]
    middle[:3] = torch.tensor([1, 3, -2])
    x = scale.randn(batch, 3, side, side).requires_grad_()
    return Images(x, scale.randn(batch, 3, side, side, seed=1), middle[None])


def torchvision_call(x: Tensor, parameters: Tensor) -> Tensor:
    return torchvision_resample(x, parameters[0].tolist(), list(x.shape[2:]))


def resample_truth(inputs: Images) -> list[Tensor]:
    """torchvision's own, in float64: what "equal to torchvision" means."""
    x = inputs.x.detach().double().requires_grad_()
    return with_gradient([torchvision_call(x, inputs.parameters)], x, [inputs.upstream.double()])


def resample_call(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Images], Call]:
    return lambda inputs: (
        lambda: with_gradient([function(inputs.x, inputs.parameters)], inputs.x, [inputs.upstream])
    )


def image_works(scale: Scale) -> list[Work]:
    batch, side = scale.size(50, 4), scale.size(224, 64)
    resampled: Work[Images] = Work(
        "resample",
        f"crop, flip and roll of {batch} images of {side} x {side}, forward and backward",
        lambda: images(scale, batch, side),
        resample_truth,
        tolerance=3e-5,  # torchvision's float32 weights err by 1.4e-5
        goals=(Goal("faster", 2, "torchvision"),),
        # Forward a read and a write, backward a read and a write.
        least=lambda inputs: Least(bytes=4 * inputs.x.nbytes),
        sides={
            "ours": Side(resample_call(resample), needs=("torchvision",)),
            "torchvision": Side(resample_call(torchvision_call), needs=("torchvision",)),
        },
    )
    return [resampled]


def works(scale: Scale) -> list[Work]:
    """The works on activations, then those on images."""
    return [*activation_works(scale), *image_works(scale)]
