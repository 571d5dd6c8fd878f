"""Triton kernel that joins all classes of a batch to their running sums in one launch.

See ``..accumulate`` for the formulas. A program owns one tile of the lower half of one class's covariance: it
finds the means of its columns, centers, multiplies, and adds to the stored half; no atomics, a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import dot_precision

TILE = 64  # columns of the covariance on either side of a program's tile: the bands of the staircase
_ROWS = 16  # rows of the batch multiplied at a time

# -- kernel ----------------------------------------------------------------------------------------


@triton.jit
def _mean_in_two_parts(
    x_ptr,
    order_ptr,
    start,
    stop,
    columns,
    in_columns,
    stride_b,
    stride_d,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """First row of a class in this batch, and the mean of its rows about that one, [BLOCK_D] each.

    In float32 the mean itself would lose what the rows differ by when they are far from zero.
    """
    one = tl.load(order_ptr + start)
    pivot = tl.load(x_ptr + one * stride_b + columns * stride_d, mask=in_columns, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for first in range(start, stop, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        row = tl.load(order_ptr + r, mask=r < stop, other=0)
        inside = (r < stop)[:, None] & in_columns[None, :]
        x = tl.load(x_ptr + row[:, None] * stride_b + columns[None, :] * stride_d, mask=inside, other=0.0)
        total += tl.where(inside, x.to(tl.float32) - pivot[None, :], 0.0)
    return pivot, tl.sum(total, axis=0) / (stop - start)


@triton.jit
def _join_dot_kernel(
    x_ptr,
    order_ptr,
    table_ptr,
    mean_ptr,
    new_mean_ptr,
    sums_ptr,
    D,
    stairs,
    stride_b,
    stride_d,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    segment = tl.program_id(1)
    c = tl.load(table_ptr + 4 * segment)  # class, first and last row in order, rows seen before; int64
    start = tl.load(table_ptr + 4 * segment + 1)
    stop = tl.load(table_ptr + 4 * segment + 2)
    before = tl.load(table_ptr + 4 * segment + 3).to(tl.float32)
    count = (stop - start).to(tl.float32)
    # The tile's place in the lower triangle, from its number: t = i (i + 1) / 2 + j
    t = tl.program_id(0)
    i = ((tl.sqrt(8.0 * t + 1.0) - 1.0) / 2.0).to(tl.int32)
    i = tl.where(i * (i + 1) // 2 > t, i - 1, i)  # the root may be off by one place
    i = tl.where((i + 1) * (i + 2) // 2 <= t, i + 1, i)
    j = t - i * (i + 1) // 2
    low = (i * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)  # rows of the tile
    left = (j * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)  # its columns
    in_low, in_left = low < D, left < D
    pivot_low, offset_low = _mean_in_two_parts(
        x_ptr, order_ptr, start, stop, low, in_low, stride_b, stride_d, BLOCK_R, BLOCK_D
    )
    pivot_left, offset_left = _mean_in_two_parts(
        x_ptr, order_ptr, start, stop, left, in_left, stride_b, stride_d, BLOCK_R, BLOCK_D
    )
    product = tl.zeros((BLOCK_D, BLOCK_D), tl.float32)
    for first in range(start, stop, BLOCK_R):
        r = first + tl.arange(0, BLOCK_R)
        row = tl.load(order_ptr + r, mask=r < stop, other=0)
        inside = (r < stop)[None, :] & in_low[:, None]
        x = tl.load(x_ptr + row[None, :] * stride_b + low[:, None] * stride_d, mask=inside, other=0.0)
        a = tl.where(
            inside, x.to(tl.float32) - pivot_low[:, None] - offset_low[:, None], 0.0
        )  # [BLOCK_D, BLOCK_R]
        inside = (r < stop)[:, None] & in_left[None, :]
        x = tl.load(x_ptr + row[:, None] * stride_b + left[None, :] * stride_d, mask=inside, other=0.0)
        b = tl.where(inside, x.to(tl.float32) - pivot_left[None, :] - offset_left[None, :], 0.0)
        product = tl.dot(a, b, product, input_precision=PRECISION)
    # Chan's d = mean of these rows - running mean, in float64: both may be far from zero.
    mean_low = tl.load(mean_ptr + c * D + low, mask=in_low, other=0.0)
    mean_left = tl.load(mean_ptr + c * D + left, mask=in_left, other=0.0)
    step_low = pivot_low.to(tl.float64) - mean_low + offset_low.to(tl.float64)
    step_left = pivot_left.to(tl.float64) - mean_left + offset_left.to(tl.float64)
    weight = before * count / (before + count)
    product += weight * step_low.to(tl.float32)[:, None] * step_left.to(tl.float32)[None, :]
    # Band i of the staircase: i full ones before it, of BLOCK_D rows and up to i BLOCK_D columns.
    width = tl.minimum((i + 1) * BLOCK_D, D)
    at = sums_ptr + c * stairs + BLOCK_D * BLOCK_D * (i * (i + 1) // 2)
    at += (tl.arange(0, BLOCK_D) * width)[:, None] + left[None, :]
    inside = in_low[:, None] & in_left[None, :]
    tl.store(at, tl.load(at, mask=inside, other=0.0) + product, mask=inside)
    if j == 0:
        share = count.to(tl.float64) / (before + count).to(tl.float64)
        tl.store(new_mean_ptr + segment.to(tl.int64) * D + low, mean_low + step_low * share, mask=in_low)


# -- launcher --------------------------------------------------------------------------------------


def join_tiles(
    sums: Tensor,
    means: Tensor,
    counts: Tensor,
    features: Tensor,
    order: Tensor,
    present: list[int],
    sizes: list[int],
) -> None:
    """Joins a batch to the running statistics of its classes, in place.

    Args:
        sums: [classes, staircase_size(D)] float32; means: [classes, D] float64; counts: [classes] on the CPU,
            read.
        features: [B, D], float32 or half; order: [B] int64, rows of one class after those of another.
        present, sizes: the classes in that order, and how many rows each has.
    """
    if not present:
        return
    dim = features.shape[1]
    ends = torch.tensor(sizes).cumsum(0)
    table = torch.stack((torch.tensor(present), ends - torch.tensor(sizes), ends, counts[present]), 1)
    table = table.to(features.device, non_blocking=True)
    new_means = means.new_empty(len(present), dim)
    side = triton.cdiv(dim, TILE)
    with torch.cuda.device_of(features):
        _join_dot_kernel[(side * (side + 1) // 2, len(present))](
            features,
            order,
            table,
            means,
            new_means,
            sums,
            dim,
            sums.shape[1],
            *features.stride(),
            PRECISION=dot_precision("high"),
            BLOCK_R=_ROWS,
            BLOCK_D=TILE,
            num_warps=8,
        )
    means.index_copy_(0, table[:, 0], new_means)
