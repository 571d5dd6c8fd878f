"""How many crops and mosaics of test images are found: `python benchmarks/hidden_test_images.py ROOT`.

Sets are made of the images of a data set: crops and mosaics of test images, which should be found, and honest
ones of training images. For each is told the share of its pieces, whole or tiles, that lie far nearer to a
test image (fastdd/evaluate/pieces.py), and whether the set is said to hold test images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdd.config import Formation
from fastdd.data import Dataset, open_dataset, open_loader
from fastdd.distilled import list_set
from fastdd.distilled.tiles import collage
from fastdd.evaluate.pieces import PieceSearch, SetPieces, pixel_digests, tilings_of

RANDOM = torch.Generator().manual_seed(1)


def uniform(low: float, high: float) -> float:
    """A random number."""
    return low + (high - low) * float(torch.rand((), generator=RANDOM))


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image [C, H, W] in other pixels, with antialiasing."""
    enlarged = F.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
    return enlarged[0].round().byte()


def crop(image: Tensor, side: float) -> Tensor:
    """A random square part of an image, with a share of its side, resized back."""
    return window(image, side, side)


def window(image: Tensor, down: float, across: float) -> Tensor:
    """A random part of an image, with shares of its height and width, resized back."""
    H, W = image.shape[1:]
    h, w = round(down * H), round(across * W)
    top, left = int(uniform(0, H - h + 1)), int(uniform(0, W - w + 1))
    return resized(image[:, top : top + h, left : left + w], H, W)


def rded_crop(image: Tensor, smallest: float = 0.08) -> Tensor:
    """A random part as RDED draws it: a share of the area from ``smallest`` on, and sides of 3:4 to 4:3."""
    while True:
        area, ratio = uniform(smallest, 1), math.exp(uniform(-1, 1) * math.log(4 / 3))
        down, across = math.sqrt(area / ratio), math.sqrt(area * ratio)
        if max(down, across) <= 1:
            return window(image, down, across)


def mosaics(images: Tensor, tiles: int) -> Tensor:
    """Images in tiles x tiles of smaller ones each, resized with antialiasing."""
    H, W = images.shape[2:]
    heights, widths = ([side // tiles + (k < side % tiles) for k in range(tiles)] for side in (H, W))
    made = []
    for group in images.split(tiles * tiles):
        bands = [
            torch.cat([resized(group[i * tiles + j], heights[i], widths[j]) for j in range(tiles)], dim=2)
            for i in range(tiles)
        ]
        made.append(torch.cat(bands, dim=1))
    return torch.stack(made)


def decoded(dataset: Dataset, count: int, size: tuple[int, int] | None) -> Tensor:
    """Random images of a split."""
    rows = torch.randperm(len(dataset), generator=RANDOM)[:count].tolist()
    return torch.cat(
        [batch.images for batch in open_loader(dataset, 500, size, 3, indices=rows, backend="torchvision")]
    )


def changed(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Images, each of which is changed."""
    return torch.stack([change(image) for image in images])


def sets_of(dataset: Dataset, other: Dataset, count: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """The sets made of a split, by name.

    Args:
        other: the split of half of the tiles of mixed mosaics.
    """

    def some(number: int = count) -> Tensor:
        return decoded(dataset, number, size)

    sets = {
        f"crops, {side:.0%} of the side": changed(some(), partial(crop, side=side))
        for side in (0.9, 0.8, 0.7, 0.6, 0.5)
    }
    sets["crops, 75 %, mirrored"] = changed(some(), lambda x: crop(x, 0.75)).flip(3)
    sets["crops as RDED's, 8 to 100 % of the area"] = changed(some(), rded_crop)
    for tiles in (2, 3):
        number, name = count * tiles * tiles, f"mosaics of {tiles} x {tiles}"
        sets[f"{name} whole images"] = mosaics(some(number), tiles)
        sets[f"{name}, as IDC starts"] = collage(some(number), Formation(kind="zoom", images=tiles * tiles))
        sets[f"{name} crops as RDED's"] = mosaics(changed(some(number), rded_crop), tiles)
        mixed, others = some(number), decoded(other, number, size)
        takes = torch.rand(number, generator=RANDOM) < 0.5
        mixed[takes] = others[takes]
        sets[f"{name} whole images, half of the other split"] = mosaics(mixed, tiles)
    return sets


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--images", type=int, default=100, help="images of each set")
    parser.add_argument("--size", type=int, default=32, help="side of images in pixels")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER", help="another set")
    parser.add_argument("--only", default="", help="sets whose name has this")
    arguments = parser.parse_args()
    train, test = (open_dataset(arguments.root, split) for split in ("train", "test"))
    size = (arguments.size, arguments.size)
    made = {f"test: {name}": images for name, images in sets_of(test, train, arguments.images, size).items()}
    honest = sets_of(train, train, arguments.images, size)
    made |= {f"training: {name}": images for name, images in honest.items() if "half" not in name}
    made["training: whole images"] = decoded(train, arguments.images, size)
    made = {name: images for name, images in made.items() if arguments.only in name}
    pieces = {
        name: SetPieces(pixel_digests(images), images.__getitem__, str) for name, images in made.items()
    }
    for given in arguments.set:
        name, _, folder = given.partition("=")
        listed = list_set(folder, size=arguments.size)
        digests = [digest for images in listed.batches(500) for digest in pixel_digests(images)]
        pieces[name] = SetPieces(digests, listed.rows, listed.name_of)
    search = PieceSearch(pieces, train, [test], (3, *size), resize=None, device=torch.device("cpu"))
    for batch in open_loader(test, 500, size, 3, backend="torchvision"):
        search.compare(batch.images)
    near = search.far_nearer()
    found = search.findings(near, dict.fromkeys(pieces, ()))
    print(f"{'set':64} {'whole':>7} {'2 x 2':>7} {'3 x 3':>7}  said")
    for name, rows in zip([*pieces, "chance"], near, strict=True):
        tilings = tilings_of(*size)
        parts = rows.split([tiles**2 for tiles in tilings], dim=1)
        shares = " ".join(f"{float(part.float().mean()):7.1%}" for part in parts)
        print(f"{name:64} {shares}  {'yes' if found.get(name) else 'no'}")


if __name__ == "__main__":
    main()
