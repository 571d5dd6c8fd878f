"""Triton kernels of the spatial moments, with or without the frozen BatchNorm that rides on the same read.

See ``..moments`` for the formulas. Any strides, contiguous or channels-last, without a copy. Memory bound: x
is read once and y written once forward; x and grad_y are read once and grad_x written once backward.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 8192  # bytes of a program's tile: with 128 threads, four 16-byte loads each
_WALK = 16  # tiles that a program walks over before another program takes the rest of a contiguous image

# -- kernels ---------------------------------------------------------------------------------------


@triton.jit
def _moments_fwd_kernel(
    x_ptr,
    shift_ptr,
    scale_ptr,
    bias_ptr,
    residual_ptr,
    y_ptr,
    mean_ptr,
    mean_square_ptr,
    N,
    C,
    HW,
    stride_xn,
    stride_xc,
    stride_xs,
    stride_yn,
    stride_yc,
    stride_ys,
    stride_rn,
    stride_rc,
    stride_rs,
    NORMALIZE: tl.constexpr,
    RELU: tl.constexpr,
    RESIDUAL: tl.constexpr,
    WHOLE: tl.constexpr,
    SPAN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    # One program owns BLOCK_C channels of one image and a span of space: no atomics, so the
    # sums are taken in the same order every time.
    blocks = tl.cdiv(C, BLOCK_C)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(1)
    in_c = c < C
    shift = tl.load(shift_ptr + c, mask=in_c, other=0.0).to(ACC)
    if NORMALIZE:
        scale = tl.load(scale_ptr + c, mask=in_c, other=0.0).to(ACC)
        bias = tl.load(bias_ptr + c, mask=in_c, other=0.0).to(ACC)
    x_ptr += n * stride_xn + c.to(tl.int64)[:, None] * stride_xc
    y_ptr += n * stride_yn + c.to(tl.int64)[:, None] * stride_yc
    if RESIDUAL:
        residual_ptr += n * stride_rn + c.to(tl.int64)[:, None] * stride_rc
    total = tl.zeros((BLOCK_C, BLOCK_S), ACC)
    total_square = tl.zeros((BLOCK_C, BLOCK_S), ACC)
    for start in tl.range(0, SPAN, BLOCK_S, num_stages=STAGES):
        s = part * SPAN + start + tl.arange(0, BLOCK_S)
        inside = in_c[:, None] & (s < HW)[None, :]
        x = tl.load(x_ptr + s.to(tl.int64)[None, :] * stride_xs, mask=inside, other=0.0)
        centered = tl.where(inside, x.to(ACC) - shift[:, None], 0.0)  # [BLOCK_C, BLOCK_S]
        total += centered
        total_square += centered * centered
        if NORMALIZE:
            y = centered * scale[:, None] + bias[:, None]
            if RESIDUAL:
                beside = residual_ptr + s.to(tl.int64)[None, :] * stride_rs
                y += tl.load(beside, mask=inside, other=0.0).to(ACC)
            if RELU:
                y = tl.where(y <= 0.0, 0.0, y)  # NaN stays NaN
            at = y_ptr + s.to(tl.int64)[None, :] * stride_ys
            tl.store(at, y.to(y_ptr.dtype.element_ty), mask=inside)
    out = (part.to(tl.int64) * N + n) * C + c
    mean = tl.sum(total, axis=1) / HW
    if WHOLE:
        mean += shift
    tl.store(mean_ptr + out, mean, mask=in_c)
    tl.store(mean_square_ptr + out, tl.sum(total_square, axis=1) / HW, mask=in_c)


@triton.jit
def _moments_bwd_kernel(
    x_ptr,
    shift_ptr,
    scale_ptr,
    bias_ptr,
    grad_y_ptr,
    grad_mean_ptr,
    grad_mean_square_ptr,
    y_ptr,
    grad_x_ptr,
    grad_residual_ptr,
    C,
    HW,
    stride_xn,
    stride_xc,
    stride_xs,
    stride_yn,
    stride_yc,
    stride_ys,
    stride_gn,
    stride_gc,
    stride_gs,
    stride_on,
    stride_oc,
    stride_os,
    stride_mn,
    stride_mc,
    stride_qn,
    stride_qc,
    NORMALIZE: tl.constexpr,
    RELU: tl.constexpr,
    RESIDUAL: tl.constexpr,
    SPAN: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    STAGES: tl.constexpr,
    ACC: tl.constexpr,
):
    blocks = tl.cdiv(C, BLOCK_C)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(1)
    in_c = c < C
    shift = tl.load(shift_ptr + c, mask=in_c, other=0.0).to(ACC)
    # The gradients of means over the batch are one row for all images: strides of 0 are usual.
    of_mean = tl.load(grad_mean_ptr + n * stride_mn + c * stride_mc, mask=in_c, other=0.0)
    of_square = tl.load(grad_mean_square_ptr + n * stride_qn + c * stride_qc, mask=in_c, other=0.0)
    offset = of_mean.to(ACC) / HW
    slope = 2.0 * of_square.to(ACC) / HW
    if NORMALIZE:
        scale = tl.load(scale_ptr + c, mask=in_c, other=0.0).to(ACC)
        bias = tl.load(bias_ptr + c, mask=in_c, other=0.0).to(ACC)
    channel = c.to(tl.int64)[:, None]
    x_ptr += n * stride_xn + channel * stride_xc
    grad_y_ptr += n * stride_yn + channel * stride_yc
    grad_x_ptr += n * stride_gn + channel * stride_gc
    if RESIDUAL:
        y_ptr += n * stride_on + channel * stride_oc
        grad_residual_ptr += n * stride_on + channel * stride_oc
    for start in tl.range(0, SPAN, BLOCK_S, num_stages=STAGES):
        s = part * SPAN + start + tl.arange(0, BLOCK_S)
        inside = in_c[:, None] & (s < HW)[None, :]
        pixel = s.to(tl.int64)[None, :]
        centered = tl.load(x_ptr + pixel * stride_xs, mask=inside, other=0.0).to(ACC) - shift[:, None]
        grad = offset[:, None] + slope[:, None] * centered
        if NORMALIZE:
            grad_y = tl.load(grad_y_ptr + pixel * stride_ys, mask=inside, other=0.0).to(ACC)
            if RESIDUAL:
                y = tl.load(y_ptr + pixel * stride_os, mask=inside, other=0.0).to(ACC)
                grad_y = tl.where(y <= 0.0, 0.0, grad_y)
                beside = grad_residual_ptr + pixel * stride_os
                tl.store(beside, grad_y.to(grad_residual_ptr.dtype.element_ty), mask=inside)
            elif RELU:
                grad_y = tl.where(centered * scale[:, None] + bias[:, None] <= 0.0, 0.0, grad_y)
            grad += grad_y * scale[:, None]
        tl.store(grad_x_ptr + pixel * stride_gs, grad.to(grad_x_ptr.dtype.element_ty), mask=inside)


# -- launchers: plain tensors in, plain tensors out ------------------------------------------------


def tiles(
    channels: int, pixels: int, channels_last: bool, itemsize: int, *, residual: bool = False
) -> dict[str, int]:
    """Tile of a program, the span of pixels it walks over, and how many tiles are on their way at a time."""
    # Rows that do not begin on 16 bytes are read number by number, each with an address in a register.
    whole = _TILE // itemsize if (channels if channels_last else pixels) % 16 == 0 else _TILE // 8
    size = whole // 2 if residual else whole  # a residual's numbers are in registers too
    longest = triton.next_power_of_2(pixels)
    if channels_last:
        # 64 channels of a pixel are a whole line of memory, or two; blocks of fewer would share one.
        block_c = min(triton.next_power_of_2(channels), 64)
        block_s, span = min(longest, size // block_c), min(longest, whole)
    else:
        block_s, span = min(longest, size // 4), min(longest, _WALK * (whole // 4))
        block_c = min(triton.next_power_of_2(channels), size // block_s, 128)
    # With these numbers of tiles on their way no target spills.
    return {"BLOCK_C": block_c, "BLOCK_S": block_s, "SPAN": span, "STAGES": 3 if itemsize == 2 else 2}


def _launch(x: Tensor, residual: bool) -> tuple[tuple[int, int], dict[str, int | tl.dtype]]:
    N, C, HW = x.shape
    meta = tiles(C, HW, x.stride(1) == 1 and C > 1, x.element_size(), residual=residual)
    # Programs that run together read neighbouring blocks of channels, which share the pages of their pixels.
    grid = (triton.cdiv(C, meta["BLOCK_C"]) * N, triton.cdiv(HW, meta["SPAN"]))
    return grid, {**meta, "ACC": tl.float64 if x.dtype == torch.float64 else tl.float32}


def moments_fwd(
    x: Tensor,
    shift: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    N, C, HW = x.shape
    grid, meta = _launch(x, residual is not None)
    y = x.new_empty(0) if scale is None else torch.empty_like(x)
    mean, mean_square = (shift.new_empty(grid[1], N, C) for _ in range(2))
    with torch.cuda.device_of(x):
        _moments_fwd_kernel[grid](
            x,
            shift,
            scale,
            bias,
            residual,
            y,
            mean,
            mean_square,
            N,
            C,
            HW,
            *x.stride(),
            *(y.stride() * 3)[:3],
            *(x if residual is None else residual).stride(),
            NORMALIZE=scale is not None,
            RELU=relu,
            RESIDUAL=residual is not None,
            WHOLE=grid[1] == 1,
            **meta,
        )
    if grid[1] == 1:
        return y, mean[0], mean_square[0]
    return y, mean.sum(0) + shift, mean_square.sum(0)


def moments_bwd(
    x: Tensor,
    shift: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    relu: bool,
    grad_y: Tensor | None,
    grad_mean: Tensor,
    grad_mean_square: Tensor,
    y: Tensor | None = None,
    grad_residual: Tensor | None = None,
) -> Tensor:
    """The gradient by x; with the rectified result y, that by the residual is written to grad_residual.

    y and grad_residual have the same strides.
    """
    _, C, HW = x.shape
    grid, meta = _launch(x, y is not None)
    grad_x = torch.empty_like(x)
    upstream = x if grad_y is None else grad_y
    with torch.cuda.device_of(x):
        _moments_bwd_kernel[grid](
            x,
            shift,
            scale,
            bias,
            upstream,
            grad_mean,
            grad_mean_square,
            y,
            grad_x,
            grad_residual,
            C,
            HW,
            *x.stride(),
            *upstream.stride(),
            *grad_x.stride(),
            *(x if y is None else y).stride(),
            *grad_mean.stride(),
            *grad_mean_square.stride(),
            NORMALIZE=grad_y is not None,
            RELU=relu,
            RESIDUAL=y is not None,
            **meta,
        )
    return grad_x
