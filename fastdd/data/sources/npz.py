"""Images as arrays in one `.npz` file: what MedMNIST distributes, and Keras for MNIST and its kin.

    train_images, train_labels, test_images, test_labels   MedMNIST; val_images and val_labels are not read
    x_train, y_train, x_test, y_test                        Keras

Images are uint8 [n, H, W] or [n, H, W, 3], labels whole numbers [n] or [n, 1]. The numbers are the class
names, with zeros in front where there are more than ten. Nothing in the file is unpickled: arrays of objects
are refused by their header. Cost: the split that is read is held in memory.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...runtime.memory import require_memory
from ..decode import luminance
from .base import Fingerprint, FingerprintOf, Layout, Split, SplitImages, register_source

NAMES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
"""what the two arrays of a split are called"""
MAX_CLASSES = 100_000


class NpzLayout(Layout):
    """A file whose name ends in ``.npz``."""

    priority = 40

    def recognizes(self, root: str) -> bool:
        """Whether the root is a file of that name."""
        return root.endswith(".npz") and Path(root).is_file()

    def open(self, root: str, split: Split) -> SplitImages:
        """Read one split into memory (see Npz)."""
        return Npz(Path(root), split)


class Npz(SplitImages):
    """One split of such a file.

    Raises:
        InputError: the file is damaged, lacks the split, or holds something else than one class an image.
    """

    layout = "arrays (.npz)"

    def __init__(self, path: Path, split: Split) -> None:
        self.split = split
        try:
            with zipfile.ZipFile(path) as archive:
                images_name, labels_name = _names(archive, path, split)
                images = _array(archive, images_name, path)
                labels = _array(archive, labels_name, path)
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{str(path)!r} is damaged ({error}); fetch it again") from error
        where = f"{str(path)!r}: {images_name}"
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or (images.ndim == 4 and images.shape[3] != 3)
        ):
            raise InputError(
                f"{where} is {images.dtype} {list(images.shape)}; expected images as uint8 [n, H, W] or "
                "[n, H, W, 3]"
            )
        targets = _targets(labels, len(images), f"{str(path)!r}: {labels_name}")
        order = np.argsort(targets, kind="stable")
        width = len(str(int(targets.max())))
        counts = np.bincount(targets)
        if empty := np.flatnonzero(counts == 0).tolist():
            raise InputError(f"{where} has no images of class {empty[0]}; number the classes 0, 1, 2, ...")
        self.counts = {f"{label:0{width}d}": int(count) for label, count in enumerate(counts)}
        self.names = [f"{targets[row]:0{width}d}/{row:06d}" for row in order.tolist()]
        pixels = images[order]
        self.images = torch.from_numpy(pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2))

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, H, W]; grey is repeated for three channels, color becomes luminance for one."""
        image = self.images[index]
        return luminance(image) if len(image) > channels else image.expand(channels, -1, -1)

    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """sha256 of the split, the counts and all pixels, whatever is wanted."""
        digest = hashlib.sha256(f"{self.split}\n{list(self.counts.values())}\n".encode())
        digest.update(self.images.numpy().tobytes())
        return Fingerprint(digest.hexdigest(), "contents")


def _names(archive: zipfile.ZipFile, path: Path, split: Split) -> tuple[str, str]:
    there = {name.removesuffix(".npy") for name in archive.namelist()}
    pairs = [(images.format(split), labels.format(split)) for images, labels in NAMES]
    for images, labels in pairs:
        if {images, labels} <= there:
            return images, labels
    expected = " or ".join(f"{images} and {labels}" for images, labels in pairs)
    raise InputError(
        f"{str(path)!r} holds {', '.join(sorted(there))[:120] or 'nothing'}; expected {expected}"
    )


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """One array; its header is read before its memory is asked for."""
    with archive.open(f"{name}.npy") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if header is None:
                raise ValueError(f"format {version}")
            shape, in_columns, kind = header(file)
        except ValueError as error:
            raise InputError(f"{str(path)!r}: {name} has a damaged header; fetch it again") from error
        if kind.hasobject:
            raise InputError(
                f"{str(path)!r}: {name} holds Python objects, which are not read; save plain numbers"
            )
        size = math.prod(shape) * kind.itemsize
        require_memory(3 * size, f"to read {name} of {str(path)!r}", "free some, or use a folder of images")
        content = file.read(size)
    if len(content) < size or min(shape, default=0) < 1:
        raise InputError(f"{str(path)!r}: {name} is empty or cut short; fetch it again")
    return np.frombuffer(content, kind).reshape(shape, order="F" if in_columns else "C")


def _targets(labels: np.ndarray, count: int, where: str) -> np.ndarray:
    """int64 [count], the classes from 0."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(
            f"{where} has {labels.shape[1]} labels an image; expected one class an image: keep one of them"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        raise InputError(
            f"{where} is {labels.dtype} {list(labels.shape)}; expected whole numbers [{count}] or "
            f"[{count}, 1]"
        )
    targets = labels.reshape(-1).astype(np.int64)
    if targets.min() < 0 or targets.max() >= MAX_CLASSES:
        raise InputError(f"{where} has labels from {targets.min()} to {targets.max()}; expected 0, 1, 2, ...")
    return targets


register_source("npz", NpzLayout())
