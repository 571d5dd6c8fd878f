"""The DALI graph that gives torchvision's pixels, and the two things in which DALI's resizing differs.

1. Geometry: sizes and crop anchors are rounded otherwise. They are computed by us and handed over.
2. The border: where an image shrinks, DALI repeats its border pixels outward, while torchvision leaves
   what is outside out of the mean; the outermost ring of the result differs by up to 14 of 255 levels.
   So the image is padded with zeros, which the filter reads, and the ring is divided by the share of the
   weights that fell on the image. A ring that the center crop cuts away is not paid for.

On a CPU the result is within one level of torchvision's, everywhere. Cost on a CPU: 1.5 times the processor
time of torchvision where the ring is cut away, 1.7 times for windows, 2.7 times for a center with its ring
(``fastdd bench loader``), which is why a CPU is not where DALI is chosen unasked.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from nvidia.dali import Pipeline, fn, types

Kind = Literal["stored", "center", "window"]

# Numpy dtype and dimensions of each input of an image.
INPUTS: dict[str, tuple[type[np.generic], int]] = {
    "data": (np.uint8, 1),  # the JPEG file
    "start": (np.int32, 1),  # (top, left) of the window
    "shape": (np.int32, 1),  # (height, width) of the window, or of the image
    "size": (np.float32, 1),  # (height, width) to resize to
    "anchor": (np.int32, 1),  # (top, left) of the center crop in what was resized
    "flip": (np.int32, 0),
    "pad": (np.int32, 1),  # zeros above and below, left and right
    "rows": (np.float32, 3),  # [H, 1, 1] factors for the ring
    "columns": (np.float32, 3),  # [1, W, 1]
}
DALI_TYPES = {np.uint8: types.UINT8, np.int32: types.INT32, np.float32: types.FLOAT}


def inputs(kind: Kind, ring: bool) -> tuple[str, ...]:
    """The names of what the graph is fed for each image."""
    if kind == "stored":
        return ("data",)
    wanted = ("data", "size", "anchor") if kind == "center" else ("data", "size", "start", "shape", "flip")
    return tuple(dict.fromkeys((*wanted, "shape", "pad", "rows", "columns"))) if ring else wanted


def build(
    kind: Kind,
    ring: bool,
    *,
    channels: int,
    size: tuple[int, int],
    batch_size: int,
    threads: int,
    gpu: int | None,
) -> Pipeline:
    """The graph from JPEGs to uint8 [channels, H, W]; fed and run batch by batch.

    Args:
        kind: decode only, resize and crop the center, or crop a window, resize and mirror it.
        ring: whether the border of an image may be seen in the result.
        batch_size: images of the largest batch that is fed.
        gpu: number of the device to decode on; None: the CPU.
    """
    pipeline = Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=gpu,
        prefetch_queue_depth=1,  # one batch is fed and runs while the one before is used
    )
    area = {"axes": (0, 1)}
    with pipeline:
        given = {}
        for name in inputs(kind, ring):
            dtype, dimensions = INPUTS[name]
            given[name] = fn.external_source(name=name, dtype=DALI_TYPES[dtype], ndim=dimensions)
        decoding = {
            "device": "cpu" if gpu is None else "mixed",
            "output_type": types.RGB if channels == 3 else types.GRAY,
            "adjust_orientation": False,
        }
        if kind == "window":
            # Decodes the window alone; its pixels are those of the whole.
            x = fn.decoders.image_slice(given["data"], given["start"], given["shape"], **area, **decoding)
        else:
            x = fn.decoders.image(given["data"], **decoding)
        region = {}
        if ring:
            pad, shape = given["pad"], given["shape"]
            x = fn.slice(x, -pad, shape + 2 * pad, **area, out_of_bounds_policy="pad", fill_values=0)
            first, last = (fn.cast(end, dtype=types.FLOAT) for end in (pad, pad + shape))
            region = {"roi_start": first, "roi_end": last, "dtype": types.FLOAT}
        if kind != "stored":
            x = fn.resize(x, size=given["size"], interp_type=types.INTERP_LINEAR, antialias=True, **region)
        if kind == "center":
            x = fn.slice(x, given["anchor"], list(size), **area)
        if ring:
            factors = [given["rows"], given["columns"]]
            rows, columns = factors if gpu is None else [factor.gpu() for factor in factors]
            x = fn.cast(x * rows * columns, dtype=types.UINT8)
        if kind == "window":
            x = fn.flip(x, horizontal=given["flip"])
        pipeline.set_outputs(fn.transpose(x, perm=[2, 0, 1]))
    pipeline.build()
    return pipeline


def padding(length: int, size: int) -> int:
    """Zeros needed beside ``length`` pixels that are resized to ``size``, so that the filter ends in them."""
    return math.ceil(length / size / 2) + 1 if length > size else 0


def ring_factors(length: int, size: int, start: int, extent: int) -> np.ndarray:
    """Factors that undo the zeros beside an image, along one axis on which it is resized.

    They are 1 except at the first and the last pixel of the whole, whose triangle filter reaches outside.

    Args:
        length: pixels of the image.
        size: pixels that it is resized to.
        start: first of the resized pixels that remain after the crop.
        extent: how many of them remain.

    Returns:
        float32 [extent].
    """
    factors = np.ones(extent, np.float32)
    scale = length / size
    if scale > 1:
        pixel = np.arange(-math.ceil(scale), math.ceil(2 * scale) + 1)
        weights = np.maximum(0, 1 - np.abs(pixel + 0.5 - 0.5 * scale) / scale)
        factor = weights.sum() / weights[(pixel >= 0) & (pixel < length)].sum()
        if start == 0:
            factors[0] = factor
        if start + extent == size:
            factors[-1] = factor
    return factors
