"""What a benchmark is: a work, the sides that do it, and the least that it must move and compute.

Every work has a true result, computed in float64 from the plain definition. A side is timed only after its
own result has been compared with it. One side is ours; the others are what people use today.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Generic, Literal, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..config import Precision
from .results import OURS

Tensors: TypeAlias = list[Tensor]
Call: TypeAlias = Callable[[], Tensors]
"""what is timed, where it gives the result that is compared"""
TOLERANCE = 2e-2
"""error of a float32 gradient that is taken for rounding"""
Inputs = TypeVar("Inputs")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scale:
    """Where works are done, and how large they are.

    Attributes:
        quick: whether the small sizes are taken, whose speeds say little.
        precision: arithmetic of our side in works of whole networks; the peers' is float32.
    """

    device: torch.device
    quick: bool = False
    precision: Precision = "fp32"

    def size(self, full: int, quick: int) -> int:
        """One of two sizes."""
        return quick if self.quick else full

    @property
    def tolerance(self) -> float:
        """Error of a network's gradient, by its norm, that is taken for rounding: a few ReLUs sit so near
        zero that rounding decides them. The float32 form of a ResNet-18 is 4e-3 from float64, ours 2e-3."""
        return 0.3 if self.precision == "bf16" else TOLERANCE

    def randn(self, *shape: int, seed: int = 0) -> Tensor:
        """Normal numbers, float32, the same on every device."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)


@dataclass(frozen=True)
class Side(Generic[Inputs]):
    """One way to do a work.

    Attributes:
        build: makes of the inputs the call that is timed; building is not timed.
        outputs: the tensors that are compared with the truth. None: what the timed call gives.
        needs: packages without which the side is left out.
        compiled: whether it goes through torch.compile, which on a CPU needs a C++ compiler.
        part: whether it is only a part of the work, such as the forward pass alone, and has no result to
            compare.
    """

    build: Callable[[Inputs], Callable[[], object]]
    outputs: Callable[[Inputs], Tensors] | None = None
    needs: tuple[str, ...] = ()
    compiled: bool = False
    part: bool = False

    def missing(self) -> str | None:
        """What this machine lacks, in words; None: nothing."""
        for package in self.needs:
            if find_spec(package) is None:
                return f"the package {package} is not installed"
        compilers = (os.environ.get("CXX"), "g++", "clang++")
        if self.compiled and not any(shutil.which(name) for name in compilers if name):
            return "torch.compile needs a C++ compiler (g++ or clang++)"
        return None


@dataclass(frozen=True)
class Goal:
    """What our side is to reach.

    Attributes:
        kind: ``faster``: the other side's time over ours is at least the value; ``time``: our time over the
            other side's is at most the value; ``share``: the other side, a part of ours, takes at most that
            share of our time; ``memory``: our peak memory over the other side's is at most the value;
            ``megabytes``: our peak memory is at most the value.
        against: the other side; empty for ``megabytes``.
        side: the side that is ours here.
    """

    kind: Literal["faster", "time", "share", "memory", "megabytes"]
    value: float
    against: str = ""
    side: str = OURS


@dataclass(frozen=True)
class Least:
    """The least that any side must do.

    Attributes:
        bytes: bytes read and written, each once.
        operations: floating-point operations of products and convolutions.
    """

    bytes: int = 0
    operations: int = 0
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Work(Generic[Inputs]):
    """A piece of work.

    Attributes:
        text: what is done, with all sizes.
        inputs: makes what the sides share.
        truth: the true result in float64, or in float32 where it was computed in float64.
        sides: by name; one is called ``ours``.
        tolerance: largest error with which a side is timed; computed from the inputs where it is what
            rounding does to a peer.
        error: how an error is taken: ``largest`` entry of a difference over the largest entry of the truth,
            or ``norm`` of the difference over that of the truth.
        count, unit: how many units of what one call does; times are given for one unit.
        goals: what ours is to reach at the full size.
        least: the least work of one call; None: not counted.
    """

    name: str
    text: str
    inputs: Callable[[], Inputs]
    truth: Callable[[Inputs], Tensors]
    sides: dict[str, Side[Inputs]]
    tolerance: float | Callable[[Inputs], float]
    error: Literal["largest", "norm"] = "largest"
    count: int = 1
    unit: str = "call"
    goals: tuple[Goal, ...] = field(default=())
    least: Callable[[Inputs], Least] | None = None


def largest_error(actual: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest error of a tensor over the largest entry of its truth; infinite for NaN or another shape."""
    return _worst(actual, truth, lambda x: float(x.abs().max()))


def norm_error(actual: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest ``||a - b|| / ||b||`` of a tensor; infinite for NaN or another shape."""
    return _worst(actual, truth, lambda x: float(x.norm()))


def _worst(actual: Sequence[Tensor], truth: Sequence[Tensor], size: Callable[[Tensor], float]) -> float:
    worst = 0.0
    for a, b in zip(actual, truth, strict=True):
        if a.shape != b.shape:
            return math.inf
        gap = size(a.to(b) - b) / (size(b) or 1.0)
        worst = max(worst, gap if gap == gap else math.inf)
    return worst


def with_gradient(outputs: Sequence[Tensor], x: Tensor, upstream: Sequence[Tensor] | None = None) -> Tensors:
    """The outputs, and the gradient of x for upstream gradients (of the scalars alone: 1)."""
    gradient = torch.autograd.grad(outputs, x, upstream)
    return [*(output.detach() for output in outputs), *gradient]


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function as a user would compile a step of fixed shapes."""
    return torch.compile(function, fullgraph=True, dynamic=False)
