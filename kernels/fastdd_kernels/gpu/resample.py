"""Triton kernels of resampling: crop, resize, flip and roll in one pass over the images, and its gradient.

See ``..resample`` for the weights; they are computed here from the draw, which the host need not know. Either
pass gathers: a program owns a tile of what it writes, of several planes that share a draw, and reads what
belongs there. So there are no atomics and sums have one order. Any strides, without a copy. Memory bound
where a tap or two of an axis count: what is read more than once lies in the cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = 1 << 14
"""pixels of a side up to which 32-bit integers hold the weights"""
_PLANES = 4  # planes of a program at most, which share the work of finding the weights

# -- kernels ---------------------------------------------------------------------------------------


@triton.jit
def _triangle(row, pixel, size, length):
    # Weight, not yet normalized, of a pixel of the crop [length] in a row of the result [size].
    distance = tl.abs((2 * pixel + 1) * size - (2 * row + 1) * length)
    weight = tl.maximum(2 * tl.maximum(size, length) - distance, 0)
    return tl.where((pixel >= 0) & (pixel < length) & (row >= 0) & (row < size), weight, 0)


@triton.jit
def _first(row, size, length):
    # The first pixel with a weight in a row; with size and length swapped, the first row of a pixel.
    room = (2 * row + 1) * length - 2 * tl.maximum(size, length) - size
    return tl.where(room < 0, 0, room // (2 * size) + 1)


@triton.jit
def _total(row, size, length, TAPS: tl.constexpr):
    pixel = _first(row, size, length)
    total = pixel * 0
    for tap in range(TAPS):
        total += _triangle(row, pixel + tap, size, length)
    return total


@triton.jit
def _share(weight, total, ACC: tl.constexpr):
    # Divided with one rounding, so that a whole crop keeps each pixel as it is.
    weight, total = weight.to(ACC), tl.maximum(total, 1).to(ACC)
    if weight.dtype == tl.float64:
        share = weight / total
    else:
        share = tl.div_rn(weight, total)
    return share


@triton.jit
def _wrap(index, size):
    index = index % size
    return tl.where(index < 0, index + size, index)


@triton.jit
def _place(height, width, planes, BLOCK_P: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr):
    # Group, planes of it, and rows and columns of the tile that a program writes.
    across, down = tl.cdiv(width, BLOCK_X), tl.cdiv(height, BLOCK_Y)
    tile, rest = tl.program_id(0) % (across * down), tl.program_id(0) // (across * down)
    chunks = tl.cdiv(planes, BLOCK_P)
    plane = rest % chunks * BLOCK_P + tl.arange(0, BLOCK_P)
    row = tile // across * BLOCK_Y + tl.arange(0, BLOCK_Y)
    column = tile % across * BLOCK_X + tl.arange(0, BLOCK_X)
    return rest // chunks, plane, row, column


@triton.jit
def _draw(parameters_ptr, group, height, width, CROP: tl.constexpr):
    # (flip, roll_y, roll_x, top, left, height, width) of a group.
    if CROP:
        draw_ptr = parameters_ptr + group.to(tl.int64) * 7
        top, left = tl.load(draw_ptr + 3).to(tl.int32), tl.load(draw_ptr + 4).to(tl.int32)
        height, width = tl.load(draw_ptr + 5).to(tl.int32), tl.load(draw_ptr + 6).to(tl.int32)
    else:
        draw_ptr = parameters_ptr + group.to(tl.int64) * 3
        top, left = group * 0, group * 0
        height, width = group * 0 + height, group * 0 + width
    flip, roll_y = tl.load(draw_ptr).to(tl.int32), tl.load(draw_ptr + 1).to(tl.int32)
    return flip, roll_y, tl.load(draw_ptr + 2).to(tl.int32), top, left, height, width


@triton.jit
def _planes(plane, group, images, channels, stride_n, stride_c):
    # Where the planes of a group begin, [BLOCK_P, 1, 1].
    n = group.to(tl.int64) * images + plane // channels
    return (n * stride_n + (plane % channels).to(tl.int64) * stride_c)[:, None, None]


@triton.jit
def _pixels(row, column, stride_h, stride_w):
    # Where pixels lie in a plane, [1, BLOCK_Y, BLOCK_X].
    rows, columns = row.to(tl.int64) * stride_h, column.to(tl.int64) * stride_w
    return rows[None, :, None] + columns[None, None, :]


@triton.jit
def _resample_fwd_kernel(
    x_ptr,
    parameters_ptr,
    y_ptr,
    images,
    channels,
    H,
    W,
    S_h,
    S_w,
    stride_xn,
    stride_xc,
    stride_xh,
    stride_xw,
    stride_yn,
    stride_yc,
    stride_yh,
    stride_yw,
    CROP: tl.constexpr,
    MOVE: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
    ACC: tl.constexpr,
):
    planes = images * channels
    group, plane, row, column = _place(S_h, S_w, planes, BLOCK_P, BLOCK_Y, BLOCK_X)
    flip, roll_y, roll_x, top, left, height, width = _draw(parameters_ptr, group, H, W, CROP)
    in_plane = (plane < planes)[:, None, None]
    x_ptr += _planes(plane, group, images, channels, stride_xn, stride_xc)
    y = _wrap(row - roll_y, S_h)  # rows and columns of the resized crop that are read
    x = _wrap(column - roll_x, S_w)
    x = tl.where(flip != 0, S_w - 1 - x, x)
    if MOVE:
        result = tl.load(x_ptr + _pixels(y, x, stride_xh, stride_xw), mask=in_plane, other=0.0)
    else:
        first_y, first_x = _first(y, S_h, height), _first(x, S_w, width)
        total_y, total_x = _total(y, S_h, height, TAPS_Y), _total(x, S_w, width, TAPS_X)
        result = tl.zeros((BLOCK_P, BLOCK_Y, BLOCK_X), ACC)
        for tap_y in range(TAPS_Y):
            weight_y = _triangle(y, first_y + tap_y, S_h, height)
            line = tl.zeros((BLOCK_P, BLOCK_Y, BLOCK_X), ACC)
            for tap_x in range(TAPS_X):
                weight_x = _triangle(x, first_x + tap_x, S_w, width)
                from_y, from_x = top + first_y + tap_y, left + first_x + tap_x
                at = _pixels(from_y, from_x, stride_xh, stride_xw)
                there_y = (weight_y > 0) & (from_y >= 0) & (from_y < H)
                there_x = (weight_x > 0) & (from_x >= 0) & (from_x < W)
                counts = in_plane & there_y[None, :, None] & there_x[None, None, :]
                value = tl.load(x_ptr + at, mask=counts, other=0.0).to(ACC)
                line += value * _share(weight_x, total_x, ACC)[None, None, :]
            result += line * _share(weight_y, total_y, ACC)[None, :, None]
    y_ptr += _planes(plane, group, images, channels, stride_yn, stride_yc)
    inside = in_plane & (row < S_h)[None, :, None] & (column < S_w)[None, None, :]
    tl.store(y_ptr + _pixels(row, column, stride_yh, stride_yw), result.to(y_ptr.dtype.element_ty), inside)


@triton.jit
def _resample_bwd_kernel(
    grad_y_ptr,
    parameters_ptr,
    grad_x_ptr,
    images,
    channels,
    H,
    W,
    S_h,
    S_w,
    stride_yn,
    stride_yc,
    stride_yh,
    stride_yw,
    stride_xn,
    stride_xc,
    stride_xh,
    stride_xw,
    CROP: tl.constexpr,
    MOVE: tl.constexpr,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
    ACC: tl.constexpr,
):
    planes = images * channels
    group, plane, row, column = _place(H, W, planes, BLOCK_P, BLOCK_Y, BLOCK_X)
    flip, roll_y, roll_x, top, left, height, width = _draw(parameters_ptr, group, H, W, CROP)
    in_plane = (plane < planes)[:, None, None]
    grad_y_ptr += _planes(plane, group, images, channels, stride_yn, stride_yc)
    if MOVE:
        x = _wrap(tl.where(flip != 0, S_w - 1 - column, column) + roll_x, S_w)
        at = _pixels(_wrap(row + roll_y, S_h), x, stride_yh, stride_yw)
        result = tl.load(grad_y_ptr + at, mask=in_plane, other=0.0)
    else:
        pixel_y, pixel_x = row - top, column - left
        first_y, first_x = _first(pixel_y, height, S_h), _first(pixel_x, width, S_w)
        # As many rows and columns of the result as a pixel can count in; none where the crop misses the tile.
        touched = (tl.max(pixel_y, 0) >= 0) & (tl.min(pixel_y, 0) < height)
        touched &= (tl.max(pixel_x, 0) >= 0) & (tl.min(pixel_x, 0) < width)
        steps_y = tl.where(touched, tl.cdiv(2 * tl.maximum(S_h, height), height), 0)
        steps_x = tl.cdiv(2 * tl.maximum(S_w, width), width)
        result = tl.zeros((BLOCK_P, BLOCK_Y, BLOCK_X), ACC)
        for step_y in range(steps_y):
            y = first_y + step_y
            weight_y = _triangle(y, pixel_y, S_h, height)
            line = tl.zeros((BLOCK_P, BLOCK_Y, BLOCK_X), ACC)
            for step_x in range(steps_x):
                x = first_x + step_x
                weight_x = _triangle(x, pixel_x, S_w, width)
                share_x = _share(weight_x, _total(x, S_w, width, TAPS_X), ACC)
                x = _wrap(tl.where(flip != 0, S_w - 1 - x, x) + roll_x, S_w)
                at = _pixels(_wrap(y + roll_y, S_h), x, stride_yh, stride_yw)
                counts = in_plane & (weight_y > 0)[None, :, None] & (weight_x > 0)[None, None, :]
                line += tl.load(grad_y_ptr + at, mask=counts, other=0.0).to(ACC) * share_x[None, None, :]
            share_y = _share(weight_y, _total(y, S_h, height, TAPS_Y), ACC)
            result += line * share_y[None, :, None]
    grad_x_ptr += _planes(plane, group, images, channels, stride_xn, stride_xc)
    inside = in_plane & (row < H)[None, :, None] & (column < W)[None, None, :]
    at = _pixels(row, column, stride_xh, stride_xw)
    tl.store(grad_x_ptr + at, result.to(grad_x_ptr.dtype.element_ty), inside)


# -- launcher: plain tensors in, plain tensors out --------------------------------------------------


def resample_pass(x: Tensor, parameters: Tensor, out: Tensor, transposed: bool) -> None:
    """Resample images into ``out``, or transposed, write the gradient by the images there.

    Args:
        x: [N, C, H, W] with numbers, any float dtype and strides: images, or transposed, the gradient by
            resampled ones.
        parameters: contiguous integers [count, 7] or [count, 3] on the device of x.
        out: [N, C, height, width] in the dtype of x, any strides; no side, of x either, exceeds ``LARGEST``.
    """
    images, (height, width) = x.shape[0] // len(parameters), out.shape[2:]
    source, result = (out.shape[2:], x.shape[2:]) if transposed else (x.shape[2:], out.shape[2:])
    planes = min(triton.next_power_of_2(images * x.shape[1]), _PLANES)
    block_y, block_x = min(32 // planes, 8), 32  # more rows a thread would spill
    tiles = triton.cdiv(height, block_y) * triton.cdiv(width, block_x)
    grid = (len(parameters) * triton.cdiv(images * x.shape[1], planes) * tiles,)
    crop = parameters.shape[1] == 7
    kernel = _resample_bwd_kernel if transposed else _resample_fwd_kernel
    with torch.cuda.device_of(x):
        kernel[grid](
            x,
            parameters,
            out,
            images,
            x.shape[1],
            *source,
            *result,
            *x.stride(),
            *out.stride(),
            CROP=crop,
            MOVE=not crop and source == result,
            TAPS_Y=_taps(source[0], result[0]),
            TAPS_X=_taps(source[1], result[1]),
            BLOCK_P=planes,
            BLOCK_Y=block_y,
            BLOCK_X=block_x,
            ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
        )


def _taps(source: int, result: int) -> int:
    """Pixels that count in a row of the result at most, whatever the crop."""
    return -(-2 * max(source, result) // result)
