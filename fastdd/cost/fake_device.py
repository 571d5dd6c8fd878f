"""A device that has shapes and no values, on which the real code runs and what it asks for is counted.

    with fake_device("cuda") as counts:
        loss = step(torch.empty(1000, 3, 224, 224, device="cuda", requires_grad=True))
        loss.backward()
    print(len(counts.launches), counts.waits, counts.peak)

It needs no GPU. The branches for CUDA are taken there, a CPU tensor among CUDA ones is an error, and Triton's
launchers run up to the launch. Where the host reads a number from the device, it waits, and gets 1.

PyTorch's own backward pass asks the driver for the streams of CUDA tensors. So on ``cuda`` ``backward`` and
``torch.autograd.grad`` walk through the graph here, call the same nodes, and add up gradients where
PyTorch would. A node that is called so computes all of its gradients, where PyTorch leaves out those that
nobody wants: the convolutions of MTT take 1 % more for it, those of TESLA 10 %.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Literal
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.autograd.graph import Node, get_gradient_edge
from torch.optim.optimizer import _foreach_supported_types

from .counting import Counting, Counts

Kind = Literal["cuda", "cpu"]
"""the kinds of devices that there are fakes of"""


class _FakeCUDA(FakeTensorMode):
    # Whether there is a GPU is asked again inside, where torch is told that there is one.
    avoid_device_init = True

    def __deepcopy__(self, memo: dict[int, object]) -> _FakeCUDA:
        return self  # the copy of a network belongs to the same GPU


@contextmanager
def fake_device(kind: Kind) -> Iterator[Counts]:
    """A context in which tensors of a kind of device can be made and computed with, and launches are counted.

    Raises:
        RuntimeError: the device is ``cuda`` and Triton's interpreter is on, which replaces the kernels for
            the whole process.
    """
    if kind == "cuda" and os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("launches cannot be counted in Triton's interpreter; unset TRITON_INTERPRET")
    counting = Counting(kind)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of anomaly detection, and of copies of weights without values
        # Constants of modules have values, which then are of no account.
        stack.enter_context(_FakeCUDA(allow_non_fake_inputs=True))
        told: dict[tuple[object, str], object] = {
            (nn.Module, "_apply"): _converted,
            (torch.Tensor, "__deepcopy__"): _copied,
        }
        if kind == "cuda":
            told |= _told_of_a_gpu(counting)
        for (owner, name), value in told.items():
            stack.enter_context(mock.patch.object(owner, name, value))
        # Torch's optimizers take the path of many tensors at once for types that they know.
        _foreach_supported_types.append(FakeTensor)
        stack.callback(_foreach_supported_types.remove, FakeTensor)
        if kind == "cuda":
            # Under anomaly detection every node of a gradient remembers the call that made it.
            stack.enter_context(torch.autograd.set_detect_anomaly(True, check_nan=False))
        stack.enter_context(counting)
        yield counting.counts


def _converted(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """``nn.Module._apply`` of weights without values, which torch's own would swap and cannot."""
    for part in module.modules() if recurse else (module,):
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                with torch.no_grad():
                    changed = change(weight)
                part._parameters[name] = nn.Parameter(changed.detach(), requires_grad=weight.requires_grad)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module


def _copied(tensor: Tensor, memo: dict[int, object]) -> Tensor:
    """``Tensor.__deepcopy__`` of a tensor without values."""
    copied = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    memo[id(tensor)] = copied
    return copied


def _told_of_a_gpu(counting: Counting) -> dict[tuple[object, str], object]:
    """What torch and Triton are told: (owner, name) -> what takes the place of that attribute."""

    def backward(tensor: Tensor, gradient: Tensor | None = None, **_: object) -> None:
        for leaf, found in gradients(counting, [tensor], [gradient]).items():
            leaf.grad = found if leaf.grad is None else leaf.grad + found

    def grad(
        outputs: Tensor | Sequence[Tensor],
        inputs: Tensor | Sequence[Tensor],
        grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
        *,
        create_graph: bool = False,
        materialize_grads: bool = False,
        **_: object,
    ) -> tuple[Tensor | None, ...]:
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        upstream = [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs
        inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        upstream = upstream or [None] * len(outputs)
        found = gradients(counting, outputs, upstream, inputs, differentiable=create_graph)
        if materialize_grads:
            found = {each: torch.zeros_like(each) for each in inputs} | found
        return tuple(found.get(each) for each in inputs)

    def set_materialize_grads(context: FunctionCtx, value: bool) -> None:
        context.materialize_grads = value  # which cannot be read again
        context.fills_in_zeros = value  # type: ignore[attr-defined]

    told: dict[tuple[object, str], object] = {
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "is_bf16_supported"): lambda *_, **__: True,
        (torch.cuda, "get_device_capability"): lambda *_: (9, 0),
        (torch.cuda, "device_of"): lambda _: nullcontext(),
        (torch.Tensor, "backward"): backward,
        (torch.autograd, "grad"): grad,
        (FunctionCtx, "set_materialize_grads"): set_materialize_grads,
    }
    try:
        from triton.runtime.jit import JITFunction
    except ImportError:  # then there is nothing that launches one
        return told
    told[JITFunction, "run"] = lambda kernel, *args, **options: counting.kernel(kernel, *args, **options)
    return told


def gradients(
    counting: Counting,
    outputs: Sequence[Tensor],
    upstream: Sequence[Tensor | None],
    inputs: Sequence[Tensor] | None = None,
    *,
    differentiable: bool = False,
) -> dict[Tensor, Tensor]:
    """Tensor -> gradient, with respect to it, of the sum of the outputs times their upstream gradients.

    Args:
        counting: is told the node whose operators run.
        outputs: what gradients are of; each needs one.
        upstream: the gradient of something with respect to each output; None: 1.
        inputs: the tensors whose gradients are wanted; None: all leaves.
        differentiable: whether the gradients have gradients.
    """
    edges = [get_gradient_edge(output)[:2] for output in outputs]
    wanted = None if inputs is None else {get_gradient_edge(each)[:2]: each for each in inputs}
    needed = _needed([node for node, _ in edges], None if wanted is None else {node for node, _ in wanted})
    waiting = Counter(following for node in needed for following, _ in node.next_functions)
    arrived: dict[Node, dict[int, Tensor]] = {}
    found: dict[Tensor, Tensor] = {}
    with torch.set_grad_enabled(differentiable):
        for output, (node, place), gradient in zip(outputs, edges, upstream, strict=True):
            if node in needed:
                gradient = torch.ones_like(output) if gradient is None else gradient
                _add(arrived.setdefault(node, {}), node, place, gradient)
        ready = [node for node in arrived if not waiting[node]]
        while ready:
            node = ready.pop()
            given = arrived.pop(node, {})
            for place, gradient in given.items():
                if wanted is None and hasattr(node, "variable"):
                    found[node.variable] = gradient
                elif wanted is not None and (asked := wanted.get((node, place))) is not None:
                    found[asked] = gradient
            ends = hasattr(node, "variable") or not any(each in needed for each, _ in node.next_functions)
            results = [] if ends or not given else _called(counting, node, given)
            for i, (following, place) in enumerate(node.next_functions):
                if following not in needed:
                    continue
                if i < len(results) and (gradient := results[i]) is not None:
                    _add(arrived.setdefault(following, {}), following, place, gradient)
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
    counting.node = None
    return found


def _needed(roots: Sequence[Node], wanted: set[Node] | None) -> set[Node]:
    """The nodes below the roots, and they themselves, that lead to a wanted one; None: all."""
    order, seen, stack = list[Node](), set[Node](), [(root, False) for root in roots]
    while stack:
        node, left = stack.pop()
        if left:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(following, False) for following, _ in node.next_functions if following is not None]
    if wanted is None:
        return seen
    needed = set[Node]()
    for node in order:  # what a node leads to comes before it
        if node in wanted or any(following in needed for following, _ in node.next_functions):
            needed.add(node)
    return needed


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
