"""2x2 average pooling of contiguous images on a CPU, where torch's avg_pool2d is slow.

A network whose images are contiguous on its device (``build.memory_format``) can have its pools replaced; in
bf16 its bits are nearly always the same. ``fastdd bench students --works step`` measures what it brings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .build import memory_format


class PairwisePool(nn.AvgPool2d):
    """2x2 average pooling that is fast for contiguous images on a CPU.

    In bf16 it is a product with a matrix of quarters [2 W, W / 2], as two rows of W pixels lie side by side
    in memory; it takes a fifth of the time of avg_pool2d, backward too. The bits are those of avg_pool2d,
    unless four pixels differ by a factor of 2^16.

    Args:
        exact: true: everything but contiguous bf16 images of even sides goes to avg_pool2d, with its bits
            and its memory layout. false: in float32 it is a sum of two rows and a sum of two columns, over
            4, which rounds otherwise, and the result is always contiguous.
    """

    def __init__(self, *, exact: bool = False) -> None:
        super().__init__(2)
        self.exact = exact

    def forward(self, x: Tensor) -> Tensor:
        *outer, H, W = x.shape
        pairs = len(outer) == 2 and x.is_contiguous() and H % 2 == W % 2 == 0
        if pairs and x.dtype == torch.bfloat16:
            half = torch.eye(W // 2, dtype=x.dtype, device=x.device)
            quarters = half.mul(0.25).repeat_interleave(2, 0).repeat(2, 1)
            return (x.view(-1, 2 * W) @ quarters).view(*outer, H // 2, W // 2)
        if self.exact:
            return super().forward(x)
        if not pairs:
            return super().forward(x).contiguous()
        rows = x[:, :, ::2] + x[:, :, 1::2]
        return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def pool_in_pairs(network: nn.Module, device: torch.device, *, exact: bool = False) -> nn.Module:
    """Replace the 2x2 average pools of a network whose images are contiguous on a device.

    The network is changed and returned. It keeps its weights and their names. Other networks stay as they
    are, and so do pools with hooks, which may be what the network's own code reads.

    Args:
        exact: that of ``PairwisePool``.
    """
    if device.type == "cpu" and memory_format(network, device) == torch.contiguous_format:
        for path, module in list(network.named_modules()):
            if _halves(module) and not _watched(module):
                parent, _, leaf = path.rpartition(".")
                setattr(network.get_submodule(parent), leaf, PairwisePool(exact=exact))
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
