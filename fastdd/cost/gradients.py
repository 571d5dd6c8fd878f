"""A backward pass over PyTorch's graph that asks no driver for streams, for a GPU that is not there.

It calls the same nodes as PyTorch's own, and adds up gradients where that would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from .counting import Counting


@torch.no_grad()
def gradients(
    counting: Counting, outputs: Sequence[Tensor], upstream: Sequence[Tensor | None]
) -> dict[Tensor, Tensor]:
    """Leaf -> gradient of the sum of the outputs times their upstream gradients (None: 1).

    Args:
        counting: is told the node whose operators run.
        outputs: what gradients are of; each depends on a leaf.
        upstream: the gradient of something with respect to each output.
    """
    roots = [cast(Node, output.grad_fn) for output in outputs]
    waiting = _waiting(roots)
    arrived: dict[Node, dict[int, Tensor]] = {}
    for output, root, gradient in zip(outputs, roots, upstream, strict=True):
        gradient = torch.ones_like(output) if gradient is None else gradient
        arrived.setdefault(root, {})[output.output_nr] = gradient
    ready = [root for root in dict.fromkeys(roots) if not waiting[root]]
    found: dict[Tensor, Tensor] = {}
    while ready:
        node = ready.pop()
        given = arrived.pop(node, {})
        if hasattr(node, "variable"):
            if given:
                found[node.variable] = given[0]
            continue
        results = _called(counting, node, given) if given else [None] * len(node.next_functions)
        for (following, place), gradient in zip(node.next_functions, results, strict=False):
            if following is None:
                continue
            if gradient is not None:
                _add(arrived.setdefault(following, {}), following, place, gradient)
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    counting.node = None
    return found


def _waiting(roots: Sequence[Node]) -> Counter[Node]:
    """How many gradients each node below the roots gets."""
    waiting: Counter[Node] = Counter()
    seen, stack = set(roots), list(dict.fromkeys(roots))
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                waiting[following] += 1
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
    return waiting


def _called(counting: Counting, node: Node, given: dict[int, Tensor]) -> Sequence[Tensor | None]:
    counting.node = node
    metadata = node._input_metadata
    arrived = [given.get(i) for i in range(len(metadata))]
    if isinstance(node, BackwardCFunction):
        if getattr(node, "fills_in_zeros", True):
            arrived = [
                torch.zeros(m.shape, dtype=m.dtype, device=m.device) if gradient is None else gradient
                for m, gradient in zip(metadata, arrived, strict=True)
            ]
        results = node.apply(*arrived)
    else:
        results = node(*arrived)  # type: ignore[operator]
    return results if isinstance(results, tuple) else (results,)


def _add(arrived: dict[int, Tensor], node: Node, place: int, gradient: Tensor) -> None:
    """Join a gradient to what a node has got already, in the shape and type that it expects."""
    metadata = node._input_metadata[place]
    if gradient.shape != metadata.shape:
        gradient = gradient.sum_to_size(metadata.shape)
    gradient = gradient.to(metadata.dtype)
    arrived[place] = arrived[place] + gradient if place in arrived else gradient
