"""Stand-ins for CUDA graphs on any device: one replays operators on the same tensors, one watches tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastdd.recover.capture import Work
from fastdd.recover.terms.base import Values

WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "is_nonzero", "unique_dim", "_unique2"}
"""operators for which the host waits until the GPU has a number or a shape"""
Call = tuple[OpOverload, Sequence[Any], Mapping[str, Any], Any]


def tensors_in(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result


class Operators:
    """Records the operators of the work with the tensors themselves, as a CUDA graph has their addresses.

    A replay runs no Python of the step: what it does not read from a tensor that stays is frozen.
    """

    def __init__(self) -> None:
        self.log: list[str] = []

    def warm_up(self, work: Work) -> Values:
        self.log.append("warm up")
        return work()

    def capture(self, work: Work) -> tuple[Values, Callable[[], None]]:
        self.log.append("capture")
        with _Recorder() as recorder:
            values = work()

        @torch.no_grad()
        def replay() -> None:
            self.log.append("replay")
            for func, args, kwargs, result in recorder.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tensors_in(result), tensors_in(again), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)

        return values, replay


class _Watch(TorchDispatchMode):
    """Notes the memory that work reads or writes and has not made, and refuses what a capture cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[StorageWeakRef] = set()
        self.outside: dict[StorageWeakRef, str] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1]
        given = tensors_in(args, kwargs)
        on_gpu = [tensor for tensor in given if tensor.is_cuda]
        if name in WAITS and (on_gpu or not any(tensor.is_cpu for tensor in given)):
            raise AssertionError(f"{func} waits for the GPU")
        for tensor in given:
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in self.made:
                self.outside.setdefault(storage, f"{func} {list(tensor.shape)}")
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in self.outside:
                self.made.add(storage)
            if tensor.is_cuda and any(each.is_cpu and each.ndim for each in given):
                raise AssertionError(f"{func} copies from the host")
            if tensor.is_cpu and on_gpu:
                raise AssertionError(f"{func} copies to the host")
        return result


class Watched:
    """Does the work anew at each replay, and holds it to the memory that it used when it was captured."""

    def __init__(self) -> None:
        self.replays = 0

    def warm_up(self, work: Work) -> Values:
        return work()

    def capture(self, work: Work) -> tuple[Values, Callable[[], None]]:
        with _Watch() as first:
            values = work()

        def replay() -> None:
            self.replays += 1
            gc.collect()
            gone = [use for storage, use in first.outside.items() if storage.expired()]
            assert not gone, f"memory that the next replay needs is gone: {gone}"
            with _Watch() as again:
                found = work()
            other = [use for storage, use in again.outside.items() if storage not in first.outside]
            assert not other, f"a replay would use other memory: {other}"
            for name, value in found.items():
                values[name].copy_(value)

        return values, replay
