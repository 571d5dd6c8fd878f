"""Small pictures of distilled images: `python docs/generators/gallery.py RUN [ARM ...] --out docs/gallery`.

For each arm of a run folder, or for those that are named, one row with the first image of each of ten
classes, enlarged without smoothing. Images of a formation are unpacked, as students see them. A picture has
about 30 kB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fastdd.report.sheets import Tile, open_tile
from fastdd.run_folder import RunFolder, read_recipe

IMAGES, SIDE, GAP = 10, 64, 2
"""images in a row; pixels of a side, at least; pixels between two"""


def strip(files: Sequence[Tile]) -> Image.Image:
    """A row of images."""
    images = [open_tile(file) for file in files]
    factor = max(1, -(-SIDE // images[0].width))
    side = min(images[0].width * factor, SIDE)
    row = Image.new("RGB", (len(images) * (side + GAP) - GAP, side), "white")
    for place, image in enumerate(images):
        resampling = Image.Resampling.BOX if image.width > side else Image.Resampling.NEAREST
        row.paste(image.resize((side, side), resampling), (place * (side + GAP), 0))
    return row


def write(run: Path, arms: Sequence[str], out: Path) -> list[Path]:
    """Write a picture of each arm.

    Args:
        arms: names of arms of the run; empty: all that have images.

    Raises:
        fastdd.errors.InputError: it is no run, or an image cannot be read.
    """
    folder, written = RunFolder(run), []
    recipe = read_recipe(folder)
    for arm in arms or sorted(each.name for each in (run / "images").iterdir()):
        method = recipe.arms.get(arm)
        formation = None if method is None else method.formation
        classes = sorted(each for each in (run / "images" / arm).iterdir() if each.is_dir())[:IMAGES]
        firsts = [min(each.iterdir()) for each in classes]
        picture = strip([Tile(first, formation) for first in firsts])
        file = out / f"{arm.replace('+', '-')}.png"
        picture.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            file, optimize=True
        )
        written.append(file)
    return written


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("arms", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    arguments = parser.parse_args()
    for file in write(arguments.run, arguments.arms, arguments.out):
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
