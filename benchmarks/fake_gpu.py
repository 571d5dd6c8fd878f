"""What a GPU would be given, counted without a GPU: code runs on CUDA tensors that have shapes and no values.

    with fake_gpu() as counts:
        loss = step(torch.empty(1000, 3, 224, 224, device="cuda", requires_grad=True))
        loss.backward()
    print(len(counts.launches), counts.waits)

The branches for CUDA are taken, a CPU tensor among CUDA ones is an error, and Triton's launchers run up to
the launch. A launch is an operator of PyTorch that computes something, or a Triton kernel; what PyTorch's
operators launch beside their one kernel is not known here. Where the host reads a number from the GPU, it
waits, and gets 1.

PyTorch's own backward pass asks the driver for the streams of CUDA tensors. So ``backward`` and
``torch.autograd.grad`` walk through the graph here: they call the same nodes, and add up gradients where
PyTorch would.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.function import BackwardCFunction, FunctionCtx
from torch.autograd.graph import Node
from torch.optim.optimizer import _foreach_supported_types
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
"""operators that launch nothing, beside views"""
UNREAD = {"copy_": 0, "fill_": 0, "zero_": 0, "max_pool2d_with_indices_backward": 1}
"""operator -> position of an argument of which it reads no number"""
LAYOUT_KEPT = {
    "convolution",
    "convolution_backward",
    "native_batch_norm",
    "max_pool2d_with_indices",
    "max_pool2d_with_indices_backward",
}
"""operators whose 4-D results are channels-last on a GPU where their argument is; fake ones are not always"""
KERNEL_FLOPS: Mapping[str, Callable[..., int]] = {
    "_pair_dot_kernel": lambda x, y, *_: 2 * x.numel() * y.shape[1]
}
"""Triton kernel -> its multiplications and additions, by its arguments"""
_FILE = re.compile(r".*/(?:fastdd|fastdd_kernels|torchvision/models)/(.+)\.py$")
_LINE = re.compile(r'\s*File "(.*/(?:fastdd|fastdd_kernels|torchvision/models)/.+\.py)", line \d+, in (\S+)')


class Launch(NamedTuple):
    """One kernel.

    Attributes:
        direction: ``forward``, or ``backward`` for what the nodes of a gradient launch.
        place: file and function of fastdd or torchvision that asked for it, or for the result whose
            gradient it belongs to.
        name: the operator or the Triton kernel.
        bytes: what it reads and writes, each tensor once.
        flops: multiplications and additions of a product or a convolution; 0 for anything else.
        dtype: type of its first tensor, such as ``bfloat16``.
    """

    direction: str
    place: str
    name: str
    bytes: int
    flops: int
    dtype: str


@dataclass
class Counts:
    """What has been counted so far.

    Attributes:
        launches: the launches, in order.
        waits: times that the host read from the GPU.
    """

    launches: list[Launch] = field(default_factory=list)
    waits: int = 0


class _FakeCUDA(FakeTensorMode):
    # Whether there is a GPU is asked again inside, where torch is told that there is one.
    avoid_device_init = True

    def __deepcopy__(self, memo: dict[int, object]) -> _FakeCUDA:
        return self  # the copy of a network belongs to the same GPU


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.node: Node | None = None

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        namespace, name = func._schema.name.split("::")
        if func._schema.name in OPDEFS:  # an operator in Python: what it does inside is what counts
            with self:
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        if name == "_local_scalar_dense":
            self.counts.waits += args[0].is_cuda
            return True if args[0].dtype == torch.bool else 1
        result = func(*args, **kwargs)
        if name in LAYOUT_KEPT:
            result = _in_layout_of(args[0], result)
        if namespace != "prim" and name not in FREE and not _is_view(func):
            self._operator(func, name, args, kwargs, result)
        return result

    def _operator(
        self, func: OpOverload, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        written = [tensor for tensor in _tensors(result) if tensor.is_cuda]
        outputs = {argument.name for argument in func._schema.arguments if argument.is_out}
        inputs = [value for i, value in enumerate(args) if i != UNREAD.get(name, -1)]
        if name == "convolution_backward":
            inputs = [args[0], args[2]]  # of the images: their weights are frozen
        inputs += [value for key, value in kwargs.items() if key not in outputs]
        read = [tensor for tensor in _tensors(inputs) if tensor.is_cuda]
        self.counts.waits += bool(read and not written and _tensors(result))  # a copy to the host
        if read or written:
            count = flop_registry.get(func._overloadpacket)
            flops = count(*args, **kwargs, out_val=result) if count else 0
            self._note(name, _bytes(read) + _bytes(written), flops, [*read, *written])

    def kernel(self, kernel: Any, *args: Any, **options: Any) -> None:
        """A launch of a Triton kernel; it takes the place of the function that launches."""
        name = kernel.fn.__name__
        tensors = _tensors(args)
        if any(not tensor.is_cuda for tensor in tensors):
            raise RuntimeError(f"{name} was given a CPU tensor among CUDA ones")
        flops = KERNEL_FLOPS[name](*args) if name in KERNEL_FLOPS else 0
        self._note(name, _bytes(tensors), flops, tensors)

    def _note(self, name: str, size: int, flops: int, tensors: Sequence[Tensor]) -> None:
        forward = self.node is None
        place = _caller() if self.node is None else _maker(self.node)
        dtype = str(tensors[0].dtype).removeprefix("torch.")
        self.counts.launches.append(
            Launch("forward" if forward else "backward", place, name, bytes=size, flops=flops, dtype=dtype)
        )

    # -- the backward pass ------------------------------------------------------------------------------

    @torch.no_grad()
    def gradients(self, outputs: Sequence[Tensor], upstream: Sequence[Tensor | None]) -> dict[Tensor, Tensor]:
        """Leaf -> gradient of the sum of the outputs times their upstream gradients (None: 1)."""
        roots = [output.grad_fn for output in outputs]
        waiting: Counter[Node] = Counter()
        seen, stack = set(roots), list(dict.fromkeys(roots))
        while stack:
            for following, _ in stack.pop().next_functions:
                if following is not None:
                    waiting[following] += 1
                    if following not in seen:
                        seen.add(following)
                        stack.append(following)
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
            results = self._called(node, given) if given else [None] * len(node.next_functions)
            for (following, place), gradient in zip(node.next_functions, results, strict=False):
                if following is None:
                    continue
                if gradient is not None:
                    self._add(arrived.setdefault(following, {}), following, place, gradient)
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
        self.node = None
        return found

    def _called(self, node: Node, given: dict[int, Tensor]) -> Sequence[Tensor | None]:
        self.node = node
        metadata = node._input_metadata
        gradients = [given.get(i) for i in range(len(metadata))]
        if isinstance(node, BackwardCFunction):
            if getattr(node, "fills_in_zeros", True):
                gradients = [
                    torch.zeros(m.shape, dtype=m.dtype, device=m.device) if gradient is None else gradient
                    for m, gradient in zip(metadata, gradients, strict=True)
                ]
            results = node.apply(*gradients)
        else:
            results = node(*gradients)
        return results if isinstance(results, tuple) else (results,)

    def _add(self, arrived: dict[int, Tensor], node: Node, place: int, gradient: Tensor) -> None:
        """Join a gradient to what a node has got already, in the shape and type that it expects."""
        metadata = node._input_metadata[place]
        if gradient.shape != metadata.shape:
            gradient = gradient.sum_to_size(metadata.shape)
        gradient = gradient.to(metadata.dtype)
        arrived[place] = arrived[place] + gradient if place in arrived else gradient


@contextmanager
def fake_gpu() -> Iterator[Counts]:
    """A context in which CUDA tensors can be made and computed with, and launches are counted.

    Raises:
        RuntimeError: Triton's interpreter is on, which replaces the kernels for the whole process.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("launches cannot be counted in Triton's interpreter; unset TRITON_INTERPRET")
    counting = _Counting()

    def backward(tensor: Tensor, gradient: Tensor | None = None, **_: object) -> None:
        for leaf, found in counting.gradients([tensor], [gradient]).items():
            leaf.grad = found if leaf.grad is None else leaf.grad + found

    def grad(
        outputs: Tensor | Sequence[Tensor],
        inputs: Tensor | Sequence[Tensor],
        grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
        **_: object,
    ) -> tuple[Tensor | None, ...]:
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        upstream = [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs
        found = counting.gradients(outputs, upstream or [None] * len(outputs))
        return tuple(found.get(leaf) for leaf in ([inputs] if isinstance(inputs, Tensor) else inputs))

    def set_materialize_grads(context: Any, value: bool) -> None:
        context.materialize_grads = value  # which cannot be read again
        context.fills_in_zeros = value

    def launch(kernel: object, *args: Any, **options: Any) -> None:
        counting.kernel(kernel, *args, **options)

    told = {
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "is_bf16_supported"): lambda *_, **__: True,
        (torch.cuda, "device_of"): lambda _: nullcontext(),
        (torch.Tensor, "backward"): backward,
        (torch.autograd, "grad"): grad,
        (FunctionCtx, "set_materialize_grads"): set_materialize_grads,
        (triton.runtime.jit.JITFunction, "run"): launch,
    }
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of anomaly detection, and of copies of weights without values
        stack.enter_context(_FakeCUDA())
        for (owner, name), value in told.items():
            stack.enter_context(mock.patch.object(owner, name, value))
        # Torch's optimizers take the path of many tensors at once for types that they know.
        _foreach_supported_types.append(FakeTensor)
        stack.callback(_foreach_supported_types.remove, FakeTensor)
        # Under anomaly detection every node of a gradient remembers the call that made it.
        stack.enter_context(torch.autograd.set_detect_anomaly(True, check_nan=False))
        stack.enter_context(counting)
        yield counting.counts


def _is_view(func: OpOverload) -> bool:
    return any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)


def _tensors(values: Any) -> list[Tensor]:
    """The tensors in values and in lists of them."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Memory of distinct tensors; an expanded one has what it repeats once."""
    total = 0
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        sides = [
            1 if stride == 0 else side for side, stride in zip(tensor.shape, tensor.stride(), strict=True)
        ]
        total += torch.Size(sides).numel() * tensor.element_size()
    return total


def _in_layout_of(first: Tensor, result: Any) -> Any:
    if not first.is_contiguous(memory_format=torch.channels_last):
        return result
    if isinstance(result, tuple):
        return tuple(_in_layout_of(first, part) for part in result)
    if isinstance(result, Tensor) and result.ndim == 4:
        return torch.empty_like(result, memory_format=torch.channels_last)
    return result


def _caller() -> str:
    """File and function of fastdd or torchvision that called the operator that is running."""
    frame = sys._getframe()
    while frame is not None:
        if match := _FILE.match(frame.f_code.co_filename):
            return f"{match[1]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def _maker(node: Node) -> str:
    """File and function that made the result whose gradient a node computes."""
    for line in reversed(node.metadata.get("traceback_", [])):
        if match := _LINE.match(line):
            found = _FILE.match(match[1])
            assert found is not None
            return f"{found[1]}:{match[2]}"
    return "elsewhere"
