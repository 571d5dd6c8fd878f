"""Wy x Wxt for banded matrices: resizing, as a CPU does it best.

Each row of a resizing matrix has two or a few weights in a row of hundreds. A dense product multiplies all
the zeros, and a gather along an image row reads memory in single numbers. But an output row is a weighted sum
of a few whole source rows, long runs of memory: what ``embedding_bag`` does for words, the planes stacked
into one table of rows. The columns are the rows of the transposed planes, in chunks that stay in the cache
between the four steps:

    rows, transpose, columns, transpose

Cost: N C (S_h W t_h + S_w S_h t_w) multiply-adds, t the taps of an output row, where the dense product needs
N C (H W S_w + H S_h S_w). The gradient is the same product with the transposed matrices. All sums are in the
order of the source rows: two runs agree bitwise. The taps are listed on the host, so this is for a CPU; on a
GPU, and under ``torch.compile``, the dense product of ``resample.py`` needs no host and its shapes are
static.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .autograd import Context

_CHUNK = (
    1 << 20
)  # numbers worked on at a time, of the input or the output, whichever is more: 4 MB of float32

# -- reference -------------------------------------------------------------------------------------


def banded_product_reference(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The definition, in the precision of the input."""
    return rows.unsqueeze(1) @ x @ columns.mT.unsqueeze(1)


# -- one group of planes -----------------------------------------------------------------------------


class _Taps(NamedTuple):
    """The weights of a matrix that are not zero, row after row, for each of a stack of planes."""

    source: Tensor  # row of the stack that a weight is for, [planes, weights]
    weight: Tensor  # the same for each plane
    first: Tensor  # number of the first weight of each output row, [planes, S]


def _taps(matrix: Tensor, planes: int) -> _Taps:
    used = matrix.ne(0)
    source, count = used.nonzero()[:, 1], used.sum(1)
    plane = torch.arange(planes).unsqueeze(1)
    first = count.cumsum(0) - count + plane * len(source)
    return _Taps(source + plane * matrix.shape[1], matrix[used].repeat(planes, 1), first)


def _weigh(taps: _Taps, x: Tensor) -> Tensor:
    """matrix [S, H] @ x [P, H, W], for as many planes as the taps are listed for, or fewer."""
    source, weight, first = (part[: len(x)].flatten() for part in taps)
    sums = torch.embedding_bag(x.reshape(-1, x.shape[2]), source, first, False, 0, False, weight)[0]
    return sums.view(len(x), -1, x.shape[2])


def _fill(out: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> None:
    """out [P, S_h, S_w] = rows [S_h, H] @ x [P, H, W] @ columns [S_w, W]^T"""
    planes = min(max(_CHUNK // max(out[0].numel(), x[0].numel()), 1), len(x))
    row_taps, column_taps = _taps(rows, planes), _taps(columns, planes)
    for start in range(0, len(x), planes):
        tall = _weigh(row_taps, x[start : start + planes])
        out[start : start + planes] = _weigh(column_taps, tall.mT).mT


# -- autograd --------------------------------------------------------------------------------------


class _BandedProduct(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        out = x.new_empty(*x.shape[:2], rows.shape[1], columns.shape[1])
        for group in range(len(x) if out.numel() else 0):
            _fill(out[group], x[group], rows[group], columns[group])
        return out

    @staticmethod
    def setup_context(ctx: Context[None], inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Context[None], *grads: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.saved_tensors
        return _BandedProduct.apply(grads[0], rows.mT, columns.mT), None, None


def banded_product(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows[g] @ x[g, p] @ columns[g].T`` for each plane p of each group g.

    For CPU tensors outside ``torch.compile``. Linear in x, and differentiable in x any number of times; the
    matrices are constants.

    Args:
        x: planes [G, P, H, W].
        rows, columns: [G, S_h, H] and [G, S_w, W] in the dtype of x; fast where most weights are 0, right in
            any case.

    Returns:
        [G, P, S_h, S_w].
    """
    product: Tensor = _BandedProduct.apply(x, rows.detach(), columns.detach())
    return product
