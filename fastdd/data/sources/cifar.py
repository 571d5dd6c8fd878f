"""CIFAR-10 and CIFAR-100 in the files that their authors distribute, and torchvision downloads.

    cifar-10-batches-py, cifar-100-python   pickles, read without unpickling (see inert_pickle.py)
    cifar-10-batches-bin, cifar-100-binary  records of label and pixels

The root is such a folder, the folder above it, or its .tar.gz. Images are 32 x 32 in color; CIFAR-100 has
its 100 fine labels. Both kinds of file give the same images under the same names, CLASS/NUMBER by the
order in the files. Cost: the decoded split is held in memory; 50,000 images take 154 MB.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...runtime.memory import require_memory
from ..decode import luminance
from .archive_members import damaged, opened, unsafe
from .base import Fingerprint, FingerprintOf, Layout, Split, SplitImages, register_source
from .folder import kind_of, link_boundary, list_folder
from .inert_pickle import Array, Refused, read_plain
from .tree import class_name_fault, some

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # bytes of an image: the red, the green, the blue plane
ROWS = {10: 10_000, 100: None}  # images a file; the two files of CIFAR-100 hold a split each
SPLIT_ROWS: dict[Split, int] = {"train": 50_000, "test": 10_000}
MAX_FILE = 1 << 28  # bytes; the largest, CIFAR-100's train, has 155 MB


@dataclass(frozen=True)
class Kind:
    """One of the four ways in which CIFAR is distributed.

    Attributes:
        names: name of the file with the class names.
        label_bytes: bytes of labels in a record, of which the last is the class; 0 for a pickle.
        label_key: key of the labels in a pickle.
        names_key: key of the class names in a pickle.
    """

    folder: str
    files: dict[Split, tuple[str, ...]]
    names: str
    label_bytes: int = 0
    label_key: str = "labels"
    names_key: str = "label_names"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 100 if "100" in self.folder else 10


KINDS = (
    Kind(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "batches.meta",
    ),
    Kind(
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        "meta",
        label_key="fine_labels",
        names_key="fine_label_names",
    ),
    Kind(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        label_bytes=1,
    ),
    Kind(
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        "fine_label_names.txt",
        label_bytes=2,
    ),
)


class CifarLayout(Layout):
    """A folder of the files of CIFAR, the folder above it, or an archive of it."""

    priority = 40

    def recognizes(self, root: str) -> bool:
        """Whether the files lie at the root; of an archive, whether its first member lies in such a folder.

        Raises:
            InputError: the folder holds several of them, or the archive is damaged.
        """
        return find(Path(root)) is not None

    def open(self, root: str, split: Split) -> SplitImages:
        """Read one split into memory (see Cifar)."""
        found = find(Path(root))
        if found is None:
            raise InputError(
                f"{root!r} holds no files of CIFAR; expected {some(kind.folder for kind in KINDS)}"
            )
        return Cifar(*found, split)


class Cifar(SplitImages):
    """One split of CIFAR.

    Args:
        place: the folder of the files, or an archive of it.

    Raises:
        InputError: a file is missing, damaged, of the wrong length, or holds more than data.
    """

    def __init__(self, place: Path, kind: Kind, split: Split) -> None:
        self.layout, self.split = kind.folder, split
        wanted = (*kind.files[split], kind.names)
        require_memory(
            4 * SPLIT_ROWS[split] * PIXELS, f"to read {str(place)!r}", "free some, or use a folder of images"
        )
        found = _read_folder(place, wanted) if place.is_dir() else _read_archive(place, wanted)
        for name in wanted:
            if name not in found:
                raise InputError(f"{str(place)!r} lacks the file {name!r} of {kind.folder}; fetch it again")
        classes = _class_names(kind, found[kind.names], f"{place}/{kind.names}")
        batches = [_batch(kind, found.pop(name), f"{place}/{name}", split) for name in kind.files[split]]
        targets = np.concatenate([labels for labels, _ in batches])
        # Labels in the order of the sorted names, as everywhere; for the true CIFARs they are that already.
        rank = np.argsort(np.argsort(classes, kind="stable"), kind="stable")
        order = np.argsort(rank[targets], kind="stable")
        self.images = torch.from_numpy(np.concatenate([pixels for _, pixels in batches])[order])
        self.names = [f"{classes[targets[row]]}/{row:05d}" for row in order.tolist()]
        counts = np.bincount(targets, minlength=len(classes))
        self.counts = {classes[label]: int(counts[label]) for label in np.argsort(rank).tolist()}
        if empty := [name for name, count in self.counts.items() if not count]:
            raise InputError(f"{str(place)!r} holds no images of {some(empty)} in {split}; fetch it again")

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, 32, 32]; one channel is the luminance (ITU-R 601)."""
        image = self.images[index]
        return image if channels == 3 else luminance(image)

    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """sha256 of the split, the class names and counts, and all pixels, whatever is wanted."""
        digest = hashlib.sha256(f"{self.split}\n".encode())
        for name, count in self.counts.items():
            digest.update(f"{name}\0{count}\n".encode())
        digest.update(self.images.numpy().data)
        return Fingerprint(digest.hexdigest(), "contents")


def find(root: Path) -> tuple[Path, Kind] | None:
    """Where the files of CIFAR lie, and which kind they are; None for another root. Nothing large is read.

    Raises:
        InputError: the folder holds several of them.
    """
    if root.is_file():
        with opened(root) as members:
            first = next(iter(members), None)
        top = first.name.removeprefix("./").partition("/")[0] if first else ""
        return next(((root, kind) for kind in KINDS if kind.folder == top), None)
    for kind in KINDS:
        if (root / kind.names).is_file() and any(
            (root / name).is_file() for name in sum(kind.files.values(), ())
        ):
            return root, kind
    if (root / "train").is_dir():
        return None
    below = [kind for kind in KINDS if (root / kind.folder).is_dir()]
    if len(below) > 1:
        raise InputError(
            f"{str(root)!r} holds {some(kind.folder for kind in below)}; give one of them as the root"
        )
    return (root / below[0].folder, below[0]) if below else None


def _read_folder(place: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    for entry in list_folder(place):
        if entry.name not in wanted:
            continue
        if (kind := kind_of(entry, link_boundary(place))) != "file":
            raise InputError(f"{entry.path!r} is {kind}; expected a plain file")
        _check_size(entry.path, entry.stat().st_size)
        try:
            found[entry.name] = Path(entry.path).read_bytes()
        except OSError as error:
            raise InputError(
                f"{entry.path!r} cannot be read: {error.strerror}; check its permissions"
            ) from error
    return found


def _read_archive(place: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    found = {}
    with opened(place) as members:
        for member in members:
            name = member.name.rpartition("/")[2]
            if what := unsafe(member):
                raise InputError(f"{str(place)!r}: {member.name!r} {what}")
            if name in wanted and member.kind == "file":
                _check_size(f"{place}/{name}", member.size)
                found[name] = members.read(member)
                if len(found[name]) < member.size:
                    raise damaged(place, f"it ends inside {member.name!r}")
    return found


def _check_size(where: str, size: int) -> None:
    if size > MAX_FILE:
        raise InputError(
            f"{where!r} has {size:,} bytes, more than any file of CIFAR ({MAX_FILE:,}); fetch it again"
        )


def _class_names(kind: Kind, content: bytes, where: str) -> list[str]:
    if kind.label_bytes:
        names = content.decode("utf-8", "replace").split()
    else:
        found = _dictionary(content, where).get(kind.names_key)
        names = [_text(name) for name in found] if isinstance(found, list) else []
    for name in names:
        if fault := class_name_fault(name):
            raise InputError(f"{where!r} {fault}")
    if len(set(names)) != len(names) or len(names) != kind.classes:
        raise InputError(
            f"{where!r} names {len(set(names))} classes; expected {kind.classes}: fetch it again"
        )
    return names


def _batch(kind: Kind, content: bytes, where: str, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """int64 [n] labels and uint8 [n, 3, 32, 32] pixels of one file."""
    expected = ROWS[kind.classes] or SPLIT_ROWS[split]
    if kind.label_bytes:
        record = kind.label_bytes + PIXELS
        if len(content) != expected * record:
            raise InputError(
                f"{where!r} has {len(content):,} bytes; expected {expected:,} images of {record:,}: fetch it "
                "again"
            )
        rows = np.frombuffer(content, np.uint8).reshape(expected, record)
        labels, pixels = rows[:, kind.label_bytes - 1].astype(np.int64), rows[:, kind.label_bytes :]
    else:
        values = _dictionary(content, where)
        array, found = values.get("data"), values.get(kind.label_key)
        if not isinstance(array, Array) or array.pixels is None or not isinstance(found, list):
            raise InputError(
                f"{where!r} lacks 'data' or {kind.label_key!r}; expected a file of {kind.folder}"
            )
        pixels = array.pixels
        if pixels.shape != (expected, PIXELS) or len(found) != expected:
            raise InputError(
                f"{where!r} holds pixels {list(pixels.shape)} and {len(found)} labels; expected "
                f"[{expected}, {PIXELS}] and {expected}: fetch it again"
            )
        labels = np.array(
            [label if type(label) is int and 0 <= label < kind.classes else -1 for label in found]
        )
    if labels.min() < 0 or labels.max() >= kind.classes:
        raise InputError(f"{where!r} holds a label outside of 0 to {kind.classes - 1}; fetch it again")
    return labels, pixels.reshape(expected, 3, SIDE, SIDE)


def _dictionary(content: bytes, where: str) -> dict[str, object]:
    try:
        value = read_plain(content)
    except Refused as error:
        raise InputError(f"{where!r} {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where!r} holds no dictionary; expected a file of CIFAR")
    return {_text(key): each for key, each in value.items()}


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


register_source("cifar", CifarLayout())
