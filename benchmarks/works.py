"""What a kernel benchmark is: a piece of work, its true result, and several providers of that result.

A provider is timed only after its outputs and gradients have been compared with a float64 truth
(``test_kernels.py``). ``FASTDD_BENCH_DEVICE`` names the device (a GPU where there is one),
``FASTDD_BENCH_QUICK=1`` takes small shapes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

DEVICE = torch.device(
    os.environ.get("FASTDD_BENCH_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
)
QUICK = os.environ.get("FASTDD_BENCH_QUICK") == "1"

Call = Callable[[], list[Tensor]]
"""does a work once; gives its outputs and gradients"""
Inputs = TypeVar("Inputs")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Provider(Generic[Inputs]):
    """One way to do a work.

    Attributes:
        build: makes of the inputs a call without arguments; ``build`` itself is not timed.
        needs: packages without which the provider is skipped.
        compiled: whether it goes through torch.compile, which on a CPU needs a C++ compiler.
    """

    build: Callable[[Inputs], Call]
    needs: tuple[str, ...] = ()
    compiled: bool = False

    def missing(self) -> str | None:
        """What this machine lacks, in words."""
        for package in self.needs:
            if find_spec(package) is None:
                return f"the package {package} is not installed"
        compilers = (os.environ.get("CXX"), "g++", "clang++")
        if self.compiled and not any(shutil.which(name) for name in compilers if name):
            return "torch.compile needs a C++ compiler (g++ or clang++)"
        return None


@dataclass(frozen=True)
class Work(Generic[Inputs]):
    """A piece of work.

    Attributes:
        name: name of the benchmark's group.
        inputs: makes the tensors, on ``DEVICE``.
        truth: the outputs and gradients in float64, from the plain definition.
        providers: by name; "ours" is what the others are divided by.
        tolerance: largest error of a provider, relative to the largest entry of a tensor.
        target: name of a provider, and how many times faster than it ours should be.
        memory_share: at most this share of the memory of the provider in ``target``.
        memory_mb: at most so many megabytes for ours.
        traffic: bytes that the work must move at least; for the share of a device copy.
        flops: floating-point operations in matrix products; for the share of the matrix library's rate.
    """

    name: str
    inputs: Callable[[], Inputs]
    truth: Callable[[Inputs], list[Tensor]]
    providers: dict[str, Provider[Inputs]]
    tolerance: float
    target: tuple[str, float] | None = None
    memory_share: float | None = None
    memory_mb: float | None = None
    traffic: int | None = None
    flops: int | None = None


def size(full: int, quick: int) -> int:
    """A size of the full shapes, or of the small ones."""
    return quick if QUICK else full


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers on ``DEVICE``, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def with_gradient(
    outputs: Sequence[Tensor], x: Tensor, upstream: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The outputs, and the gradient of x for upstream gradients (of the scalars alone: 1)."""
    gradient = torch.autograd.grad(outputs, x, upstream)
    return [*(output.detach() for output in outputs), *gradient]


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function as a user would compile a step of fixed shapes."""
    return torch.compile(function, fullgraph=True, dynamic=False)


def error(actual: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest error of a tensor over the largest entry of its truth; infinite for NaN or another shape."""
    worst = 0.0
    for a, b in zip(actual, truth, strict=True):
        if a.shape != b.shape:
            return float("inf")
        scale = float(b.abs().max()) or 1.0
        gap = float((a.to(b) - b).abs().max()) / scale
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst
