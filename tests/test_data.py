"""fastdd.data: open_dataset, images, batches, sample, on small folders and archives made here."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import batches_of, pixels
from torch import Tensor
from torchvision.io import encode_jpeg, encode_png

from fastdd.data import open_dataset, real_sample
from fastdd.errors import InputError
from fastdd.runtime import memory


def picture(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)


def png(image: Tensor) -> bytes:
    return encode_png(image).numpy().tobytes()


def write(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of 3 and 2 training images and one test image each, written in an unsorted order."""
    names = ["train/dog/b.png", "train/cat/10.png", "train/cat/9.png", "train/dog/a.PNG", "train/cat/x.png"]
    for seed, name in enumerate([*names, "val/dog/t.png", "val/cat/t.png"]):
        write(tmp_path / "pets", name, png(picture(seed)))
    return tmp_path / "pets"


def pack(root: Path, target: Path, mode: Any = "w", top: str = "") -> Path:
    with tarfile.open(target, mode) as tar:
        tar.add(root, arcname=top or ".")
    return target


# -- order, labels, fingerprint -------------------------------------------------------------------


def test_class_order_and_labels(root: Path) -> None:
    data = open_dataset(root, "train")
    assert data.classes == ("cat", "dog")
    assert data.counts == (3, 2)
    assert list(data.names) == ["cat/10.png", "cat/9.png", "cat/x.png", "dog/a.PNG", "dog/b.png"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.labels.dtype == torch.int64
    images = pixels(data, None)
    assert images.is_contiguous()
    expected = [picture(seed) for seed in (1, 2, 4, 3, 0)]
    assert torch.equal(images, torch.stack(expected))


@pytest.mark.parametrize("split", ["test", "val"])
def test_val_serves_as_test(root: Path, split: str) -> None:
    data = open_dataset(root, split)  # type: ignore[arg-type]
    assert data.split == "test"
    assert torch.equal(pixels(data, None), torch.stack([picture(6), picture(5)]))


@pytest.mark.parametrize(
    ("name", "mode", "top"),
    [("a.tar", "w", ""), ("a.tar.gz", "w:gz", "pets"), ("a.tar.xz", "w:xz", "pets"), ("a.tar", "w", "pets")],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_archive_equals_folder(
    root: Path, tmp_path: Path, name: str, mode: str, top: str, split: str
) -> None:
    folder = open_dataset(root, split)  # type: ignore[arg-type]
    archive = open_dataset(pack(root, tmp_path / name, mode, top), split)  # type: ignore[arg-type]
    assert archive.names == folder.names
    assert archive.fingerprint == folder.fingerprint
    assert torch.equal(pixels(archive, None), pixels(folder, None))


def test_fingerprint(root: Path) -> None:
    before = open_dataset(root, "train").fingerprint
    files = sorted((root / "train").rglob("*.[pP][nN][gG]"), key=lambda path: (path.parent.name, path.name))
    lines = "".join(f"{path.parent.name}/{path.name}\0{path.stat().st_size}\n" for path in files)
    assert before == hashlib.sha256(f"train\n{lines}".encode()).hexdigest()
    assert open_dataset(root, "test").fingerprint != before
    (root / "train/cat/9.png").rename(root / "train/cat/99.png")
    assert open_dataset(root, "train").fingerprint != before


# -- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
def test_batches_cover_every_image_once_in_order(root: Path, batch_size: int) -> None:
    data = open_dataset(root, "train")
    batches = list(batches_of(data, batch_size, (4, 4), 1))
    assert [len(images) for images, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)
    assert torch.equal(torch.cat([images for images, _ in batches]), pixels(data, (4, 4), 1))


def test_threads_do_not_change_the_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(root, "train")
    one = pixels(data, None)
    data.reader.threads = 3
    assert torch.equal(pixels(data, None), one)
    stream = batches_of(data, 2, None)
    assert torch.equal(next(stream)[0], one[:2])
    stream.close()  # type: ignore[attr-defined]  # leaving early waits for nothing and leaks no thread


def test_indices_choose_and_order(root: Path) -> None:
    data = open_dataset(root, "train")
    everything = pixels(data, None)
    assert torch.equal(pixels(data, None, indices=torch.tensor([4, 0, 4])), everything[[4, 0, 4]])
    assert pixels(data, (5, 3), indices=[]).shape == (0, 3, 5, 3)
    with pytest.raises(InputError, match="5"):
        pixels(data, None, indices=[0, 5])
    with pytest.raises(InputError, match="-1"):
        pixels(data, None, indices=[-1])


def test_images_of_different_size_need_a_size(root: Path) -> None:
    write(root, "train/dog/c.png", png(picture(9, 8, 6)))
    data = open_dataset(root, "train")
    with pytest.raises(InputError, match=r"dog/c.png.*8 x 6.*6 x 6.*data\.size"):
        pixels(data, None)
    assert pixels(data, (6, 6)).shape == (6, 3, 6, 6)


def test_too_large_for_the_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(root, "train")
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    assert pixels(data, (6, 6)).shape == (5, 3, 6, 6)  # 540 of 600 bytes
    with pytest.raises(InputError, match=r"735 bytes.*600.*data\.size"):
        pixels(data, (7, 7))
    assert sum(len(images) for images, _ in batches_of(data, 2, (7, 7))) == 5


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, 4, 4)])
def test_impossible_sizes(root: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="height, width"):
        pixels(open_dataset(root, "train"), size)


def test_impossible_channels_and_batch_size(root: Path) -> None:
    data = open_dataset(root, "train")
    with pytest.raises(InputError, match="channels 2"):
        pixels(data, None, channels=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch size 0"):
        next(batches_of(data, 0, None))


def test_unreadable_image_is_named(root: Path) -> None:
    write(root, "train/cat/zz.png", png(picture(0))[:-20])
    data = open_dataset(root, "train")
    with pytest.raises(InputError, match=r"train/cat/zz.png.*cut short.*fastdd data check"):
        pixels(data, (6, 6))
    with pytest.raises(InputError, match=r"train/cat/zz.png"):
        list(batches_of(data, 2, (6, 6)))


def test_image_removed_after_opening(root: Path) -> None:
    data = open_dataset(root, "train")
    (root / "train/cat/x.png").unlink()
    with pytest.raises(InputError, match=r"train/cat/x.png.*cannot be read"):
        pixels(data, None)


# -- the sample of real images --------------------------------------------------------------------


def test_real_sample_is_grouped_seeded_and_nested() -> None:
    data = open_dataset("digits", "train")
    ten = real_sample(data, 10, seed=3).view(10, 10)
    assert torch.equal(data.labels[ten], torch.arange(10)[:, None].expand(10, 10))
    assert all(len(set(row.tolist())) == 10 for row in ten)
    assert torch.equal(real_sample(data, 4, seed=3).view(10, 4), ten[:, :4])
    assert not torch.equal(real_sample(data, 10, seed=4).view(10, 10), ten)


def test_real_sample_refuses_small_classes(root: Path) -> None:
    data = open_dataset(root, "train")
    assert sorted(real_sample(data, 2, 0)[2:].tolist()) == [3, 4]
    with pytest.raises(InputError, match=r"'dog' holds 2 images.*3"):
        real_sample(data, 3, 0)
    with pytest.raises(InputError, match="at least 1"):
        real_sample(data, 0, 0)


# -- digits ---------------------------------------------------------------------------------------


def test_digits() -> None:
    train, test = (open_dataset("digits", split) for split in ("train", "test"))
    assert len(train) + len(test) == 1797
    assert (len(train), len(test)) == (1438, 359)
    assert not set(train.names) & set(test.names)
    for a, b in zip(train.counts, test.counts, strict=True):
        assert b == round(0.2 * (a + b))
    images = pixels(train, None, 1)
    assert images.shape == (1438, 1, 8, 8)
    assert (int(images.min()), int(images.max())) == (0, 255)
    assert torch.equal(pixels(train, None, 3), images.expand(-1, 3, -1, -1))
    assert pixels(train, (32, 32)).shape == (1438, 3, 32, 32)
    # The split is frozen: another one would make results incomparable.
    assert hashlib.sha256("\n".join(test.names).encode()).hexdigest()[:16] == "65e4b745c543a73f"


# -- the machine -----------------------------------------------------------------------------------


def test_available_memory_is_plausible() -> None:
    available = memory.available_memory()
    assert available is None or 1e6 < available < 1e15


def test_processors() -> None:
    assert memory.processors() >= 1


def test_jpeg_named_png(root: Path) -> None:
    smooth = torch.full((3, 6, 6), 100, dtype=torch.uint8)
    write(root, "train/cat/y.png", encode_jpeg(smooth, quality=100).numpy().tobytes())
    data = open_dataset(root, "train")
    assert int((pixels(data, None, indices=[3])[0].int() - 100).abs().max()) <= 1
