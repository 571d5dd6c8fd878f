"""Calls of the Triton launchers that between them reach every kernel, flag and entry of the tile tables.

What the binary is held to (test_aot.py) follows from names: a kernel with "dot" in its name must use tensor
cores. A call with "odd" in its own need not load 16 bytes at once, nor need a kernel with "resample", which
gathers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from fastdd_kernels.accumulate import staircase_size
from fastdd_kernels.gpu.accumulate import join_tiles
from fastdd_kernels.gpu.moments import moments_bwd, moments_fwd
from fastdd_kernels.gpu.pairs import TILES, pair_tile
from fastdd_kernels.gpu.resample import resample_pass

# channels, pixels of an image: ResNet-18's layers at 32 x 32, a stem at 224 x 224, odd ones
ACTIVATIONS = [(64, 1024), (256, 64), (512, 16), (64, 12544), (33, 77)]


def _moments(channels: int, pixels: int, dtype: torch.dtype, last: bool, kind: str) -> None:
    shape = (4, pixels, channels) if last else (4, channels, pixels)
    x = torch.empty(shape, dtype=dtype)
    x = x.mT if last else x
    vector, row = torch.empty(channels), torch.empty(4, channels)
    normalize, residual = kind != "moments", x if kind == "residual" else None
    scale, grad_y = (vector, x) if normalize else (None, None)
    moments_fwd(x, vector, scale, scale, relu=normalize, residual=residual)
    moments_bwd(
        x,
        vector,
        scale,
        scale,
        relu=normalize,
        grad_y=grad_y,
        grad_mean=row,
        grad_mean_square=row,
        y=residual,
        grad_residual=residual,
    )


def _moments_name(channels: int, pixels: int, dtype: torch.dtype, last: bool, kind: str) -> str:
    odd = " odd" if channels % 2 else ""
    return f"{kind}{odd} {channels}x{pixels} {str(dtype)[6:]} {'channels-last' if last else 'contiguous'}"


_MOMENTS = [
    (channels, pixels, dtype, last, kind)
    for channels, pixels in ACTIVATIONS
    for dtype in (torch.float32, torch.bfloat16)
    for last in (True, False)
    for kind in ("batch norm", "residual", "moments")
    if kind != "moments" or (channels, pixels) == ACTIVATIONS[0]
]


def _pairs(rows: int, kind: str, precision: str, weighted: bool, dim: int = 512) -> None:
    x, y = torch.empty(2, rows, dim), torch.empty(2, 1000, dim)
    squares = torch.empty(2, rows), torch.empty(2, 1000)
    pair_tile(
        x, y, *squares, squares[1] if weighted else None, kind, 16 if weighted else None, precision, True
    )


def _accumulate(dim: int, dtype: torch.dtype) -> None:
    sums, means = torch.zeros(3, staircase_size(dim)), torch.zeros(3, dim, dtype=torch.float64)
    features, order = torch.zeros(256, dim, dtype=dtype), torch.arange(256)
    join_tiles(
        sums, means, torch.zeros(3, dtype=torch.int64), features, order=order, present=[0, 2], sizes=[200, 56]
    )


def _resample(
    shape: tuple[int, ...], size: tuple[int, int], columns: int, last: bool, dtype: torch.dtype
) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.empty(shape, dtype=dtype).contiguous(memory_format=layout)
    y = torch.empty(*shape[:2], *size, dtype=dtype).contiguous(memory_format=layout)
    parameters = torch.zeros(2, columns, dtype=torch.int64)
    resample_pass(x, parameters, y, transposed=False)
    resample_pass(y, parameters, x, transposed=True)


_RESAMPLED = [
    (shape, size, columns, last, dtype)
    for shape, size in (((100, 3, 224, 224), (224, 224)), ((2, 1, 33, 33), (7, 7)))
    for columns in (3, 7)
    for last in (True, False)
    for dtype in (torch.float32, torch.bfloat16)
]


CALLS: dict[str, Callable[[], object]] = {
    **{_moments_name(*arguments): partial(_moments, *arguments) for arguments in _MOMENTS},
    **{
        f"{kind} {precision} {rows}x1000x512{' weighted' if weighted else ''}": partial(
            _pairs, rows, kind, precision, weighted
        )
        for rows in TILES
        for precision in ("high", "fast")
        for kind, weighted in (("distance", True), ("absolute", False))
    },
    **{f"resample {arguments}": partial(_resample, *arguments) for arguments in _RESAMPLED},
    "accumulate float32": partial(_accumulate, 512, torch.float32),
    "accumulate bfloat16": partial(_accumulate, 2048, torch.bfloat16),
    "accumulate odd width": partial(_accumulate, 77, torch.float32),
    "distance high odd width": partial(_pairs, 64, "distance", "high", False, 77),
}
