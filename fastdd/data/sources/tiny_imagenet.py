"""Tiny-ImageNet as it is distributed: `train/CLASS/images/`, `val/images/` and a list of what is in them.

    wnids.txt                    the 200 classes, one a line
    train/n01443537/images/*.JPEG
    val/images/*.JPEG, val/val_annotations.txt ("val_0.JPEG TAB n03444034 TAB box")
    test/                        has no labels and is not read: the held-out split is val/

Each image gets the name CLASS/FILE, as in an ImageFolder, and the rules of tree.py apply. Where val/ was
already sorted into class folders (`val/CLASS/images/` or `val/CLASS/`) it is read so.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from . import tree
from .base import Layout, Problem, Split, SplitImages, register_source
from .encoded import EncodedImages
from .folder import Folder, kind_of, link_boundary, list_folder, read_part, sized
from .tree import Entry, Listing

CLASSES, ANNOTATIONS, IMAGES = "wnids.txt", "val/val_annotations.txt", "images"
FOLDERS: dict[Split, str] = {"train": "train", "test": "val"}
MAX_TEXT = 1 << 24  # bytes; the lists of the whole of ImageNet are smaller
# Entry.part says where an image of a folder is stored: CLASS/FILE (0), CLASS/images/FILE or images/FILE.
BELOW_CLASS, BELOW_SPLIT = 1, 2


class TinyLayout(Layout):
    """An unpacked Tiny-ImageNet; in an archive, tar_archive.py finds it."""

    priority = 30

    def recognizes(self, root: str) -> bool:
        """Whether the root is a folder whose training images are as distributed."""
        return is_tiny(Path(root))

    def open(self, root: str, split: Split) -> SplitImages:
        """List one split (see TinyFolder)."""
        return EncodedImages(TinyFolder(Path(root), split), root, split)


def arrange(
    folder: str, entries: list[Entry], *, classes: str, annotations: str | None, problems: list[Problem]
) -> Listing:
    """Give each image of one split its class, and apply the rules of the layout.

    Args:
        entries: what lies below it, by its own path.
        classes: the text of wnids.txt.
        annotations: the text of val_annotations.txt, or None.
    """
    known = set(classes.split())
    problems = list(problems)
    problems += [Problem(CLASSES, fault) for name in sorted(known) if (fault := tree.class_name_fault(name))]
    flat = [entry for entry in entries if entry.path.startswith(f"{IMAGES}/")]
    placed = [Entry(name, "folder") for name in known]
    for entry in entries:
        parts = entry.path.split("/")
        if parts[0] == IMAGES or (len(parts) == 2 and parts[1] == IMAGES and entry.kind == "folder"):
            continue
        if (
            parts[0] not in known
            and (len(parts) > 1 or entry.kind == "folder")
            and tree.is_class_folder(parts[0])
        ):
            problems.append(
                Problem(f"{folder}/{parts[0]}", f"is no class of {CLASSES}; add it there or remove it")
            )
            continue
        inside = len(parts) == 3 and parts[1] == IMAGES
        placed.append(entry._replace(path=f"{parts[0]}/{parts[2]}", part=BELOW_CLASS) if inside else entry)
    if flat:
        placed += _annotated(folder, flat, annotations or "", known=known, problems=problems)
    return tree.arrange(folder, placed, None, list(dict.fromkeys(problems)))


def _annotated(
    folder: str, images: list[Entry], annotations: str, *, known: set[str], problems: list[Problem]
) -> list[Entry]:
    """The images of val/images/, each under the class that the annotations give it."""
    labels: dict[str, str] = {}
    for number, line in enumerate(annotations.splitlines(), 1):
        name, *rest = line.split("\t") if "\t" in line else line.split()
        where = f"{ANNOTATIONS}:{number}"
        if not rest or rest[0] not in known:
            problems.append(
                Problem(where, f"gives {name!r} the class {rest[0] if rest else ''!r}, not in {CLASSES}")
            )
        elif labels.setdefault(name, rest[0]) != rest[0]:
            problems.append(Problem(where, f"gives {name!r} a second class; keep one of the lines"))
    placed, left = [], dict(labels)
    for entry in images:
        name = entry.path.removeprefix(f"{IMAGES}/")
        if name in labels:
            left.pop(name, None)
            placed.append(entry._replace(path=f"{labels[name]}/{name}", part=BELOW_SPLIT))
        elif name.lower().endswith(tree.IMAGE_SUFFIXES) and not name.startswith("."):
            problems.append(
                Problem(f"{folder}/{entry.path}", f"has no line in {ANNOTATIONS}; add it or remove the image")
            )
    for name in left:
        what = f"is named in {ANNOTATIONS} but is not there; fetch the data set again or remove the line"
        problems.append(Problem(f"{folder}/{IMAGES}/{name}", what))
    return placed


def is_tiny(root: Path) -> bool:
    """Whether a folder is a Tiny-ImageNet whose training images are as distributed."""
    if not (root / CLASSES).is_file() or not (root / "train").is_dir():
        return False
    return any(os.path.isdir(f"{entry.path}/{IMAGES}") for entry in list_folder(root / "train"))


class TinyFolder(Folder):
    """One split of an unpacked Tiny-ImageNet.

    Raises:
        InputError: the split or a list is missing or cannot be read.
    """

    layout = "Tiny-ImageNet"

    def __init__(self, root: Path, split: Split) -> None:
        self.root = root
        self.real_root = link_boundary(root)
        self.folder = FOLDERS[split]
        if not (root / self.folder).is_dir():
            raise InputError(
                f"{str(root)!r} has no {self.folder}/ folder; expected the whole of Tiny-ImageNet"
            )
        annotations = self._text(ANNOTATIONS) if split == "test" else None
        self.listing = arrange(
            self.folder,
            self._entries(),
            classes=self._text(CLASSES) or "",
            annotations=annotations,
            problems=[],
        )

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """As Folder.read."""
        name, _, file = entry.path.partition("/")
        stored = (entry.path, f"{name}/{IMAGES}/{file}", f"{IMAGES}/{file}")[entry.part]
        return read_part(f"{self.root}/{self.folder}/{stored}", first, entry.size - first, size)

    def _entries(self) -> list[Entry]:
        entries = []
        for top in sized(self.root / self.folder, self.real_root):
            entries.append(top)
            if top.kind != "folder" or not tree.is_class_folder(top.path):
                continue
            for inner in sized(self.root / self.folder / top.path, self.real_root):
                entries.append(inner._replace(path=f"{top.path}/{inner.path}"))
                if inner.kind == "folder" and inner.path == IMAGES:
                    below = sized(self.root / self.folder / top.path / IMAGES, self.real_root)
                    entries += [image._replace(path=f"{top.path}/{IMAGES}/{image.path}") for image in below]
        return entries

    def _text(self, name: str) -> str | None:
        found = {entry.name: entry for entry in list_folder((self.root / name).parent)}.get(
            os.path.basename(name)
        )
        if found is None:
            return None
        if (kind := kind_of(found, self.real_root)) != "file" or found.stat().st_size > MAX_TEXT:
            what = kind if kind != "file" else f"{found.stat().st_size:,} bytes long"
            raise InputError(f"{found.path!r} is {what}; expected a text file of at most {MAX_TEXT:,} bytes")
        return Path(found.path).read_text("utf-8", "replace")


register_source("tiny-imagenet", TinyLayout())
