"""fastdd.data: Tiny-ImageNet as it is distributed, unpacked and in a tar."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import pixels
from pictures import jpeg, picture, write

from fastdd.data import check, open_dataset, summary
from fastdd.errors import InputError

CLASSES = ("n01", "n02", "n03")
LABELS = {"val_0.JPEG": "n03", "val_1.JPEG": "n01", "val_2.JPEG": "n02", "val_3.JPEG": "n01"}


def annotated(labels: dict[str, str]) -> bytes:
    return "".join(f"{name}\t{label}\t0\t32\t44\t62\n" for name, label in labels.items()).encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of two training images, and four validation images; 8 x 8 JPEGs."""
    folder = tmp_path / "tiny-imagenet-200"
    write(folder, "wnids.txt", b"n03\nn01\nn02\n")
    write(folder, "words.txt", b"n01\tgoldfish\n")
    for label, name in enumerate(CLASSES):
        write(folder, f"train/{name}/{name}_boxes.txt", b"x")
        for i in range(2):
            write(folder, f"train/{name}/images/{name}_{i}.JPEG", jpeg(picture(2 * label + i, 8, 8)))
    for i, file in enumerate(LABELS):
        write(folder, f"val/images/{file}", jpeg(picture(10 + i, 8, 8)))
    write(folder, "val/val_annotations.txt", annotated(LABELS))
    write(folder, "test/images/test_0.JPEG", jpeg(picture(20, 8, 8)))
    return folder


def packed(root: Path, mode: Any = "w") -> Path:
    path = root.parent / f"tiny.{mode.replace(':', '')}"
    if mode == "zip":
        return Path(shutil.make_archive(str(root.parent / "tiny"), "zip", root.parent, root.name))
    with tarfile.open(path, mode) as archive:
        archive.add(root, arcname=root.name)
    return path


def message(root: str | Path, split: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root, split)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("mode", ["", "w", "w:gz", "w:xz", "zip"])
def test_classes_and_order(root: Path, mode: str) -> None:
    place = packed(root, mode) if mode else root
    train, test = open_dataset(place, "train"), open_dataset(place, "test")
    assert train.classes == test.classes == CLASSES  # sorted, unlike wnids.txt
    assert (train.counts, test.counts) == ((2, 2, 2), (2, 1, 1))
    assert train.names[:2] == ["n01/n01_0.JPEG", "n01/n01_1.JPEG"]
    assert test.names == ["n01/val_1.JPEG", "n01/val_3.JPEG", "n02/val_2.JPEG", "n03/val_0.JPEG"]
    for data, seeds in ((train, range(6)), (test, (11, 13, 12, 10))):
        for number, seed in enumerate(seeds):
            assert bytes(data.reader.encoded(number) or b"") == jpeg(picture(seed, 8, 8))
    assert pixels(train, None).shape == (6, 3, 8, 8)
    assert summary(test)["layout"] == "Tiny-ImageNet" + (
        f", {mode if mode == 'zip' else 'tar'}" if mode else ""
    )
    assert [split.fingerprint for split in (train, test)] == [
        open_dataset(root, split).fingerprint
        for split in ("train", "test")  # type: ignore[arg-type]
    ]
    assert check(place) == check(place, quick=True) == []


@pytest.mark.parametrize("inner", ["images/", ""])
def test_val_sorted_into_class_folders(root: Path, inner: str) -> None:
    before = open_dataset(root, "test")
    images = pixels(before, None)
    for name, label in LABELS.items():
        (root / f"val/{label}/{inner}").mkdir(parents=True, exist_ok=True)
        (root / f"val/images/{name}").rename(root / f"val/{label}/{inner}{name}")
    (root / "val/images").rmdir()
    after = open_dataset(root, "test")
    assert after.names == before.names
    assert after.fingerprint == before.fingerprint
    assert torch.equal(pixels(after, None), images)


@pytest.mark.parametrize("mode", ["", "w"])
def test_what_is_wrong(root: Path, mode: str) -> None:
    def refused(split: str) -> str:
        return message(packed(root, mode) if mode else root, split)

    lines = root / "val/val_annotations.txt"
    lines.write_bytes(annotated(LABELS | {"val_9.JPEG": "n01"}))
    assert "'val/images/val_9.JPEG' is named in val/val_annotations.txt but is not there" in refused("test")
    lines.write_bytes(annotated(LABELS | {"val_0.JPEG": "n99"}))
    assert "'val/val_annotations.txt:1' gives 'val_0.JPEG' the class 'n99', not in wnids.txt" in refused(
        "test"
    )
    lines.write_bytes(annotated(LABELS) + annotated({"val_0.JPEG": "n02"}))
    assert "gives 'val_0.JPEG' a second class" in refused("test")
    lines.write_bytes(annotated({name: label for name, label in LABELS.items() if name != "val_2.JPEG"}))
    assert "'val/images/val_2.JPEG' has no line in val/val_annotations.txt" in refused("test")
    assert len(open_dataset(root, "train")) == 6
    lines.unlink()
    assert "has no line" in refused("test")
    lines.write_bytes(annotated(LABELS))
    write(root, "train/n04/images/n04_0.JPEG", b"x")
    assert "'train/n04' is no class of wnids.txt" in refused("train")
    shutil.rmtree(root / "train/n04")
    write(root, "wnids.txt", b"n01 n02 n03 n05")
    assert "'train/n05' holds no images" in refused("train")
    write(root, "wnids.txt", b"n01 n02 n03")
    write(root, "train/n01/images/deep/x.JPEG", b"x")
    assert "is a folder inside a class folder" in refused("train")
    shutil.rmtree(root / "train/n01/images/deep")
    write(root, "train/n01/images/x.gif", b"x")
    assert "'train/n01/x.gif' is not an image" in refused("train")
    (root / "train/n01/images/x.gif").unlink()
    shutil.rmtree(root / "val")
    assert "has no val/ folder" in refused("test")


def test_links_out_of_the_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.JPEG").write_bytes(b"x")
    link = root / "train/n01/images/n01_9.JPEG"
    link.symlink_to(tmp_path / "outside.JPEG")
    assert "leads out of the data folder" in message(root)
    link.unlink()
    (root / "wnids.txt").rename(tmp_path / "wnids.txt")
    (root / "wnids.txt").symlink_to(tmp_path / "wnids.txt")
    assert "leads out of the data folder" in message(root)


def test_a_flat_tree_with_wnids_is_an_image_folder(root: Path) -> None:
    for name in CLASSES:
        for image in list((root / f"train/{name}/images").iterdir()):
            image.rename(root / f"train/{name}/{image.name}")
        (root / f"train/{name}/images").rmdir()
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "test")
    assert summary(open_dataset(root, "train"))["layout"] == "ImageFolder"
