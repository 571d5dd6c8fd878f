"""What taps know of a network's code: what follows its BatchNorms, and what comes before a module.

    ReLUs             a BatchNorm that only a ReLU module follows does its work in the same pass
    residual blocks   end with ``relu(bn(main) + shortcut)``; on a GPU a BatchNorm that records its moments
                      does all of it in one pass (fastdd_kernels/residual.py), so a block of a known type is
                      computed up to that point
    prefixes          for terms that need no more of a forward pass, all behind a module is left out; what is
                      left has the same layers, and compiles and is captured as the network itself is

Networks are traced symbolically, without images. One that cannot be traced, or calls a module several times,
and blocks of other types, of timm or of the user, stay as they are; this costs speed only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, fx, nn

from ..models.cifar_resnet import BasicBlock


class _Tracer(fx.Tracer):
    """Looks into the modules that are no leaves."""

    def __init__(self, is_leaf: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self.is_leaf = is_leaf

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return self.is_leaf(module, path)


def _traced(network: nn.Module, is_leaf: Callable[[nn.Module, str], bool]) -> fx.Graph | None:
    """What a network calls; None: its own code fails when its input is a symbol."""
    try:
        return _Tracer(is_leaf).trace(network)
    except Exception:  # whatever that code raises
        return None


def rectified(network: nn.Module) -> tuple[set[str], set[str]]:
    """Paths of the BatchNorm2d modules that only a ReLU module follows, and paths of those ReLUs."""
    graph = _traced(network, lambda module, _: not list(module.children()))
    nodes, modules = [] if graph is None else list(graph.nodes), dict(network.named_modules())
    calls = [node.target for node in nodes if node.op == "call_module"]

    def is_a(node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and type(modules[str(node.target)]) is kind

    pairs = [
        (str(node.target), str(user.target))
        for node in nodes
        for user in node.users
        if is_a(node, nn.BatchNorm2d)
        and is_a(user, nn.ReLU)
        and len(node.users) == 1
        and calls.count(node.target) == 1
    ]
    return {bn for bn, _ in pairs}, {relu for _, relu in pairs}


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


def prefix(network: nn.Module, path: str) -> fx.GraphModule | None:
    """What a network computes up to the output of its module at a path, with the same parameters.

    Returns:
        A module in eval mode that takes what the network takes and returns that output; None: the network
        cannot be cut there.
    """
    graph = _traced(network, lambda _, other: not path.startswith(f"{other}."))
    if graph is None:
        return None
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == path]
    if len(calls) != 1:
        return None
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = (calls[0],)
    behind = list(graph.nodes)[list(graph.nodes).index(calls[0]) + 1 : -1]
    for node in reversed(behind):
        graph.erase_node(node)
    return fx.GraphModule(network, graph).eval()
