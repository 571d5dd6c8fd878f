"""Count what code asks of a device: bytes, operations and launch of each operator, and the memory held.

A launch is an operator of PyTorch that computes something, or a Triton kernel; what PyTorch's operators
launch beside their one kernel is not known here. Its bytes are what it reads and writes, each tensor once.
Memory is that of all tensors that are alive, whoever holds them.
"""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import Node
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
_OWN = re.compile(r".*/fastdd/cost/.+\.py$")


class TensorSpec(NamedTuple):
    """A tensor without its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


Argument: TypeAlias = object
"""an argument of an operator in which each tensor is a TensorSpec and each list a tuple, so that it hashes"""


class Call(NamedTuple):
    """An operator and its arguments, by which it can be called again on tensors of the same sizes."""

    function: OpOverload
    arguments: tuple[Argument, ...]
    keywords: tuple[tuple[str, Argument], ...]


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
        call: what was called; None: a Triton kernel.
    """

    direction: str
    place: str
    name: str
    bytes: int
    flops: int
    dtype: str
    call: Call | None = None


@dataclass
class Counts:
    """What has been counted so far.

    Attributes:
        launches: the launches, in order.
        waits: times that the host read from the device.
        held: bytes of the tensors that are alive now.
        peak: the most bytes that were alive at once.
    """

    launches: list[Launch] = field(default_factory=list)
    waits: int = 0
    held: int = 0
    peak: int = 0


class Kernel(Protocol):
    """A Triton kernel, as its launcher is given it."""

    fn: Callable[..., object]


class Counting(TorchDispatchMode):
    """The mode that counts the operators of tensors on one kind of device.

    Args:
        device: ``cuda`` or ``cpu``.

    Attributes:
        node: the node of a gradient whose operators run now; None: they are of a forward pass, or of
            PyTorch's own backward pass.
    """

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.device = device
        self.counts = Counts()
        self.node: Node | None = None
        self._storages: dict[int, weakref.ref[object]] = {}

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        namespace, name = func._schema.name.split("::")
        if func._schema.name in OPDEFS:  # an operator in Python: what it does inside is what counts
            with self:
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        if name == "_local_scalar_dense":
            (tensor,) = args
            assert isinstance(tensor, Tensor)
            self.counts.waits += self._here(tensor)
            return True if tensor.dtype == torch.bool else 1
        if name == "nonzero" and isinstance(args[0], FakeTensor):
            return self._chosen(args[0])
        if name in ("index", "index_put_") and isinstance(args[0], FakeTensor):
            args = (args[0], self._without_masks(args[1]), *args[2:])
        result: object = func(*args, **kwargs)
        if name in LAYOUT_KEPT and self.device == "cuda":
            result = _in_layout_of(args[0], result)
        self._hold(result)
        if namespace != "prim" and name not in FREE and not _is_view(func):
            self._operator(func, name, args, kwargs, result)
        return result

    def _chosen(self, mask: object) -> Tensor:
        """Where a mask is true, int64 [n, dimensions]: a mask of rows holds all of them, since it may choose
        any, and a mask of pairs none, since it looks for what is out of the ordinary."""
        assert isinstance(mask, Tensor)
        self.counts.waits += self._here(mask)
        found = mask.numel() if mask.ndim == 1 else 0
        return torch.empty(found, mask.ndim, dtype=torch.int64, device=mask.device)

    def _without_masks(self, indices: object) -> list[object]:
        """The indices of an operator with positions in place of masks."""
        assert isinstance(indices, Sequence)
        found: list[object] = []
        for index in indices:
            masks = isinstance(index, Tensor) and index.dtype == torch.bool
            found += self._chosen(index).unbind(1) if masks else [index]
        return found

    def _here(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device

    def _hold(self, result: object) -> None:
        """Note the memory of results until it is freed."""
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._storages or not self._here(tensor):
                continue
            size = storage.nbytes()

            def freed(_: object, key: int = key, size: int = size) -> None:
                self.counts.held -= size
                del self._storages[key]

            self._storages[key] = weakref.ref(storage, freed)
            self.counts.held += size
            self.counts.peak = max(self.counts.peak, self.counts.held)

    def _operator(
        self,
        func: OpOverload,
        name: str,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        written = [tensor for tensor in _tensors(result) if self._here(tensor)]
        outputs = {argument.name for argument in func._schema.arguments if argument.is_out}
        inputs = [value for i, value in enumerate(args) if i != UNREAD.get(name, -1)]
        if name == "convolution_backward" and self.device == "cuda" and not _asks_for_weights(args):
            inputs = [args[0], args[2]]  # of the images: their weights are frozen
        inputs += [value for key, value in kwargs.items() if key not in outputs]
        read = [tensor for tensor in _tensors(inputs) if self._here(tensor)]
        self.counts.waits += bool(read and not written and _tensors(result))  # a copy to the host
        if read or written:
            flops = _flops(func, args, kwargs, result)
            call = Call(func, tuple(map(_spec, args)), tuple((k, _spec(v)) for k, v in kwargs.items()))
            self._note(name, _bytes(read) + _bytes(written), flops, [*read, *written], call=call)

    def kernel(self, kernel: Kernel, *args: object, **options: object) -> None:
        """A launch of a Triton kernel; it takes the place of the function that launches."""
        name = kernel.fn.__name__
        tensors = _tensors(args)
        if any(not tensor.is_cuda for tensor in tensors):
            raise RuntimeError(f"{name} was given a CPU tensor among CUDA ones")
        flops = KERNEL_FLOPS[name](*args) if name in KERNEL_FLOPS else 0
        self._note(name, _bytes(tensors), flops, tensors)

    def _note(
        self, name: str, size: int, flops: int, tensors: Sequence[Tensor], *, call: Call | None = None
    ) -> None:
        forward = self.node is None
        place = _caller() if self.node is None else _maker(self.node)
        dtype = str(tensors[0].dtype).removeprefix("torch.")
        direction = "forward" if forward else "backward"
        self.counts.launches.append(
            Launch(direction, place, name, bytes=size, flops=flops, dtype=dtype, call=call)
        )


def _flops(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object], result: object) -> int:
    """Multiplications and additions of an operator."""
    count = flop_registry.get(func._overloadpacket)
    if count is None:
        return 0
    flops: int = count(*args, **kwargs, out_val=result)
    if func._schema.name == "aten::convolution_backward" and _asks_for_weights(args) and args[9] != 1:
        # Torch counts the gradient of the weights as though there were no groups.
        *others, groups, mask = args
        assert isinstance(groups, int)
        assert isinstance(mask, Sequence)
        of_images: int = count(*others, groups, [mask[0], False, mask[2]], **kwargs, out_val=result)
        flops = of_images + (flops - of_images) // groups
    return flops


def _is_view(func: OpOverload) -> bool:
    return any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)


def _asks_for_weights(args: Sequence[object]) -> bool:
    """Whether a convolution's backward pass also gives the gradient of its weights."""
    mask = args[10]
    return isinstance(mask, Sequence) and bool(mask[1])


def _tensors(values: object) -> list[Tensor]:
    """The tensors in values and in lists of them."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _spec(value: object) -> Argument:
    if isinstance(value, Tensor):
        return TensorSpec(tuple(value.shape), tuple(value.stride()), value.dtype)
    if isinstance(value, (list, tuple)):
        return tuple(map(_spec, value))
    return value


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Memory of distinct tensors; an expanded one has what it repeats once."""
    total = 0
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        sides = [
            1 if stride == 0 else side for side, stride in zip(tensor.shape, tensor.stride(), strict=True)
        ]
        total += torch.Size(sides).numel() * tensor.element_size()
    return total


def _in_layout_of(first: object, result: object) -> object:
    if not isinstance(first, Tensor) or not first.is_contiguous(memory_format=torch.channels_last):
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
        file = frame.f_code.co_filename
        if not _OWN.match(file) and (match := _FILE.match(file)):
            return f"{match[1]}:{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def _maker(node: Node) -> str:
    """File and function that made the result whose gradient a node computes."""
    # It is a property, which torch says is a method.
    metadata: dict[str, object] = node.metadata  # type: ignore[assignment]
    lines = metadata.get("traceback_", [])
    for line in reversed(lines if isinstance(lines, list) else []):
        if (match := _LINE.match(line)) and not _OWN.match(match[1]):
            found = _FILE.match(match[1])
            assert found is not None
            return f"{found[1]}:{match[2]}"
    return "elsewhere"
