"""Labelled images from elsewhere that slots may start from, such as those of a generator, as a split of the
run's own classes.

    a folder                     CLASS/IMAGE, train/CLASS/IMAGE, the released layout, or what `fastdd export`
                                 writes (layouts.py); also a snapshot in a hub's cache
    .tar, .tar.gz, .zip, ...     an archive with [FOLDER/]CLASS/IMAGE
    .parquet                     columns ``image`` and ``label``, the class names in the schema
    hf:ORG/NAME[@REVISION]       a data set of the hub, in the cache of huggingface_hub

Their classes are those of the data set by name, or by number where all their names are numbers. Nothing is
decoded before an image is asked for; every file is looked at once, so that an unreadable one is found before
any work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import Data
from ..data.check import faults
from ..data.dataset import Dataset
from ..data.sources.archive_members import mapped, opened, unsafe
from ..data.sources.base import Problem
from ..data.sources.encoded import EncodedImages
from ..data.sources.folder import following_links
from ..data.sources.parquet import ParquetFiles
from ..data.sources.tree import (
    IMAGE_SUFFIXES,
    Entry,
    Files,
    Listing,
    arrange,
    hidden_note,
    is_hidden_image,
    is_ignored,
    some,
)
from ..errors import InputError, suggestion
from ..run_folder import RunFolder
from ..runtime.console import counted
from ..runtime.distributed import say_once
from ..runtime.hub import local_folder
from ..runtime.memory import memory_budget, require_memory
from .layouts import list_image_files
from .runs import read_source, run_of


@dataclass
class _Files:
    """Files in any place (see data.sources.tree.ImageFiles), and whether their classes are numbers."""

    layout: str
    listing: Listing
    whole: Callable[[Entry], bytearray]
    numbered: bool = False

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The bytes of one file, or a part."""
        return self.whole(entry)[first : None if size is None else first + size]


def open_candidates(path: str, classes: Sequence[str], data: Data, *, key: str) -> Dataset:
    """Open labelled images as a split ``candidates`` with the classes of a data set.

    Args:
        data: what is done about links and unreadable images, and what is hashed to notice changes.
        key: the recipe's key that names the path, for messages.

    Raises:
        InputError: there is nothing, a class has no images, the classes cannot be matched, or an image cannot
            be read; the key is named.
    """
    try:
        with following_links(data.follow_links):
            found = _files(local_folder(path))
        return _as_split(found, path, classes, data)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def _files(path: Path) -> _Files:
    if not path.exists():
        near = [str(each) for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"there is nothing at {str(path)!r}{suggestion(str(path), near)}")
    if path.is_file():
        if path.suffix == ".parquet":
            parquet = ParquetFiles([path])
            return _Files(parquet.layout, parquet.listing, parquet.read)
        return _archive(path)
    if RunFolder(path).is_run():
        arms = ", ".join(str(RunFolder(path).images(arm)) for arm in RunFolder(path).arms())
        raise InputError(f"{path} is the folder of a run; name the images of one arm: {arms or 'none yet'}")
    if (of_run := run_of(path)) is not None and of_run[1] is not None:
        formation = read_source(of_run[0], of_run[1]).method.formation
        if formation is not None:
            raise InputError(
                f"{path} stores {formation.images} images in the pixels of one; `fastdd export` writes them "
                "apart: name that folder"
            )
    found = list_image_files(path)
    counts = dict.fromkeys(found.classes, 0)
    for label in found.labels:
        counts[found.classes[label]] += 1
    listing = Listing(path.name, files=Files(found.files), counts=counts)
    return _Files("images by class", listing, found.read, numbered=found.numbered)


def _archive(path: Path) -> _Files:
    """The images of an archive, whose class is the folder that they lie in."""
    places: dict[str, list[Entry]] = {}
    hidden: list[str] = []
    kept, budget = bytearray(), memory_budget()
    with opened(path) as members:
        compressed = members.compressed
        for member in members:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            is_image = member.kind != "folder" and member.name.lower().endswith(IMAGE_SUFFIXES)
            if not is_image:
                continue
            if any(is_ignored(part) for part in parts):
                named = Entry("/".join(parts), "file", member.size)
                if is_hidden_image(named):
                    hidden.append(named.path)
                continue
            if what := unsafe(member):
                raise InputError(f"{str(path)!r}: {Problem(member.name, what)}")
            entry = Entry("/".join(parts[-2:]), "file", member.size, offset=member.offset)
            if compressed:
                needed = len(kept) + member.size
                if needed > budget:
                    require_memory(needed, f"to hold {str(path)!r} decompressed", "store it as a plain .tar")
                entry = entry._replace(offset=len(kept))
                kept += members.read(member)
            places.setdefault("/".join(parts[:-2]), []).append(entry)
    say_once(hidden_note(path.name, hidden))
    inside = [place for place in places if place.rpartition("/")[2] == "train"] or list(places)
    if len(inside) != 1:
        raise InputError(
            f"{str(path)!r} has class folders in {some(inside)}, expected one place with CLASS/IMAGE; pack "
            "that folder alone"
        )
    listing = arrange(inside[0] or path.name, places[inside[0]], None, [])
    if listing.problems:
        raise InputError(f"{str(path)!r}: {listing.problems[0]}; expected CLASS/IMAGE")
    content = memoryview(kept if compressed else mapped(path))
    if any(entry.offset + entry.size > len(content) for entry in listing.files):
        raise InputError(f"{str(path)!r} is cut short; fetch it again")
    return _Files(
        "archive", listing, lambda entry: bytearray(content[entry.offset : entry.offset + entry.size])
    )


def _as_split(found: _Files, path: str, classes: Sequence[str], data: Data) -> Dataset:
    """The images as a split with the classes of the data set, without the unreadable ones if so asked."""
    reader = EncodedImages(found, path, "train")
    bad = dict(faults(found, quick=True))
    if bad and data.on_error == "fail":
        number, reason = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(
            f"{found.listing.folder}/{reader.names[number]} {reason}{more}; replace it or remove it, or set "
            "data.on_error=skip"
        )
    own = Dataset("candidates", reader.counts, reader.names, reader.fingerprint(data.fingerprint), reader)
    if bad:
        own = own.without(bad)
    return own.under(_matched(own.classes, classes, path, numbered=found.numbered), classes)


def _matched(own: Sequence[str], classes: Sequence[str], path: str, *, numbered: bool) -> dict[str, str]:
    """Class of the data set -> its name among the candidates.

    Raises:
        InputError: a class has none, or names and numbers mean different classes.
    """
    by_name = {name: name for name in classes if name in own}
    by_number: Mapping[str, str] = {}
    if all(name.isdecimal() for name in own) and len({int(name) for name in own}) == len(own):
        numbers = {int(name): name for name in own}
        by_number = {name: numbers[c] for c, name in enumerate(classes) if c in numbers}
    whole_name, whole_number = (len(each) == len(classes) for each in (by_name, by_number))
    if numbered:
        whole_name = False
    if whole_name and whole_number and by_name != by_number:
        c = next(c for c, name in enumerate(classes) if by_number[name] != name)
        raise InputError(
            f"{path}: its folders may be names of classes or their numbers, which differ (class {c} is "
            f"called {classes[c]!r}); name them new000/class000_id000.jpg, as released sets are"
        )
    if whole_name:
        return by_name
    if whole_number and len(own) == len(classes):
        return dict(by_number)
    lacking = [name for name in classes if name not in (by_number if numbered else by_name)]
    raise InputError(
        f"{path} has {counted(len(own), 'class')} ({some(own)}) and none of {some(lacking)}, expected the "
        f"{len(classes)} classes of the data set; name its folders as the data set does, or by class number"
    )
