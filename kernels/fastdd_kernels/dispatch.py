"""Which implementation serves a tensor: Triton kernels on a GPU, PyTorch elsewhere.

Kernels are checked without a GPU in Triton's interpreter: with TRITON_INTERPRET=1 in the environment before
Triton is imported, :data:`interpret_on_cpu` sends CPU tensors to them as well. That is for tests; it is slow.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = HAS_TRITON and os.environ.get("TRITON_INTERPRET") == "1"

interpret_on_cpu = False


def uses_triton(x: Tensor) -> bool:
    """Whether a Triton kernel serves x; if not, the PyTorch form does."""
    return HAS_TRITON and (x.is_cuda or (INTERPRETED and interpret_on_cpu))


def dot_precision(precision: str) -> str:
    """``input_precision`` of ``tl.dot`` for float32 operands; never Triton's default.

    The default, tf32, truncates its operands: one-sided errors of percents in the distances of a tight
    cluster. "high" is six products of bfloat16 parts, as exact as float32; on AMD, whose matrix cores take
    float32, that. "fast" expects operands already rounded to TF32 where there is such an arithmetic.
    """
    if INTERPRETED or torch.version.hip:
        return "ieee"
    return "bf16x6" if precision == "high" else "tf32"
