"""Images as arrays in a .npz file, as MedMNIST and Keras distribute them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdd.cli import main
from fastdd.data import open_dataset
from fastdd.data.open import open_split
from fastdd.errors import InputError

RANDOM = np.random.RandomState(0)
GREY = RANDOM.randint(0, 256, (6, 5, 4), np.uint8)
COLOR = RANDOM.randint(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.array([1, 0, 2, 1, 0, 2], np.uint8)


def medmnist(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """A file as MedMNIST's, whose splits are alike."""
    arrays = {f"{split}_images": images for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": labels for split in ("train", "val", "test")}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_medmnist_is_read_class_after_class(tmp_path: Path) -> None:
    data = open_split(medmnist(tmp_path / "color.npz", COLOR, LABELS[:, None]), "train")
    assert data.counts == {"0": 2, "1": 2, "2": 2}
    assert list(data.names[:2]) == ["0/000001", "0/000004"]
    assert torch.equal(data.pixels(0, 3), torch.from_numpy(COLOR[1]).permute(2, 0, 1))
    assert data.pixels(0, 1).shape == (1, 5, 4)


def test_grey_images_and_the_names_of_keras_are_read_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "grey.npz", x_train=GREY, y_train=LABELS, x_test=GREY[:3], y_test=LABELS[:3])
    data = open_split(tmp_path / "grey.npz", "test")
    assert len(data.names) == 3
    assert torch.equal(data.pixels(0, 3), torch.from_numpy(GREY[1]).expand(3, 5, 4))


def test_classes_keep_their_order_where_there_are_more_than_ten(tmp_path: Path) -> None:
    labels = np.arange(12)
    data = open_split(medmnist(tmp_path / "many.npz", np.zeros((12, 4, 4), np.uint8), labels), "train")
    assert list(data.counts) == [f"{label:02d}" for label in range(12)]


def test_the_fingerprint_follows_the_pixels(tmp_path: Path) -> None:
    one = open_dataset(medmnist(tmp_path / "one.npz", GREY, LABELS), "train").fingerprint
    other = open_dataset(medmnist(tmp_path / "two.npz", GREY ^ 1, LABELS), "train").fingerprint
    assert one != other


@pytest.mark.bad_input("data")
@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (GREY.astype(np.float32), LABELS, "expected images as uint8"),
        (np.zeros((6, 4, 4, 4), np.uint8), LABELS, "expected images as uint8"),
        (GREY, np.zeros((6, 14), np.uint8), "14 labels an image"),
        (GREY, LABELS[:5], "expected whole numbers [6]"),
        (GREY, LABELS * 1.0, "expected whole numbers"),
        (GREY, LABELS.astype(np.int16) - 1, "labels from -1"),
        (GREY, LABELS + 1, "no images of class 0"),
        (GREY, np.array([1, 0, 2, 1, 0, None]), "Python objects"),
        (GREY[:0], LABELS[:0], "is empty or cut short"),
    ],
)
def test_what_is_no_class_an_image_is_one_line(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        open_dataset(medmnist(tmp_path / "bad.npz", images, labels), "train")


@pytest.mark.bad_input("data")
def test_a_file_without_the_split_or_that_is_no_archive_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", train_images=GREY, train_labels=LABELS)
    with pytest.raises(InputError, match="expected test_images and test_labels or x_test and y_test"):
        open_dataset(tmp_path / "some.npz", "test")
    whole = medmnist(tmp_path / "whole.npz", GREY, LABELS).read_bytes()
    for content in (b"", b"no archive", whole[:-40], whole[:200] + bytes(200) + whole[400:]):
        (tmp_path / "damaged.npz").write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            open_dataset(tmp_path / "damaged.npz", "train")


def test_the_command_line_checks_such_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(medmnist(tmp_path / "blood.npz", COLOR, LABELS))]) == 0
    assert "blood.npz: no problems" in capsys.readouterr().out
