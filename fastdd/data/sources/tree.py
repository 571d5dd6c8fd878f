"""The tree `SPLIT/CLASS/IMAGE`, into which every layout of files is turned, and what can be wrong with it.

Folders, archives and shards each become a flat list of entries, and the rules are here, once: training images
lie in `train/`, held-out images in `test/` (without one, in `val/`, `validation/` or `valid/`), each class is
one folder, and images lie directly inside it. Hidden files and folders, what operating systems leave
(`Thumbs.db`), texts and tables are ignored; any other file that is no image is a problem, and hidden images
are told in a note, so that nothing is left out unnoticed.
Cost: O(N log N) in the number of files; no file is opened.
"""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Protocol, overload

import numpy as np

from ...errors import InputError
from ...runtime.console import counted
from .base import Problem, Split

SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test", "val", "validation", "valid"),
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
IGNORED_SUFFIXES = (".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".npy")
IGNORED_NAMES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("__macosx", "icon\r"),  # macOS
    *("lost+found", "@eadir"),  # Linux, Synology
)
"""files and folders that systems leave behind, in small letters"""


class Entry(NamedTuple):
    """One file or folder found in a split.

    Attributes:
        path: relative to the split's folder, with '/' ("cat/1.jpg").
        kind: "file", "folder", or a phrase that says what an entry is that must be rejected.
        offset: where the bytes begin in an archive; 0 in a folder.
        part: number of the archive, where there are several.
    """

    path: str
    kind: str
    size: int = 0
    offset: int = 0
    part: int = 0


class Files(Sequence[Entry]):
    """Images in columns: as entries, a million of them would take a third of a gigabyte.

    Attributes:
        paths: path of each image, CLASS/NAME.
        sizes, offsets, parts: as in Entry.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.paths: list[str] = []
        self.sizes, self.offsets, self.parts = (array("q") for _ in range(3))
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Add an image, of which ``kind`` is known to be "file"."""
        self.add(entry.path, entry.size, entry.offset, entry.part)

    def add(self, path: str, size: int, offset: int, part: int) -> None:
        """Add an image by its columns."""
        self.paths.append(path)
        self.sizes.append(size)
        self.offsets.append(offset)
        self.parts.append(part)

    def sort(self) -> None:
        """Bring the images into the order of (class, name)."""
        by_class: dict[str, array[int]] = {}  # class after class, since keys of a million take 100 MB
        for number, path in enumerate(self.paths):
            by_class.setdefault(path.partition("/")[0], array("q")).append(number)
        order = array("q")
        for name in sorted(by_class):
            order.extend(sorted(by_class[name], key=self.paths.__getitem__))
        self.paths = [self.paths[number] for number in order]
        for column in ("sizes", "offsets", "parts"):
            found = np.frombuffer(getattr(self, column), np.int64)
            setattr(self, column, array("q", found[np.frombuffer(order, np.int64)].tobytes()))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return Entry(
            self.paths[index], "file", self.sizes[index], offset=self.offsets[index], part=self.parts[index]
        )


@dataclass
class Listing:
    """The files of one split.

    Attributes:
        digest: the fingerprint of the names and sizes, where it is known from an earlier look; else empty.
        note: which images are left out because of their names, for the user; empty: none are.
    """

    folder: str
    files: Files = field(default_factory=Files)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    digest: str = ""
    note: str = ""


def names_digest(split: Split, files: Files) -> str:
    """sha256, hexadecimal, of the split and of each file's name and size."""
    digest = hashlib.sha256(f"{split}\n".encode())
    for path, size in zip(files.paths, files.sizes, strict=True):
        digest.update(f"{path}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class ImageFiles(Protocol):
    """JPEG and PNG files, wherever they lie."""

    layout: str
    listing: Listing

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The bytes of one file, or ``size`` of them from ``first`` on; fewer where it is shorter."""


def split_folder(found: Collection[str], split: Split, root: str) -> str:
    """The name of the split's folder among the folders found."""
    for name in SPLIT_FOLDERS[split]:
        if name in found:
            return name
    *most, last = (f"{name}/" for name in SPLIT_FOLDERS[split])
    wanted = f"{', '.join(most)} or {last}" if most else last
    raise InputError(
        f"{root!r} has no {wanted} folder; found {some(sorted(found))}. "
        "Expected train/CLASS/IMAGE and test/CLASS/IMAGE (or val/CLASS/IMAGE)"
    )


def arrange(
    folder: str, entries: Iterable[Entry], other: tuple[str, Collection[str]] | None, problems: list[Problem]
) -> Listing:
    """Apply the rules of the layout to the entries of one split.

    Args:
        folder: name of the split's folder, for messages.
        entries: what lies below it, in any order.
        other: folder name and class names of the other split; None if there is no other split.
        problems: what was already found wrong; it stays in front of what is found here.
    """
    listing = Listing(folder, problems=list(problems))
    classes: set[str] = set()
    hidden: list[str] = []
    flat, nested = 0, False
    for entry in entries:  # perhaps a million, one at a time
        if any(is_ignored(part) for part in entry.path.split("/")):
            if is_hidden_image(entry):
                hidden.append(entry.path)
        else:
            flat += entry.kind == "file" and entry.path.lower().endswith(IMAGE_SUFFIXES)
            nested = nested or "/" in entry.path or entry.kind == "folder"
            _place(entry, listing, classes)
    listing.note = hidden_note(f"{folder}/", hidden)
    if flat and not nested:
        return Listing(folder, problems=[*problems, _flat(folder, flat)], note=listing.note)
    listing.problems = list(dict.fromkeys(listing.problems))  # a nested folder is met once a file
    complete(listing, classes, other)
    return listing


def hidden_note(place: str, hidden: Collection[str]) -> str:
    """What is said of images that a dot keeps out; empty: there are none."""
    if not hidden:
        return ""
    return (
        f"note: {counted(len(hidden), 'image')} of {place} {'is' if len(hidden) == 1 else 'are'} left out, "
        f"since a name begins with a dot: {some(sorted(hidden), 1)}; rename what you want to use"
    )


def complete(listing: Listing, classes: Collection[str], other: tuple[str, Collection[str]] | None) -> None:
    """Sort and count the images of a listing, and check its classes.

    Args:
        listing: with all files and the problems so far; completed in place.
        classes: names of the classes, also of those without images.
    """
    listing.files.sort()
    found = Counter(path.partition("/")[0] for path in listing.files.paths)
    listing.counts = {name: found[name] for name in sorted(classes)}
    for first, second in pairwise(listing.files.paths):
        if first == second:
            where = f"{listing.folder}/{first}"
            listing.problems.append(Problem(where, "occurs more than once; keep one of them"))
    _check_classes(listing, other)


def _flat(folder: str, images: int) -> Problem:
    """The one problem of a split whose images all lie in no class folder, as ImageNet's validation images are
    distributed."""
    what = (
        f"holds {images:,} images and no class folders, as ImageNet's val/ is distributed; sort them into "
        f"{folder}/CLASS/IMAGE (for ImageNet: valprep.sh of github.com/soumith/imagenetloader.torch)"
    )
    if folder == "test":
        what += ", or, if they have no labels, move test/ away so that val/ is read"
    return Problem(folder, what)


def _place(entry: Entry, listing: Listing, classes: set[str]) -> None:
    """Add the entry, which no name makes ignored, to the images, leave it alone, or say what is wrong with
    it."""
    parts = entry.path.split("/")
    name = parts[-1].lower()
    where = f"{listing.folder}/{entry.path}"
    what = ""
    if entry.kind not in ("file", "folder"):
        what = f"is {entry.kind}; expected plain files: replace it or remove it"
    elif len(parts) > 2 or (len(parts) == 2 and entry.kind == "folder"):
        classes.add(parts[0])
        where = f"{listing.folder}/{parts[0]}/{parts[1]}"
        what = "is a folder inside a class folder; put the images directly below the class"
    elif entry.kind == "folder":
        classes.add(parts[0])
    elif name.endswith(IGNORED_SUFFIXES):
        return
    elif len(parts) == 1:
        what = "lies in no class folder; move it into one or remove it"
    elif name.endswith(IMAGE_SUFFIXES):
        classes.add(parts[0])
        listing.files.append(entry)
    else:
        what = f"is not an image; expected {', '.join(IMAGE_SUFFIXES)}: convert it or remove it"
    if what:
        listing.problems.append(Problem(where, what))


def _check_classes(listing: Listing, other: tuple[str, Collection[str]] | None) -> None:
    """Note empty classes, too few classes, and classes that only one split has."""
    problems = listing.problems
    for name in listing.counts:
        if fault := _encoding_fault(name):
            problems.append(Problem(f"{listing.folder}/{name}", fault))
    for name, count in listing.counts.items():
        if not count:
            problems.append(
                Problem(f"{listing.folder}/{name}", "holds no images; fill the class or remove it")
            )
    if len(listing.counts) < 2:
        what = f"holds {len(listing.counts)} class folders ({some(listing.counts)}); expected at least 2"
        problems.append(Problem(listing.folder, what))
    if other is None or not other[1]:  # a split without class folders says so when it is opened
        return
    # The same words whichever split is open, so that a check of both says it once.
    sides = sorted([(listing.folder, set(listing.counts)), (other[0], set(other[1]))], reverse=True)
    for (here, these), (there, those) in (sides, sides[::-1]):
        if missing := sorted(these - those):
            problems.append(
                Problem(there, f"lacks classes that {here} has: {some(missing)}; both need the same")
            )


def _encoding_fault(name: str) -> str:
    """Why the name of a class is no text, or ""; Python keeps bytes that it cannot decode as surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        try:
            os.fsencode(name).decode()
        except UnicodeError:
            return "is a class whose name is not UTF-8; rename the folder"
        encoding = sys.getfilesystemencoding()
        return f"is a class with letters that names lack here, in {encoding}; start with PYTHONUTF8=1"
    return ""


def is_class_folder(name: str) -> bool:
    """Whether a folder of this name counts as a class."""
    return not is_ignored(name)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is left alone: it is hidden, or a system left it behind."""
    return name.startswith(".") or name.lower() in IGNORED_NAMES


def is_hidden_image(entry: Entry) -> bool:
    """Whether a dot at the beginning of a name alone keeps an image out; macOS leaves ``._NAME`` behind."""
    *folders, name = entry.path.split("/")
    left_behind = name.startswith("._") or any(part.lower() in IGNORED_NAMES for part in (*folders, name))
    return entry.kind == "file" and name.lower().endswith(IMAGE_SUFFIXES) and not left_behind


def class_name_fault(name: str) -> str:
    """Why a class cannot have this name, or "": the images of a class go into a folder of its name."""
    if (
        not name
        or name[0] == "."
        or not name.isprintable()
        or "/" in name
        or "\\" in name
        or len(name.encode()) > 255
    ):
        expected = "expected a name that a folder can have, without '/' and not beginning with '.'"
        return f"names a class {name!r}; {expected}"
    return ""


def some(names: Iterable[str], limit: int = 5) -> str:
    """Up to ``limit`` names, quoted, and how many more there are; "nothing" for none."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(repr(name) for name in listed[:limit]) + more or "nothing"
