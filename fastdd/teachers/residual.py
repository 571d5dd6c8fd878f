"""Residual blocks whose code is known: what they add up at their end.

A block ends with ``relu(bn(main) + shortcut)``. On a GPU a BatchNorm that records its moments does all of it
in one pass (fastdd_kernels/residual.py), so the block is computed up to that point here. Blocks of other
types, of timm or of the user, stay as they are; this costs speed only.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..models.cifar_resnet import BasicBlock


class Block(NamedTuple):
    """A kind of residual block.

    Attributes:
        main: names of its modules up to the last BatchNorm, in the order in which they are called.
        last: name of that BatchNorm.
    """

    main: tuple[str, ...]
    last: str

    def before_last(self, module: nn.Module, x: Tensor) -> Tensor:
        """The input of the last BatchNorm of a block with the input x."""
        for name in self.main:
            x = module.get_submodule(name)(x)
        return x


BASIC = ("conv1", "bn1", "relu", "conv2")
BLOCKS = {
    ("torchvision.models.resnet", "BasicBlock"): Block(BASIC, "bn2"),
    ("torchvision.models.resnet", "Bottleneck"): Block((*BASIC, "bn2", "relu", "conv3"), "bn3"),
    (BasicBlock.__module__, BasicBlock.__name__): Block(BASIC, "bn2"),
}
"""(module, name) of a class -> its blocks"""


def known_block(module: nn.Module) -> Block | None:
    """What a module computes, if it is a residual block whose code is known."""
    return BLOCKS.get((type(module).__module__, type(module).__name__))


def shortcut(module: nn.Module, x: Tensor) -> Tensor:
    """What a known block with the input x adds to the output of its last BatchNorm."""
    if isinstance(module, BasicBlock):
        return module.shortcut(x)
    downsample: nn.Module | None = getattr(module, "downsample", None)
    return x if downsample is None else downsample(x)
