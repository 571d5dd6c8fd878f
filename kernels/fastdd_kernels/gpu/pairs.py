"""Triton kernel of a block of pairs: products, distances, row sums and gradient weights in one launch.

See ``..pairs`` for the formulas. The n x k products never reach memory; only their weights W do, when a
gradient is wanted, since W y is a plain matrix product that the matrix library does best.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..dispatch import dot_precision

# rows of x a program owns -> (columns, warps, pipeline stages); checked ahead of time for register spills
TILES = {16: (128, 4, 3), 32: (64, 4, 3), 64: (64, 8, 3), 128: (64, 8, 3)}

# -- kernel ----------------------------------------------------------------------------------------


@triton.jit
def _round_to_tf32(x):
    # Half of the last place kept is added before the rest is cut; the tensor cores would only cut. A NaN
    # whose bits are all ones, as CUDA makes them, would become zero.
    bits = x.to(tl.int32, bitcast=True) + 0x1000
    return tl.where(x != x, x, (bits & ~0x1FFF).to(tl.float32, bitcast=True))


@triton.jit
def _pair_dot_kernel(
    x_ptr,
    y_ptr,
    x_square_ptr,
    y_square_ptr,
    weight_ptr,
    sums_ptr,
    slope_ptr,
    n,
    k,
    D,
    diagonal,
    stride_xg,
    stride_xn,
    stride_xd,
    stride_yg,
    stride_yk,
    stride_yd,
    stride_xsg,
    stride_xsn,
    stride_ysg,
    stride_ysk,
    stride_wg,
    stride_wk,
    tolerance,
    DISTANCE: tl.constexpr,
    EXCLUDE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SLOPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    # One program owns a tile of pairs and the only entry of its rows in its column of sums: no atomics.
    g = tl.program_id(2).to(tl.int64)
    i = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    in_i, in_j = i < n, j < k
    row, column = i.to(tl.int64), j.to(tl.int64)
    x_ptr += g * stride_xg + row[:, None] * stride_xn
    y_ptr += g * stride_yg + column[None, :] * stride_yk
    product = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        at = d.to(tl.int64)
        x = tl.load(x_ptr + at[None, :] * stride_xd, mask=in_i[:, None] & (d < D)[None, :], other=0.0)
        y = tl.load(y_ptr + at[:, None] * stride_yd, mask=(d < D)[:, None] & in_j[None, :], other=0.0)
        if PRECISION == "tf32":
            x, y = _round_to_tf32(x), _round_to_tf32(y)
        product = tl.dot(x, y, product, input_precision=PRECISION)
    if DISTANCE:
        x_square = tl.load(x_square_ptr + g * stride_xsg + row * stride_xsn, mask=in_i, other=0.0)
        y_square = tl.load(y_square_ptr + g * stride_ysg + column * stride_ysk, mask=in_j, other=0.0)
        scale = x_square[:, None] + y_square[None, :]
        square = scale - 2.0 * product
        none = square <= tolerance * scale  # false for NaN, which must survive
    else:
        none = product == 0.0
    if EXCLUDE:
        none = none | (i[:, None] == j[None, :] + diagonal)
    if DISTANCE:
        # sqrt_rn, since the plain one is an approximation
        pairs = tl.where(none, 0.0, tl.sqrt_rn(tl.where(none, 1.0, square)))
        slope = tl.where(none, 0.0, 1.0 / tl.where(none, 1.0, pairs))
    else:
        pairs = tl.where(none, 0.0, tl.abs(product))
        slope = tl.where(none, 0.0, tl.where(product > 0.0, 1.0, -1.0))
    if WEIGHTED:
        weight = tl.load(weight_ptr + g * stride_wg + column * stride_wk, mask=in_j, other=0.0)[None, :]
        pairs *= weight
        slope *= weight
    inside = in_i[:, None] & in_j[None, :]
    sums = tl.sum(tl.where(inside, pairs, 0.0), axis=1)
    blocks = tl.num_programs(0)
    tl.store(sums_ptr + (g * n + row) * blocks + tl.program_id(0), sums, mask=in_i)
    if SLOPE:
        tl.store(slope_ptr + (g * n + row)[:, None] * k + column[None, :], slope, mask=inside)


# -- launcher --------------------------------------------------------------------------------------


def tiles(n: int, dim: int) -> dict[str, int]:
    """Tile of a program for n rows of x: few rows, as of a distilled class, waste no tensor core."""
    # Rows that do not begin on 16 bytes are read number by number, each with an address in a register.
    block_d = 32 if dim % 4 == 0 else 16
    block_n = next(size for size in TILES if size >= min(n, max(TILES)))
    block_k, warps, stages = TILES[block_n]
    return {
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "BLOCK_D": block_d,
        "num_warps": warps,
        "num_stages": stages,
    }


def pair_tile(
    x: Tensor,
    y: Tensor,
    x_square: Tensor,
    y_square: Tensor,
    weight: Tensor | None,
    kind: str,
    diagonal: int | None,
    precision: str,
    need_slope: bool,
) -> tuple[Tensor, Tensor | None]:
    """Sums [G, n] over a block of y [G, k, D], and W [G, n, k]; all float32, any strides."""
    (G, n, D), k = x.shape, y.shape[1]
    meta = tiles(n, D)
    grid = (triton.cdiv(k, meta["BLOCK_K"]), triton.cdiv(n, meta["BLOCK_N"]), G)
    slope = x.new_empty(G, n, k) if need_slope else None
    sums = x.new_empty(G, n, grid[0])
    if 0 in grid:
        return sums.sum(-1), slope
    weight_strides = (0, 0) if weight is None else weight.stride()
    with torch.cuda.device_of(x):
        _pair_dot_kernel[grid](
            x,
            y,
            x_square,
            y_square,
            weight,
            sums,
            slope,
            n,
            k,
            D,
            diagonal or 0,
            *x.stride(),
            *y.stride(),
            *x_square.stride(),
            *y_square.stride(),
            *weight_strides,
            4 * torch.finfo(torch.float32).eps,
            DISTANCE=kind == "distance",
            EXCLUDE=diagonal is not None,
            WEIGHTED=weight is not None,
            SLOPE=need_slope,
            PRECISION=dot_precision(precision),
            **meta,
        )
    return sums.sum(-1), slope
