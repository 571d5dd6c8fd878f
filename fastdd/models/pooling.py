"""2x2 average pooling of contiguous images on a CPU, where torch's avg_pool2d is slow.

A network whose images are contiguous on its device (``build.memory_format``) can have its pools replaced; its
bits are nearly always the same. ``fastdd bench students --works step`` measures what it brings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..runtime.precision import has_fast_bf16
from .build import memory_format

WIDEST = 160
"""pixels along a row up to which the product is faster: in float32 it takes 0.41 of the time of avg_pool2d at
32, 0.87 at 128, 0.96 at 160 and 1.06 at 192, on an AMD EPYC with AVX2, one thread, backward too"""


class PairwisePool(nn.AvgPool2d):
    """2x2 average pooling that is fast for contiguous images on a CPU.

    It is a product with a matrix of quarters [2 W, W / 2], as two rows of W pixels lie side by side in
    memory; at 32 pixels a side it takes a third of the time of avg_pool2d in float32 and a fifth in bf16,
    backward too; wider images gain less, so those beyond ``WIDEST`` go to avg_pool2d, as does bf16 on a
    processor that emulates it, where products are slow. A quarter rounds nothing, and the product adds the
    four pixels in avg_pool2d's order, so that its bits are the same where the processor's matrix product
    adds one after the other; in bf16 unless they differ by a factor of 2^16. Other images than contiguous
    ones of even sides go to avg_pool2d.

    Args:
        contiguous: whether the result is contiguous whatever layout the images have; else what went to
            avg_pool2d keeps its layout.
    """

    def __init__(self, *, contiguous: bool = False) -> None:
        super().__init__(2)
        self.contiguous = contiguous
        self._has_bf16 = has_fast_bf16(torch.device("cpu"))

    def forward(self, x: Tensor) -> Tensor:
        *outer, H, W = x.shape
        is_slow = W > WIDEST or (x.dtype == torch.bfloat16 and not self._has_bf16)
        if len(outer) != 2 or not x.is_contiguous() or H % 2 or W % 2 or is_slow:
            pooled = super().forward(x)
            return pooled.contiguous() if self.contiguous else pooled
        half = torch.eye(W // 2, dtype=x.dtype, device=x.device)
        quarters = half.mul(0.25).repeat_interleave(2, 0).repeat(2, 1)
        with torch.autocast(x.device.type, enabled=False):  # float32 stays float32, as in avg_pool2d
            return (x.view(-1, 2 * W) @ quarters).view(*outer, H // 2, W // 2)


def pool_in_pairs(network: nn.Module, device: torch.device, *, contiguous: bool = False) -> nn.Module:
    """Replace the 2x2 average pools of a network whose images are contiguous on a device.

    The network is changed and returned. It keeps its weights and their names. Other networks stay as they
    are, and so do pools with hooks, which may be what the network's own code reads.
    """
    if device.type == "cpu" and memory_format(network, device) == torch.contiguous_format:
        for path, module in list(network.named_modules()):
            if _halves(module) and not _watched(module):
                network.set_submodule(path, PairwisePool(contiguous=contiguous))
    return network


def _halves(module: nn.Module) -> bool:
    """Whether a module is 2x2 average pooling without overlap or padding."""
    if type(module) is not nn.AvgPool2d or module.ceil_mode or module.divisor_override is not None:
        return False
    sizes = (module.kernel_size, module.stride, module.padding)
    return sizes in ((2, 2, 0), ((2, 2), (2, 2), (0, 0)))


def _watched(module: nn.Module) -> bool:
    """Whether a module has hooks, or a forward function of its own."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return "forward" in vars(module) or any(getattr(module, kind) for kind in kinds)
