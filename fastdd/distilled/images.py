"""A distilled set on disk: images/<arm>/<class>/<slot>.png (or .jpg), which torchvision's ImageFolder loads.

With a formation a file holds several slots, and its number is that of their first one divided by how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import encode_jpeg, encode_png

from ..config import Method, Save
from ..data.decode import decode
from ..data.verify import BadImage
from ..errors import InputError
from ..run_folder import image_file
from ..runtime.files import write_bytes
from .formation import pack, unpack


def to_levels(images: Tensor, config: Save) -> Tensor:
    """Images in [0, 1] to uint8."""
    levels = images.clamp(0, 1) * 255
    return (levels.round() if config.rounding == "round" else levels).to(torch.uint8)


def save_images(
    folder: Path, classes: Sequence[str], rows: Sequence[tuple[int, int]], images: Tensor, config: Save
) -> None:
    """Write uint8 images [N, C, H, W], one folder a class."""
    for (c, slot), image in zip(rows, images.cpu().contiguous(), strict=True):
        encoded = encode_png(image) if config.format == "png" else encode_jpeg(image, config.quality)
        write_bytes(image_file(folder, classes[c], slot, config.format), bytes(encoded.numpy()))


def save_recovered(
    folder: Path, classes: Sequence[str], rows: Sequence[tuple[int, int]], images: Tensor, method: Method
) -> None:
    """Write images in [0, 1], [N, C, H, W], as the method has them written; of formations whole ones."""
    levels = to_levels(images, method.save)
    if (formation := method.formation) is not None:
        rows = [(c, slot // formation.images) for c, slot in rows[:: formation.images]]
        levels = pack(images, formation)
    save_images(folder, classes, rows, levels, method.save)


def load_recovered(
    folder: Path, classes: Sequence[str], slots: int, channels: int, method: Method
) -> tuple[Tensor, Tensor]:
    """What students see of a method's set: see load_images, with ``slots`` images a class."""
    if (formation := method.formation) is None:
        return load_images(folder, classes, slots, channels, method.save)
    stored, _ = load_images(folder, classes, slots // formation.images, channels, method.save)
    return unpack(stored, formation), torch.arange(len(classes)).repeat_interleave(slots)


def load_images(
    folder: Path, classes: Sequence[str], ipc: int, channels: int, config: Save
) -> tuple[Tensor, Tensor]:
    """(uint8 images [K * ipc, C, H, W], labels [K * ipc]) of a distilled set as stored, in class order.

    Raises:
        InputError: an image is missing, damaged or of another size than the first, or there is a folder of no
            class.
    """
    others = sorted({entry.name for entry in folder.glob("[!.]*/")} - set(classes))
    if others:
        raise InputError(
            f"{folder / others[0]} is of no class of the real images ({len(others)} such folders beside "
            f"{len(classes)} classes); move it away"
        )
    images: list[Tensor] = []
    again = f"delete {folder.parents[1] / 'recover' / folder.name} and start the same command again"
    for file in (image_file(folder, name, slot, config.format) for name in classes for slot in range(ipc)):
        try:
            image = decode(bytearray(file.read_bytes()), channels)
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}); {again}") from error
        except BadImage as error:
            raise InputError(f"{file} is damaged: it {error}; {again}") from error
        if images and image.shape != images[0].shape:
            here, there = (f"{height} x {width}" for _, height, width in (image.shape, images[0].shape))
            raise InputError(f"{file} is {here} pixels, the images before it are {there}; {again}")
        images.append(image)
    return torch.stack(images), torch.arange(len(classes)).repeat_interleave(ipc)
