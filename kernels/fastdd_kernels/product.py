"""A matrix product with the accuracy of float32, whatever the process allows its networks.

The caller may switch on autocast or a reduced arithmetic (TF32 on a GPU, bfloat16 on a CPU) for the network.
A loss or a statistic computed with it loses what it measures: with TF32, distances inside a tight cluster are
off by percents. Where a switch is on, ``"high"`` splits each operand into parts that the reduced arithmetic
keeps exactly,

    a = a1 + a2 + ...      a b ~ a1 b1 + (a1 b2 + a2 b1) + ...      the products below 2^-22 are dropped

three products for TF32 (11 bits a part), six for bfloat16 (8 bits a part). Without such a switch it
is one plain product.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from .autograd import Context

Precision = Literal["high", "fast"]

# -- reference -------------------------------------------------------------------------------------


def matmul_reference(a: Tensor, b: Tensor) -> Tensor:
    """The definition, in float64."""
    return a.double() @ b.double()


# -- reduced arithmetic, and the way round it --------------------------------------------------------


def check_precision(precision: str) -> None:
    """Raise a ValueError unless the precision is "high" or "fast"."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be 'high' or 'fast', got {precision!r}")


def _reduced(device: str) -> str:
    """The arithmetic that float32 products use on a kind of device: "ieee", "tf32" or "bf16"."""
    # Not torch.get_float32_matmul_precision(): it raises once anyone has used the newer switches.
    backend = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    precision = str(backend.matmul.fp32_precision)
    if precision == "none":
        precision = str(getattr(torch.backends, "fp32_precision"))  # noqa: B009  unknown to type checkers
    return precision if precision in ("tf32", "bf16") else "ieee"


# What torch.compiler.assume_constant_result sets; calling that imports the compiler, as slow as torch itself.
setattr(_reduced, "_dynamo_marked_constant", True)  # noqa: B010  unknown to type checkers


def _parts(x: Tensor, reduced: str) -> list[Tensor]:
    """x [float32] as a sum of numbers that the reduced arithmetic keeps whole."""
    parts: list[Tensor] = []
    for _ in range(1 if reduced == "tf32" else 2):
        # Adding half of the last place kept, then cutting: TF32 keeps 10 bits of the fraction.
        high = (
            ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
            if reduced == "tf32"
            else x.bfloat16()
        )
        parts.append(high.to(x.dtype))
        x = x - parts[-1]
    return [*parts, x]


def multiply(a: Tensor, b: Tensor, precision: str = "high") -> Tensor:
    """:func:`matmul` for the inside of an operator that brings its own gradient."""
    if torch.is_autocast_enabled(a.device.type):
        with torch.autocast(a.device.type, enabled=False):
            return multiply(a, b, precision)
    reduced = _reduced(a.device.type) if a.dtype == torch.float32 and precision == "high" else "ieee"
    if reduced == "ieee":
        return a @ b
    a_parts, b_parts = _parts(a.contiguous(), reduced), _parts(b.contiguous(), reduced)
    # From the smallest products to the largest, so that none is lost in the sum.
    pairs = [(i, order - i) for order in reversed(range(len(a_parts))) for i in range(order + 1)]
    total = a_parts[pairs[0][0]] @ b_parts[pairs[0][1]]
    for i, j in pairs[1:]:
        total = total + a_parts[i] @ b_parts[j]
    return total


def add_product(total: Tensor, a: Tensor, b: Tensor, alpha: float, precision: str = "high") -> Tensor:
    """total [n, m] + alpha a b, in place of total; without a gradient, with the accuracy of ``multiply``."""
    if precision == "high" and a.dtype == torch.float32 and _reduced(a.device.type) != "ieee":
        return total.add_(multiply(a, b, precision), alpha=alpha)
    with torch.autocast(a.device.type, enabled=False):
        return total.addmm_(a, b, alpha=alpha)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor, precision: str) -> Tensor:
        return multiply(a, b, precision)

    @staticmethod
    def setup_context(
        ctx: Context[Precision], inputs: tuple[Tensor, Tensor, Precision], output: Tensor
    ) -> None:
        a, b, ctx.options = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Context[Precision], *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (a, b) = grads, ctx.saved_tensors
        grad_a = matmul(grad, b.mT, ctx.options) if ctx.needs_input_grad[0] else None
        return grad_a, matmul(a.mT, grad, ctx.options) if ctx.needs_input_grad[1] else None, None


def root(square: Tensor) -> Tensor:
    """The square root of sums of squares; where one is 0 its gradient, to every order, is 0 and never NaN."""
    positive = square > 0
    # The root never sees the zero, whose slope is infinite.
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


# -- public function -------------------------------------------------------------------------------


def matmul(a: Tensor, b: Tensor, precision: Precision = "high") -> Tensor:
    """``a @ b`` in the dtype of a and b even under autocast, forward and backward; twice differentiable.

    Switching autocast off around the product alone is not enough: a compiled backward, and an eager one
    called under autocast, would take its own products in half precision again.

    Args:
        a, b: [..., n, k] and [..., k, m] of one dtype, with equal batch dimensions.
        precision: "high": float32 products err like IEEE float32, whatever the process allows. "fast":
            whatever the process allows, about 1e-3 relative with TF32 and 1e-2 with bfloat16.

    Returns:
        [..., n, m].
    """
    if not torch.is_grad_enabled() or not (a.requires_grad or b.requires_grad):
        return multiply(a, b, precision)
    product: Tensor = _Product.apply(a, b, precision)
    return product
