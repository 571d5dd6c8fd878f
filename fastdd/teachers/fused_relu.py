"""Which BatchNorms feed a ReLU and nothing else; the two are then computed in one pass, forward and backward.

They are found by tracing the network symbolically, without images. ReLUs called as functions stay as they
are, and so does a network that cannot be traced; this costs speed only.
"""

from __future__ import annotations

from torch import fx, nn


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return not list(module.children())


def rectified(network: nn.Module) -> tuple[set[str], set[str]]:
    """Paths of the BatchNorm2d modules that only a ReLU module follows, and paths of those ReLUs."""
    try:
        nodes = list(_Tracer().trace(network).nodes)
    except Exception:  # whatever a network's own code raises when its input is a symbol
        return set(), set()
    modules = dict(network.named_modules())
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
