"""Crops of test images, and mosaics of them, are found in a set; honest sets show none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import write_png

from fastdd.config import Formation
from fastdd.data import Dataset, open_dataset
from fastdd.distilled import list_set
from fastdd.distilled.tiles import collage
from fastdd.evaluate.pieces import SAMPLE, NearestWindows, SetPieces, pieces_of, pixel_digests, windows_of
from fastdd.evaluate.validity import check_images, check_set
from fastdd.run_folder.results import Finding

SIDE = 32
CPU = torch.device("cpu")


def natural(count: int, seed: int) -> Tensor:
    """Random images with details of all sizes, uint8 [count, 3, SIDE, SIDE], unlike one another."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.randn(count, 3, grid, grid, generator=random) * 200 / grid, SIDE, mode="bicubic")
        for grid in (3, 6, 12)
    ]
    return (128 + sum(layers)).clamp(0, 255).byte()  # type: ignore[operator]


def written(images: Tensor, folder: Path) -> Path:
    """Write images into the folders of two classes."""
    for number, image in enumerate(images):
        of_class = folder / "ab"[2 * number // len(images)]
        of_class.mkdir(parents=True, exist_ok=True)
        write_png(image, str(of_class / f"{number:03}.png"))
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """A data set of 300 training images and 120 test images."""
    root = tmp_path_factory.mktemp("real")
    written(natural(300, seed=1), root / "train")
    written(natural(120, seed=2), root / "test")
    return open_dataset(root, "train"), open_dataset(root, "test")


def crops(images: Tensor, side: float) -> Tensor:
    """A part of each image, with a share of its side, resized back; each lies elsewhere."""
    length, parts = round(side * SIDE), []
    for number, image in enumerate(images):
        top, left = (number * step % (SIDE - length + 1) for step in (3, 5))
        part = image[None, :, top : top + length, left : left + length].float()
        parts.append(F.interpolate(part, SIDE, mode="bilinear", antialias=True).round().byte())
    return torch.cat(parts)


def mosaics(images: Tensor, tiles: int) -> Tensor:
    """Images of tiles x tiles others, as IDC starts from them."""
    return collage(images[: len(images) // tiles**2 * tiles**2], Formation(kind="cells", images=tiles**2))


MADE: dict[str, Callable[[Tensor], Tensor]] = {
    "crops of 90 %": lambda x: crops(x[:30], 0.9),
    "crops of 70 %": lambda x: crops(x[:30], 0.7),
    "crops of 60 %": lambda x: crops(x[:30], 0.6),
    "mirrored crops": lambda x: crops(x[:30], 0.75).flip(3),
    "mosaics of four": lambda x: mosaics(x, 2),
    "mosaics of nine": lambda x: mosaics(x, 3),
    "mosaics of four crops": lambda x: mosaics(crops(x, 0.8), 2),
    "mirrored mosaics of four": lambda x: mosaics(x, 2).flip(3),
}


@pytest.mark.parametrize("kind", MADE)
def test_pieces_of_test_images_are_found_and_those_of_training_images_are_not(
    kind: str, real: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    for seed, is_found in ((2, True), (1, False)):
        made = MADE[kind](natural({1: 300, 2: 120}[seed], seed))
        found = check_set(list_set(written(made, tmp_path / str(seed))), *real)
        leaks = [each.text for each in found if each.kind == "leak"]
        assert bool(leaks) == is_found
        if is_found:
            tiled = {"four": " tiles, 2 x 2 in an image,", "nine": " tiles, 3 x 3 in an image,"}
            what = next((text for word, text in tiled.items() if word in kind), " images")
            assert f"{what} are parts of test images, far nearer" in leaks[-1]


def test_the_test_image_of_a_piece_is_named(real: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    made = mosaics(natural(120, seed=2), 2)
    (finding,) = check_set(list_set(written(made, tmp_path)), *real)
    assert finding.text.endswith(
        "tile 1 of a/000.png is of test image a/000.png; tile 2 of a/000.png is of test image a/001.png; "
        "tile 3 of a/000.png is of test image a/002.png; and more"
    )
    assert finding.text.startswith("120 of 120 tiles, 2 x 2 in an image,")
    assert "than to any part of 120 training images, as 0% of training images' are by chance" in finding.text


def test_a_mosaic_of_both_is_found_and_a_few_crops_are_not(
    real: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    both = natural(120, seed=2)
    both[::2] = natural(300, seed=1)[:60]
    (finding,) = check_set(list_set(written(mosaics(both, 2), tmp_path / "both")), *real)
    assert finding.text.startswith("60 of 120 tiles")
    honest, crop = natural(300, seed=1), crops(natural(120, seed=2), 0.8)
    for name, some in {
        "too few": torch.cat([honest[:8], crop[:2]]),
        "too small a share": torch.cat([honest[:60], crop[:4]]),
    }.items():
        assert check_set(list_set(written(some, tmp_path / name)), *real) == []


def test_plain_pieces_are_near_to_all_plain_ones(tmp_path: Path) -> None:
    for split, count, grey in (("train", 120, 99), ("test", 60, 100)):
        images = natural(count, seed=count)
        images[::4] = grey
        written(images, tmp_path / split)
    own = natural(40, seed=5)
    own[..., : SIDE // 2] = 100
    splits = (open_dataset(tmp_path, split) for split in ("train", "test"))
    assert check_set(list_set(written(own, tmp_path / "set")), *splits) == []


def test_where_training_images_have_twins_among_the_test_images_honest_sets_are_not_accused(
    tmp_path: Path,
) -> None:
    frames = natural(240, seed=3)
    written(frames, tmp_path / "train")
    written(crops(frames[::2], 0.9), tmp_path / "test")
    train, test = (open_dataset(tmp_path, split) for split in ("train", "test"))
    listed = list_set(written(crops(frames[:60], 0.7), tmp_path / "set"))
    assert check_set(listed, train, test) == []
    # without the twins of the other training images, this is what a set of test images shows
    written(natural(240, seed=4), tmp_path / "other" / "train")
    (finding,) = check_set(listed, open_dataset(tmp_path / "other", "train"), test)
    assert "are parts of test images" in finding.text


def test_sets_are_looked_at_together_as_one_by_one(real: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    train, test = real
    made = {
        "honest": natural(300, seed=1)[:20],
        "crops": crops(natural(120, seed=2)[:20], 0.8),
        "mosaics": mosaics(natural(120, seed=2), 2),
    }
    sets = {name: list_set(written(images, tmp_path / name)) for name, images in made.items()}

    def checked(*names: str) -> dict[str, list[Finding]]:
        return check_images({name: sets[name] for name in names}, [test], train, device=CPU)

    together = checked(*sets)
    assert together == {name: checked(name)[name] for name in sets}
    assert [len(each) for each in together.values()] == [0, 1, 1]


def test_distances_are_those_of_the_nearest_windows() -> None:
    own, shown = (natural(count, seed=count)[:, :, 4:28, 4:28] for count in (5, 120))
    pieces = pieces_of(own)
    assert pieces.shape == (5, 14, 48)
    torch.testing.assert_close(pieces[:, 0], windows_of(own)[:, 0])
    cells = own[:, :, :12, 12:].float().unfold(2, 3, 3).unfold(3, 3, 3).mean((4, 5)) - 127.5
    torch.testing.assert_close(pieces[:, 2], cells.flatten(1))  # the upper right one of 2 x 2 tiles
    nearest = NearestWindows(pieces, CPU)
    for part in shown.split(70):
        nearest.compare(part)
    windows = windows_of(shown)
    assert windows.shape == (120, 55, 48)
    both = torch.stack([pieces, pieces_of(own.flip(3))[:, _mirrored()]])
    distance = torch.cdist(both.flatten(0, 2), windows.flatten(0, 1)) / 48**0.5
    least, place = distance.view(2, 70, 120, 55).amin((0, 3)).min(1)
    torch.testing.assert_close(nearest.distance, least, atol=1e-2, rtol=0)
    assert torch.equal(nearest.image, place)


def _mirrored() -> list[int]:
    """The places of the pieces of an image among those of the mirrored one."""
    order, first = list[int](), 0
    for tiles in (1, 2, 3):
        rows = torch.arange(first, first + tiles**2).view(tiles, tiles)
        order += rows.flip(1).flatten().tolist()
        first += tiles**2
    return order


@pytest.mark.parametrize(("size", "pieces"), [((8, 8), 5), ((12, 40), 14), ((5, 3), 1), ((1, 1), 1)])
def test_tiles_have_a_pixel_for_each_cell(size: tuple[int, int], pieces: int) -> None:
    images = torch.full((2, 1, *size), 200, dtype=torch.uint8)
    torch.testing.assert_close(pieces_of(images), torch.full((2, pieces, 16), 72.5))
    torch.testing.assert_close(windows_of(images), torch.full((2, 55, 16), 72.5))


def test_of_a_large_set_some_images_are_looked_at() -> None:
    images = torch.arange(3 * SAMPLE).remainder(256).byte().view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    pieces = SetPieces(pixel_digests(images), images.__getitem__, str)
    assert len(set(pieces.rows)) == len(pieces.rows) == SAMPLE
    assert torch.equal(pieces.all[:, 0, 0] + 127.5, images[pieces.rows, 0, 0, 0].float())


def test_all_images_of_a_set_decide_which_are_looked_at() -> None:
    """So a set cannot be arranged such that its test images are none of them."""
    images = torch.arange(3 * SAMPLE).remainder(256).byte().view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    first, again = (SetPieces(pixel_digests(images), images.__getitem__, str).rows for _ in range(2))
    images[-1, 0, 0, 0] += 1
    assert first == again != SetPieces(pixel_digests(images), images.__getitem__, str).rows
