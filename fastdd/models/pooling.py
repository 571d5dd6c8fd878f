"""2x2 average pooling of contiguous images on a CPU, where torch's avg_pool2d is slow.

A network whose images are contiguous on its device (``build.memory_format``) can have its pools replaced; in
bf16 it computes the same bits. ``fastdd bench students --works step`` measures what that brings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .build import memory_format


class PairwisePool(nn.Module):
    """2x2 average pooling that is fast for contiguous images on a CPU.

    In float32 it is a sum of two rows and a sum of two columns, over 4. In bf16 it is a product with a matrix
    of quarters [2 W, W / 2], as two rows of W pixels lie side by side in memory; it takes a fifth of the time
    of avg_pool2d, backward too. The numbers are those of avg_pool2d but for rounding. Images in channels-last
    and of odd sides go to avg_pool2d. The result is contiguous.
    """

    def forward(self, x: Tensor) -> Tensor:
        N, C, H, W = x.shape
        if not x.is_contiguous() or H % 2 or W % 2:
            return F.avg_pool2d(x, 2).contiguous()
        if x.dtype == torch.bfloat16:
            quarters = torch.eye(W // 2, dtype=x.dtype).mul(0.25).repeat_interleave(2, 0).repeat(2, 1)
            return (x.view(-1, 2 * W) @ quarters).view(N, C, H // 2, W // 2)
        rows = x[:, :, ::2] + x[:, :, 1::2]
        return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def pool_in_pairs(network: nn.Module, device: torch.device) -> nn.Module:
    """Replace the 2x2 average pools of a network whose images are contiguous on a device.

    The network is changed and returned. It keeps its weights and their names. Other networks stay as they
    are.
    """
    if device.type == "cpu" and memory_format(network, device) == torch.contiguous_format:
        for path, module in list(network.named_modules()):
            if _halves(module):
                parent, _, leaf = path.rpartition(".")
                setattr(network.get_submodule(parent), leaf, PairwisePool())
    return network


def _halves(module: nn.Module) -> bool:
    """Whether a module is 2x2 average pooling without overlap or padding."""
    if type(module) is not nn.AvgPool2d or module.ceil_mode or module.divisor_override is not None:
        return False
    sizes = (module.kernel_size, module.stride, module.padding)
    return sizes in ((2, 2, 0), ((2, 2), (2, 2), (0, 0)))
