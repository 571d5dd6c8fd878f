"""Works on images, forward and backward: crop, flip and roll."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastdd_kernels import resample, resample_parameters

from ..peers import torchvision_resample
from ..work import Call, Goal, Least, Scale, Side, Work, with_gradient


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


def works(scale: Scale) -> list[Work]:
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
