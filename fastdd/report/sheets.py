"""Contact sheets: images pasted edge to edge into one picture, as a data URI.

Images of up to 64 pixels a side keep their pixels (lossless WebP); the page enlarges them without smoothing
and draws a grid over them. Larger images are reduced to 64 pixels, so that a page of many has a few MB.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..config import Formation
from ..distilled.formation import unpack
from ..distilled.images import how_to_redo, unreadable
from ..errors import InputError

LARGEST = 64


@dataclass(frozen=True)
class Tile:
    """An image of a sheet.

    Attributes:
        file: the file that holds it.
        formation: how the file holds several images (distilled/formation.py); None: it holds one.
        place: place of the image among those of the file, from 0.
    """

    file: Path
    formation: Formation | None = None
    place: int = 0


@dataclass(frozen=True)
class Sheet:
    """A grid of images in one picture.

    Attributes:
        rows, columns: images down and across.
        width, height: size of the picture in pixels.
        reduced: whether the images are smaller than in their files.
    """

    uri: str
    rows: int
    columns: int
    width: int
    height: int
    reduced: bool


def sheet(tiles: Sequence[Sequence[Tile]]) -> Sheet:
    """Paste images into one picture; all take the size of the first.

    Args:
        tiles: rows of images.

    Raises:
        InputError: an image is missing or unreadable; the file is named.
    """
    images = [[open_tile(tile) for tile in row] for row in tiles]
    width, height = images[0][0].size
    scale = min(1.0, LARGEST / max(width, height))
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.new("RGB", (cell[0] * len(images[0]), cell[1] * len(images)))
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            fitted = image if image.size == cell else image.resize(cell, Image.Resampling.BOX)
            picture.paste(fitted, (c * cell[0], r * cell[1]))
    buffer = io.BytesIO()
    if scale < 1:
        picture.save(buffer, "WEBP", quality=85, method=4)
    else:
        picture.save(buffer, "WEBP", lossless=True, quality=50, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Sheet(uri, len(images), len(images[0]), *picture.size, reduced=scale < 1)


def open_tile(tile: Tile) -> Image.Image:
    """An image of a sheet, as RGB.

    Raises:
        InputError: it is missing or unreadable; the file is named.
    """
    file = tile.file
    try:
        with Image.open(file) as image:
            if tile.formation is None:
                return image.convert("RGB")
            return _unpacked(image, tile.formation, tile.place)
    except OSError as error:
        if error.errno is not None:  # the system's, and not what PIL says of the content
            raise unreadable(file, error) from error
        raise InputError(f"{file} is not a readable image ({error}); {how_to_redo(file)}") from error


def _unpacked(image: Image.Image, formation: Formation, place: int) -> Image.Image:
    """The image at one place of a stored image, as RGB."""
    stored = torch.from_numpy(np.atleast_3d(np.asarray(image).copy())).permute(2, 0, 1)
    levels = unpack(stored[None], formation)[place].expand(3, -1, -1)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())
