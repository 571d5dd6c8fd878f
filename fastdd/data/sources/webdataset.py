"""WebDataset shards: plain .tar files of samples, indexed by their headers and read in place.

    train/00000.tar, val/00000.tar           one folder a split
    train-0000.tar, val-0000.tar             or the split in the name
    {split}-{0000..0099}.tar, {split}-*.tar  or a pattern (see webdataset_paths.py)

Members that share a key are one sample: an image `jpg`, `jpeg` or `png` and its label, a member `cls` or else
`json`; other members are left alone. The key is the name up to the last dot of the file, so that it may hold
dots itself; `a.seg.png` is no sample of its own where `a` has an image and a label, and `a.seg` no label. A
label is a number, or the name of a class; in `json` it is the whole, or the field `label`, `cls` or `class`.
`classes.txt` (one name a line) or `classes.json` (a list) beside the shards gives the numbers names: a
number is a position in it, from 0. Without it the labels are the names, padded with zeros so that their
sorted order is that of the numbers, and the shards of both splits are read for either.

Images are given in class order as those of a folder are; an image is called CLASS/SHARD/KEY.jpg.
Cost: about 10 us a sample; one `open` and one read an image. Images that lie far apart in their shards
are far apart on the disk too: shards that hold one class after the other read fastest.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .archive_members import Member, Members, damaged, opened, unsafe
from .base import Layout, Problem, Split, SplitImages, register_source
from .encoded import EncodedImages
from .folder import read_part
from .kept_index import IndexOrigin, listing_of
from .tree import IMAGE_SUFFIXES, Entry, Listing, class_name_fault, complete, is_ignored
from .webdataset_paths import class_names, is_pattern, is_sharded, shard_paths

MAX_LABEL = 256  # bytes of a .cls member that are read: no class has a longer name
MAX_JSON = 1 << 16  # bytes of a .json member with a label
LABEL_FIELDS = ("label", "cls", "class")


class WebDatasetLayout(Layout):
    """A folder of shards, or a pattern of their names."""

    priority = 20

    def recognizes(self, root: str) -> bool:
        """Whether the root is a pattern, or a folder that holds shards of a split."""
        return is_pattern(root) or (Path(root).is_dir() and is_sharded(Path(root)))

    def open(self, root: str, split: Split) -> SplitImages:
        """Index one split (see Shards)."""
        return EncodedImages(Shards(root, split), root, split)


class Samples:
    """The images of some shards in columns.

    Attributes:
        names: key of each with the suffix of its image.
        parts: number of its shard.
        sizes: bytes.
        offsets: where its bytes begin in the shard.
        numbers: number of its label.
        labels: label as text -> number, in the order in which they were met.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parts, self.sizes, self.offsets, self.numbers = (array("q") for _ in range(4))
        self.labels: dict[str, int] = {}

    def add(self, name: str, part: int, image: Member, label: str) -> None:
        """Add an image."""
        self.names.append(name)
        self.parts.append(part)
        self.sizes.append(image.size)
        self.offsets.append(image.offset)
        self.numbers.append(self.labels.setdefault(label, len(self.labels)))


class Shards:
    """One split of a set of shards.

    Args:
        root: a folder, or a pattern with {split}.

    Raises:
        InputError: no such shards, or the list of classes cannot be read.
    """

    layout = "WebDataset"

    def __init__(self, root: str | Path, split: Split) -> None:
        self.folder, self.paths = shard_paths(root, split)
        names = class_names(root)
        other = _other_shards(root, split) if names is None else None
        archives = [*self.paths, *(other[1] if other else ())]
        self.listing: Listing = listing_of(
            IndexOrigin(root, split, archives, names), lambda: self._index(names, other)
        )

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see ImageFiles)."""
        return read_part(str(self.paths[entry.part]), entry.offset + first, entry.size - first, size)

    def _index(self, names: list[str] | None, other: tuple[str, list[Path]] | None) -> Listing:
        """Read the headers of all shards.

        Args:
            names: names of the classes by number; None: the labels are the names.
            other: what the other split is called, and its shards, whose labels are then names too.
        """
        listing = Listing(self.folder)
        samples = _samples(self.paths, listing.problems)
        if names is None:
            theirs = set(_samples(other[1], []).labels) if other else set()
            naming = _padded(set(samples.labels) | theirs)
            classes = {naming[label] for label in samples.labels}
        else:
            theirs = set()
            naming = {name: name for name in names if not name.isdecimal()}
            naming |= {str(number): name for number, name in enumerate(names)}
            classes = set(names)
        self._place(samples, naming, listing)
        complete(listing, classes, other and (other[0], {naming[label] for label in theirs}))
        return listing

    def _place(self, samples: Samples, naming: dict[str, str], listing: Listing) -> None:
        folders, labels = [naming.get(label) for label in samples.labels], list(samples.labels)
        stems = [path.stem for path in self.paths]
        columns = samples.names, samples.sizes, samples.offsets, samples.parts, samples.numbers
        for index, (name, size, offset, part, number) in enumerate(zip(*columns, strict=True)):
            samples.names[index] = ""  # a million names twice would take 100 MB
            if (folder := folders[number]) is not None:
                listing.files.add(f"{folder}/{stems[part]}/{name}", size, offset, part)
                continue
            known = len(set(naming.values()))
            what = f"has the label {labels[number]!r}, none of the {known} classes of the list"
            listing.problems.append(Problem(f"{stems[part]}/{name}", f"{what}; correct one of the two"))


def _samples(paths: Sequence[Path], problems: list[Problem]) -> Samples:
    """The samples of all shards; what is wrong is added to the problems."""
    samples = Samples()
    for part, path in enumerate(paths):
        try:
            _add_shard(samples, path, part, problems)
        except InputError as error:
            problems.append(Problem(path.name, f"cannot be used: {error}"))
    return samples


def _add_shard(samples: Samples, path: Path, part: int, problems: list[Problem]) -> None:
    """Add the samples of one shard; none of a shard that cannot be read to its end."""

    def fault(name: str, what: str) -> None:
        problems.append(Problem(f"{path.stem}/{name}", what))

    with opened(path) as members:
        if members.compressed:
            raise InputError(
                f"{str(path)!r} is compressed; store shards as plain .tar: images hardly get smaller (for "
                f".tar.gz: `gunzip {path}`)"
            )
        found = _by_key(members, path, fault)
        if not found.images and not found.labels:
            fault("", "holds no samples; expected members such as 000.jpg with 000.cls")
        labels = _labels(members, found)
    whole = found.images.keys() & labels.keys()
    for key, image in found.images.items():
        label, name = labels.pop(key, None), f"{key}.{found.suffixes[key]}"
        if label is None:
            if _shortened(key) not in whole:
                fault(name, "has no label; add a .cls member with its class, or remove it")
        elif what := class_name_fault(label):
            fault(f"{key}.cls", what)
        else:
            samples.add(name, part, image, label)
    for key in labels:
        if key in found.labels and _shortened(key) not in whole:
            others = f", only .{found.others[key]}" if key in found.others else ""
            fault(key, f"has a label but no image{others}; expected .jpg, .jpeg or .png with the same name")


class _Found(NamedTuple):
    """The members of a shard by their keys.

    Attributes:
        images, labels, jsons: key -> image, label ``cls``, and JSON.
        suffixes: key -> suffix of its image.
        others: key -> suffix of what is none of them.
    """

    images: dict[str, Member]
    labels: dict[str, Member]
    jsons: dict[str, Member]
    suffixes: dict[str, str]
    others: dict[str, str]


def _by_key(members: Members, path: Path, fault: Callable[[str, str], None]) -> _Found:
    """Sort the members of a shard by what they are."""
    found, length = _Found({}, {}, {}, {}, {}), path.stat().st_size
    for member in members:
        folder, _, file = member.name.removeprefix("./").rpartition("/")
        if what := unsafe(member):
            fault(member.name, what)
            continue
        if member.kind == "folder" or is_ignored(file):
            continue
        if member.offset + member.size > length:
            raise damaged(path, f"it ends inside {member.name!r}")
        stem, _, suffix = file.rpartition(".")
        key, suffix = f"{folder}/{stem}".lstrip("/"), suffix.lower()
        if f".{suffix}" in IMAGE_SUFFIXES:
            if key in found.images:
                fault(member.name, "is a second image of its sample; keep one of them")
            found.images[key], found.suffixes[key] = member, suffix
        elif suffix == "cls":
            if key in found.labels:
                fault(member.name, "is a second label of its sample; keep one of them")
            found.labels[key] = member
        elif suffix == "json":
            found.jsons[key] = member
        else:
            shortest = _shortened(key)
            found.others[shortest] = f"{key}.{suffix}".removeprefix(f"{shortest}.")
    for key, suffix in found.suffixes.items():
        found.others.setdefault(_shortened(key), f"{key}.{suffix}".removeprefix(f"{_shortened(key)}."))
    return found


def _shortened(key: str) -> str:
    """A key up to the first dot of its last part, by which other readers of shards put members together."""
    folder, slash, stem = key.rpartition("/")
    return f"{folder}{slash}{stem.partition('.')[0]}"


def _labels(members: Members, found: _Found) -> dict[str, str]:
    """Key -> label as text; from JSON where an image has no other."""
    labels = {key: _label(members.read(member, MAX_LABEL)) for key, member in found.labels.items()}
    for key in found.images.keys() & found.jsons.keys() - labels.keys():
        label = _label_in_json(members.read(found.jsons[key], MAX_JSON))
        if label is not None:
            labels[key] = label
    return labels


def _label(content: bytes) -> str:
    """The text of a .cls member without quotes; a number without its leading zeros."""
    text = content.decode("utf-8", "replace").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return _plain_number(text)


def _plain_number(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text


def _label_in_json(content: bytes) -> str | None:
    """The label that a .json member gives; None where it gives none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        value = next((value[name] for name in LABEL_FIELDS if name in value), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return _plain_number(str(value))


def _other_shards(root: str | Path, split: Split) -> tuple[str, list[Path]] | None:
    """What the split that is not open is called, and its shards; None where there is none."""
    try:
        return shard_paths(root, "test" if split == "train" else "train")
    except InputError:
        return None


def _padded(labels: set[str]) -> dict[str, str]:
    """Label to class name: numbers are padded to one width, so that they sort as numbers."""
    width = max(map(len, labels), default=0) if all(label.isdecimal() for label in labels) else 0
    return {label: label.zfill(width) for label in labels}


register_source("webdataset", WebDatasetLayout())
