"""The files of a distilled set, decoded on all processors; each file is decoded once."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor
from torchvision.transforms.functional import rgb_to_grayscale

from ..data.decode import decode, fit
from ..data.loading.base_loader import decoding_threads
from ..data.verify import BadImage
from ..errors import InputError
from ..runtime.console import counted
from ..runtime.memory import processors, require_memory
from ..runtime.progress import progress
from .images import how_to_redo, unreadable
from .layouts import ImageFiles


def decode_files(
    found: ImageFiles,
    size: int | None,
    channels: int,
    *,
    of_run: bool,
    shape: tuple[int, ...] | None = None,
    shown: str | None = None,
) -> Tensor:
    """Decode files, to uint8 [N, channels, H, W]; a run makes its own again where they are damaged.

    Args:
        shape: (channels, H, W) that all must have; None: that of the first file.
        shown: what a progress bar calls the set; None: there is none.
    """
    files = found.files
    if shape is None:
        shape = tuple(decode_file(found, 0, size, channels, of_run=of_run).shape)
    needed = len(files) * math.prod(shape)
    require_memory(
        needed,
        f"to hold {counted(len(files), 'image')} of {found.folder}",
        "ask for smaller images with --size or size=",
    )
    images = torch.empty((len(files), *shape), dtype=torch.uint8)

    def fill(number: int) -> None:
        image = decode_file(found, number, size, channels, of_run=of_run)
        if tuple(image.shape) != shape:
            here, there = (f"{height} x {width}" for _, height, width in (image.shape, shape))
            file = found.folder / files[number].path
            raise InputError(
                f"images differ in size: {file} is {here} pixels, others are {there}; "
                + (how_to_redo(file) if of_run else "give one size for all, with --size or size=")
            )
        images[number] = image

    pool = decoding_threads(processors())
    try:
        with nullcontext() if shown is None else progress(f"read {shown}", len(files)) as bar:
            for _ in pool.map(fill, range(len(files))):
                if bar is not None:
                    bar.advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def as_shown(images: Tensor, size: int | None, channels: int) -> Tensor:
    """Images [N, C, H, W] of a run in other channels, and where ``size`` is given at that size."""
    images = _in_channels(images, channels)
    return images if size is None else torch.stack([fit(image, (size, size)) for image in images])


def _in_channels(images: Tensor, channels: int) -> Tensor:
    """Images [N, C, H, W] in other channels: grey ones repeated to RGB, or the luminance of RGB."""
    if images.shape[1] == channels:
        return images
    return images.expand(-1, channels, -1, -1).contiguous() if channels == 3 else rgb_to_grayscale(images)


def decode_file(found: ImageFiles, number: int, size: int | None, channels: int, *, of_run: bool) -> Tensor:
    """Decode one file, to uint8 [channels, h, w]."""
    file = found.folder / found.files[number].path
    try:
        image = decode(found.read(found.files[number]), channels)
    except OSError as error:
        if of_run:
            raise unreadable(file, error) from error
        raise InputError(f"{file} cannot be read ({error.strerror}); replace it or remove it") from error
    except BadImage as error:
        remedy = how_to_redo(file) if of_run else "replace it or remove it"
        raise InputError(f"{file} {error}; {remedy}") from error
    return image if size is None else fit(image, (size, size))
