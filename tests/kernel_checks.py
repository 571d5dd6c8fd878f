"""What the kernel tests share: seeded inputs, gradients for random upstream ones, bounds of the error."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EPS32 = torch.finfo(torch.float32).eps
TF32_ERROR = 1e-3
"""bound of the error of d^2 over ||x||^2 + ||y||^2 of operands rounded to TF32, as distance.py states it"""


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, drawn in float64 whatever the dtype."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def leaf(tensor: Tensor) -> Tensor:
    """A copy to differentiate by."""
    return tensor.detach().clone().requires_grad_()


def point_sets(dim: int) -> dict[str, Tensor]:
    """Sets of points [300, dim] whose distances cancel more or less, by what they are like."""
    tight = randn(1, dim, seed=4).abs() * 2 + 0.1 * randn(300, dim)
    return {"relu": randn(300, dim).relu(), "tight": tight, "shifted": 10 + randn(300, dim)}


def interpreter_takes(numpy: str, triton: str) -> bool:
    """Whether Triton's interpreter works with a version of numpy: before 3.7 it fails from numpy 2.4 on, with
    "only 0-dimensional arrays can be converted to Python scalars"."""

    def number(version: str) -> tuple[int, int]:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)

    return number(triton) >= (3, 7) or number(numpy) < (2, 4)


def activation(*shape: int, layout: str = "contiguous") -> Tensor:
    """float64 values with a mean of 3 and, by channel, deviations from 0.5 to 2."""
    deviation = torch.linspace(0.5, 2.0, shape[1], dtype=torch.float64).view(1, -1, 1, 1)
    x = 3 + deviation * randn(*shape, seed=sum(shape))
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "strided":
        return x.repeat_interleave(2, dim=3)[..., ::2]
    if layout == "sliced":  # channels of a wider tensor
        return torch.cat((x, x), 1)[:, : shape[1]]
    return x


def with_gradient(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> list[Tensor]:
    """Outputs of function and the gradient of x for fixed random upstream gradients."""
    x = x.detach().requires_grad_()
    outputs = function(x)
    # bfloat16 numbers, which every dtype holds exactly: the same upstream gradients for a test and its truth
    upstream = [randn(*y.shape, seed=7 + i, dtype=torch.bfloat16).to(y) for i, y in enumerate(outputs)]
    return [*(y.detach() for y in outputs), *torch.autograd.grad(outputs, x, upstream)]


def assert_within(actual: Sequence[Tensor], truth: Sequence[Tensor], roundings: float) -> None:
    """Each tensor within so many float32 roundings of its own largest entry."""
    for a, b in zip(actual, truth, strict=True):
        scale = float(b.abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a.double().cpu(), b, rtol=0, atol=roundings * EPS32 * scale)
