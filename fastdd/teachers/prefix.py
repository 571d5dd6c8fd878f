"""The part of a network up to one of its modules, for terms that need no more of a forward pass.

The network is traced symbolically, without images, and all that comes after its module at a path is left out.
What is left is a module of the same layers, which compiles and is captured as the network itself is. A
network that cannot be traced, or calls the module several times, has no such part; it is computed whole,
which costs speed only.
"""

from __future__ import annotations

from torch import fx, nn


class _Tracer(fx.Tracer):
    """Looks only into the modules that hold the one at a path."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return not self.path.startswith(f"{path}.")


def prefix(network: nn.Module, path: str) -> fx.GraphModule | None:
    """What a network computes up to the output of its module at a path, with the same parameters.

    Returns:
        A module in eval mode that takes what the network takes and returns that output; None: the network
        cannot be cut there.
    """
    tracer = _Tracer(path)
    try:
        graph = tracer.trace(network)
    except Exception:  # whatever a network's own code raises when its input is a symbol
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
