"""Crops and mosaics of test images in a set: pieces that lie far nearer to a test image than by chance.

An image is looked at whole, in 2 x 2 and in 3 x 3 tiles. Each such piece, plain and mirrored, is sought in 55
windows of each test image, whose sides are 100, 90, 80, 70 and 60 % of the image's, and in those of as many
training images. Compared are the means of 4 x 4 cells, which resizing and saving anew hardly change. A piece
lies far nearer to a test image where its distance from the nearest window of any is less than ``NEARER`` of
that from the nearest window of the training images.

Chance is measured in the same data: pieces of training images that are not among those are sought as well.
Where training images have twins among the test images, as in the frames of a film, or where all images are
much alike, these are near to test images too, and a set must show far more.

Cost: a piece takes 2 x 55 x 16 C multiplications for each real image, so the 14 pieces of an image in color
take 73,920. A hundred images against the 10,000 test images of CIFAR-10 and as many training images take
3e11, with the hundred that show chance; 50,000 against 50,000 and 50,000 would take 4e14. The finding is
about a share of the images, so at most ``SAMPLE`` of a set are looked at: 2.2e12. In memory are the pieces,
64 C bytes each, and the distances of some of them from the windows of some images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..data import Dataset, open_loader
from ..run_folder.results import Finding
from ..runtime.console import counted
from ..runtime.precision import float32_products
from ..runtime.progress import progress
from .leaks import BATCH, SHOWN

TILINGS = 1, 2, 3
"""tiles along a side of an image; 1: the whole image"""
SIDES = 1.0, 0.9, 0.8, 0.7, 0.6
"""sides of windows, as parts of those of the image; there are 1, 2, ... 5 of them along a side"""
CELLS = 4
"""cells along the side of a piece, whose means are compared"""
NEARER = 0.6
"""part of the distance from the training images below which a test image is far nearer"""
GREY_LEVEL = 1.0
"""added to the distance from a test image, so that plain pieces, which are near to all plain ones, are far
nearer to none"""
MORE = 0.1
"""share of pieces, beyond twice that of training images, from which it is said"""
FEWEST = 3
"""images whose pieces are so, from which it is said"""
SAMPLE = 200
"""images of a set whose pieces are looked at, at most"""
CHANCE = 100
"""training images whose pieces show chance, at most"""
IMAGES = 50
"""real images whose windows are compared together"""
ROWS = 1024
"""pieces that are compared together"""
Span = tuple[float, float]
"""first and last place along a side, in pixels"""


def tilings_of(height: int, width: int) -> list[int]:
    """The tilings of images of a size whose tiles have a pixel for each cell; the whole is always one."""
    return [tiles for tiles in TILINGS if tiles == 1 or min(height, width) // tiles >= CELLS]


def pieces_of(images: Tensor) -> Tensor:
    """Means of the cells of the pieces of images [N, C, H, W], about the middle grey: float32 [N, P, 16 C].

    The pieces are the whole image, then the tiles from left to right and from top to bottom. The first tiles
    have a pixel more where their number does not divide the side (see distilled/tiles.py).
    """
    height, width = images.shape[2:]
    return torch.cat(
        [
            _means(images, *(_tiles(side, tiles) for side in (height, width)))
            for tiles in tilings_of(height, width)
        ],
        dim=1,
    )


def windows_of(images: Tensor) -> Tensor:
    """The same of the windows of images: float32 [N, 55, 16 C]."""
    height, width = images.shape[2:]
    return torch.cat(
        [
            _means(images, *(_windows(length, side, number) for length in (height, width)))
            for number, side in enumerate(SIDES, 1)
        ],
        dim=1,
    )


def _tiles(length: int, tiles: int) -> list[Span]:
    sides = [length // tiles + (place < length % tiles) for place in range(tiles)]
    return list(pairwise(accumulate(sides, initial=0)))


def _windows(length: int, side: float, number: int) -> list[Span]:
    free = (1 - side) * length
    starts = [free * place / max(1, number - 1) for place in range(number)]
    return [(start, start + side * length) for start in starts]


def _means(images: Tensor, rows: Sequence[Span], columns: Sequence[Span]) -> Tensor:
    """Means of the cells of all pairs of spans, float32 [N, len(rows) * len(columns), 16 C]."""
    N, C, H, W = images.shape
    down, across = (_cells(spans, length).to(images.device) for spans, length in ((rows, H), (columns, W)))
    means = down @ (images.float() - 255 / 2) @ across.T
    means = means.view(N, C, len(rows), CELLS, len(columns), CELLS).permute(0, 2, 4, 1, 3, 5)
    return means.reshape(N, len(rows) * len(columns), C * CELLS**2)


def _cells(spans: Sequence[Span], length: int) -> Tensor:
    """The matrix that takes the means of the cells of spans: float32 [len(spans) * CELLS, length]. A pixel
    counts by the part of it that lies in the cell."""
    pixels, steps = torch.arange(length + 1).double(), torch.arange(CELLS + 1).double() / CELLS
    first, last = torch.tensor(spans, dtype=torch.float64)[:, :, None].unbind(1)
    bounds = (first + (last - first) * steps)[:, :, None]
    inside = torch.minimum(pixels[1:], bounds[:, 1:]) - torch.maximum(pixels[:-1], bounds[:, :-1])
    inside = inside.clamp(min=0)
    return (inside / inside.sum(2, keepdim=True)).flatten(0, 1).float()


class NearestWindows:
    """Of some pieces, the nearest windows of the images that were compared so far.

    Args:
        pieces: float32 [..., 16 C].
        device: where distances are computed.

    Attributes:
        distance: float32 [P], root mean square of the difference of the cells' means, in grey levels.
        image: int64 [P], whose window it is, counted from the first image that was compared.
    """

    def __init__(self, pieces: Tensor, device: torch.device) -> None:
        plain = pieces.flatten(0, -2).to(device)
        mirrored = plain.unflatten(1, (-1, CELLS)).flip(2).flatten(1)
        self._pieces, self._squares = torch.stack([plain, mirrored]), plain.square().sum(1)
        self.distance = torch.full((len(plain),), torch.inf, device=device)
        self.image = torch.zeros(len(plain), dtype=torch.int64, device=device)
        self._compared = 0

    @float32_products("fp32")
    def compare(self, images: Tensor) -> None:
        """Compare with the windows of further images, uint8 [B, C, H, W]."""
        for part in images.split(IMAGES):
            windows = windows_of(part.to(self.distance.device))
            each, windows = windows.shape[1], windows.flatten(0, 1)
            squares = windows.square().sum(1)
            for first in range(0, len(self.distance), ROWS):
                rows = slice(first, first + ROWS)
                for pieces in self._pieces:
                    # |p - w|^2 = |p|^2 + (|w|^2 - 2 p w)
                    least, place = torch.addmm(squares, pieces[rows], windows.T, alpha=-2).min(1)
                    distance = ((least + self._squares[rows]).clamp(min=0) / windows.shape[1]).sqrt()
                    nearer = distance < self.distance[rows]
                    self.distance[rows] = distance.where(nearer, self.distance[rows])
                    self.image[rows] = (self._compared + place // each).where(nearer, self.image[rows])
            self._compared += len(part)


def pixel_digests(images: Tensor) -> list[bytes]:
    """The sha256 of the pixels of each image, uint8 [N, C, H, W]."""
    return [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]


class SetPieces:
    """Pieces of some images of a set.

    All of its images together decide which they are, so that nobody can put images where none are drawn.

    Args:
        digests: sha256 of the pixels of each image.
        images_of: gives the images at some positions, uint8 [N, C, H, W].
        name_of: gives the name of an image by its position.

    Attributes:
        rows: positions of the images that are drawn, ascending.
        all: their pieces, float32 [len(rows), P, 16 C].
    """

    def __init__(
        self, digests: Sequence[bytes], images_of: Callable[[Tensor], Tensor], name_of: Callable[[int], str]
    ) -> None:
        seed = int.from_bytes(hashlib.sha256(b"".join(digests)).digest()[:8], "big")
        self.rows, self.name_of = sorted(_order(len(digests), seed)[:SAMPLE]), name_of
        self.all = pieces_of(images_of(torch.tensor(self.rows)))

    def are_not(self, known: Collection[int]) -> Tensor:
        """Which of the images that are drawn are none of those: bool [len(rows), 1]."""
        return torch.tensor([row not in known for row in self.rows])[:, None]


class PieceSearch:
    """Looks for pieces of sets among the windows of test images, and of as many training images.

    Args:
        sets: pieces of each set.
        train: training images; those that show chance are decoded here.
        tests: the splits whose images will be compared, one after the other.
        shape: (C, H, W) of the images.
        resize: as for open_loader.
        device: where distances are computed.

    Raises:
        InputError: a training image cannot be read.
    """

    def __init__(
        self,
        sets: Mapping[str, SetPieces],
        train: Dataset,
        tests: Sequence[Dataset],
        shape: tuple[int, int, int],
        *,
        resize: int | None,
        device: torch.device,
    ) -> None:
        self._sets, self._train, self._tests, self._shape, self._resize = sets, train, tests, shape, resize
        # the training images that show chance, and those that are compared
        order, showing = _order(len(train)), min(CHANCE, len(train) // 2)
        self._compared = order[showing : showing + sum(map(len, tests))]
        chance = torch.cat([pieces_of(images) for images in self._training(order[:showing])])
        pieces = [*(each.all for each in sets.values()), chance]
        self._counts = [len(each) for each in pieces]
        self._test, self._of_train = (NearestWindows(torch.cat(pieces), device) for _ in range(2))

    def compare(self, images: Tensor) -> None:
        """Compare with the next test images, uint8 [B, C, H, W]."""
        self._test.compare(images)

    def far_nearer(self) -> tuple[Tensor, ...]:
        """Which pieces of each set, and last of the training images that show chance, lie far nearer to a
        test image: bool [N, P], on the CPU. Call it once, after all test images; training images are decoded.

        Raises:
            InputError: a training image cannot be read.
        """
        with progress(f"compare {self._train.split}", len(self._compared)) as bar:
            for images in self._training(self._compared):
                self._of_train.compare(images)
                bar.advance(len(images))
        return self._by_set(self._test.distance + GREY_LEVEL < NEARER * self._of_train.distance)

    def findings(
        self, near: Sequence[Tensor], known: Mapping[str, Collection[int]]
    ) -> dict[str, list[Finding]]:
        """What is found in each set.

        Args:
            near: what far_nearer found.
            known: positions of the images of each set that are told as copies of test images.
        """
        *of_sets, chance = near
        nearest = self._by_set(self._test.image)
        names = [f"{test.split} image {name}" for test in self._tests for name in test.names]
        return {
            name: self._finding(each, some & each.are_not(known[name]), chance, image, names)
            for (name, each), some, image in zip(self._sets.items(), of_sets, nearest[:-1], strict=True)
        }

    def _finding(
        self, pieces: SetPieces, near: Tensor, chance: Tensor, nearest: Tensor, names: Sequence[str]
    ) -> list[Finding]:
        """What is found in a set; of several tilings the clearest is told.

        Args:
            near, chance: bool [N, P], which pieces of the set, and of training images, lie far nearer to a
                test image.
            nearest: int64 [N, P], the nearest test image of each piece of the set.
            names: names of the test images.
        """
        tilings, said = tilings_of(*self._shape[1:]), list[tuple[float, str]]()
        columns = [tiles**2 for tiles in tilings]
        parts = (rows.split(columns, dim=1) for rows in (near, chance, nearest))
        for tiles, some, by_chance, image in zip(tilings, *parts, strict=True):
            share, usual = (float(each.float().mean()) for each in (some, by_chance))
            if share < MORE + 2 * usual or int(some.any(1).sum()) < FEWEST:
                continue
            found, name_of = some.nonzero().tolist(), pieces.name_of
            pairs = "; ".join(
                f"{f'tile {tile + 1} of ' if tiles > 1 else ''}{name_of(pieces.rows[row])} is of "
                f"{names[int(image[row, tile])]}"
                for row, tile in found[:SHOWN]
            )
            more = "; and more" if len(found) > SHOWN else ""
            tiled = f"{some.numel()} tiles, {tiles} x {tiles} in an image,"
            text = (
                f"{len(found)} of {tiled if tiles > 1 else counted(len(some), 'image')} are parts of test "
                f"images, far nearer to one than to any part of {len(self._compared)} training images, as "
                f"{usual:.0%} of training images' are by chance: {pairs}{more}"
            )
            said.append((share, text))
        return [Finding(kind="leak", text=max(said)[1])] if said else []

    def _by_set(self, of_pieces: Tensor) -> tuple[Tensor, ...]:
        """What is known of each piece, for each set and then for chance: [N, P], on the CPU."""
        return of_pieces.cpu().view(sum(self._counts), -1).split(self._counts)

    def _training(self, rows: Sequence[int]) -> Iterator[Tensor]:
        """Some training images, decoded in batches."""
        channels, *size = self._shape
        loader = open_loader(
            self._train,
            BATCH,
            (size[0], size[1]),
            1 if channels == 1 else 3,
            resize=self._resize,
            indices=sorted(rows),
            backend="torchvision",
        )
        return (batch.images for batch in loader)


def _order(count: int, seed: int = 0) -> list[int]:
    """All positions, in an order that the seed decides."""
    random = torch.Generator().manual_seed(seed % 2**63)
    order: list[int] = torch.randperm(count, generator=random).tolist()
    return order
