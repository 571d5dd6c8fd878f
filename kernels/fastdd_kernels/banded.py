"""Wy x Wxt for banded matrices: resizing, as a CPU does it best.

Each row of a resizing matrix has two or a few weights in a row of hundreds. A dense product multiplies all the
zeros, a gather reads memory in single numbers. Between them: a block of 32 output rows reads one short range of
source rows, and the product of that range with its corner of the matrix is small, dense and in the cache.

Cost: about N C (h S_w + S_h S_w) (32 l + t) multiply-adds for a crop h x w resized to S_h x S_w, with l = w / S_w or
h / S_h the step between output rows and t the taps of one, where the dense product needs N C (H W S_w + H S_h S_w).
The gradient is the same product with the transposed matrices. Ranges are read on the host, so this is for a CPU;
on a GPU, and under ``torch.compile``, the dense product of ``resample.py`` needs no host and its shapes are static.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 32  # output rows that share one range of source rows
_PLANES = 48  # planes worked on at a time, 10 MB of 224 x 224

# -- reference -------------------------------------------------------------------------------------


def banded_product_reference(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The definition, in the precision of the input."""
    return rows.unsqueeze(1) @ x @ columns.mT.unsqueeze(1)


# -- one group of planes -----------------------------------------------------------------------------


Span = tuple[int, int]
"""first and one past the last"""


def _spans(weights: Tensor) -> list[Span | None]:
    """For each output row the source rows with a weight that is not zero, or None if there are none."""
    used = weights.ne(0).byte()
    first, last = used.argmax(1), weights.shape[1] - used.flip(1).argmax(1)
    spans = zip(first.tolist(), last.tolist(), used.any(1).tolist(), strict=True)
    return [(start, stop) if some else None for start, stop, some in spans]


def _union(spans: list[Span | None]) -> Span:
    there = [span for span in spans if span is not None]
    return (min(start for start, _ in there), max(stop for _, stop in there)) if there else (0, 0)


def _bands(spans: list[Span | None], start: int, stop: int) -> list[tuple[slice, slice]]:
    """Blocks of the output rows start to stop, each with its range of source rows."""
    middle = start + _BLOCK if stop - start > _BLOCK else (start + stop) // 2
    low, high = _union(spans[start:stop])
    if stop - start > 1:
        sizes = [(b - a) * (end - begin) for a, b, (begin, end) in _halves(spans, start, middle, stop)]
        # A roll tears a block in two that are far apart: halves, down to the tear, are then much the cheaper.
        if stop - start > _BLOCK or sum(sizes) < 0.5 * (stop - start) * (high - low):
            return _bands(spans, start, middle) + _bands(spans, middle, stop)
    return [(slice(start, stop), slice(low, high))]


def _halves(spans: list[Span | None], start: int, middle: int, stop: int) -> list[tuple[int, int, Span]]:
    return [(a, b, _union(spans[a:b])) for a, b in ((start, middle), (middle, stop))]


def _fill(out: Tensor, x: Tensor, rows: Tensor, columns: Tensor) -> None:
    """out [P, S_h, S_w] = rows [S_h, H] x [P, H, W] columns [S_w, W]^T"""
    row_spans, column_spans = _spans(rows), _spans(columns)
    row_bands, column_bands = _bands(row_spans, 0, len(row_spans)), _bands(column_spans, 0, len(column_spans))
    used = slice(*_union(row_spans))
    height = used.stop - used.start
    buffer = x.new_empty(min(_PLANES, len(x)), height, columns.shape[0])
    for start in range(0, len(x), _PLANES):
        part, target = x[start : start + _PLANES], out[start : start + _PLANES]
        count = len(part)
        wide = buffer[:count]
        for block, source in column_bands:
            weights = columns[block, source].T.expand(count, -1, -1)
            wide[:, :, block] = torch.bmm(part[:, used, source], weights)
        for block, source in row_bands:
            local = slice(source.start - used.start, source.stop - used.start)
            target[:, block] = torch.bmm(rows[block, source].expand(count, -1, -1), wide[:, local])


# -- autograd --------------------------------------------------------------------------------------


class _BandedProduct(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        out = x.new_empty(*x.shape[:2], rows.shape[1], columns.shape[1])
        with torch.autocast(x.device.type, enabled=False):
            for group in range(len(x)):
                _fill(out[group], x[group], rows[group], columns[group])
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.saved_tensors
        # Contiguous again: rows of numbers far apart are no matrix that the library takes.
        return _BandedProduct.apply(grads[0], rows.mT.contiguous(), columns.mT.contiguous()), None, None


def banded_product(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows[g] @ x[g, p] @ columns[g].T`` for each plane p of each group g; for CPU tensors outside ``torch.compile``.

    Linear in x, and differentiable in x any number of times; the matrices are constants.

    Args:
        x: planes [G, P, H, W].
        rows: [G, S_h, H]; columns: [G, S_w, W]; of the dtype of x. Fast where they are banded, right in any case.

    Returns:
        [G, P, S_h, S_w].
    """
    product: Tensor = _BandedProduct.apply(x, rows.detach(), columns.detach())
    return product
