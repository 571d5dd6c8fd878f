"""The index of a data set kept on disk, so that archives of a million images are read through once.

The file ``index/SPLIT-HASH.safetensors`` in fastdd's cache (runtime/files.py) belongs to one split of one
root. It holds the columns of the split's ``Files``, and a hash of what they were made from: path, size and
both times of the last change of each archive, and the list of classes. A kept index is used only where all of
that is as it was; otherwise, or where the file is damaged, the index is made again and takes its place. No
index is kept of few images, of a data set with problems, and of archives that changed so lately that a
further change might leave their times as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from typing_extensions import TypedDict

from ...errors import InputError
from ...run_folder.reading import TensorFile
from ...runtime.distributed import say_once
from ...runtime.files import VARIABLE, cache_folder, require_writable, write_tensors
from ...version import __version__
from .base import Split
from .tree import Files, Listing, names_digest

LEAST = 20_000
"""images from which an index is kept; fewer take less than half a second to index"""
SETTLED_NS = 2_000_000_000
"""nanoseconds since the last change of an archive from which its times are trusted: the coarsest clock of a
file system counts in steps of two seconds"""
METADATA_KEY = "index"
COLUMNS = ("sizes", "offsets", "parts")


class _Note(TypedDict):
    """What a kept index holds beside the columns.

    Attributes:
        made_from: hash of what it was made from, hexadecimal.
        content: sha256 of the names and the columns.
        folder, counts, digest: as in Listing.
    """

    made_from: str
    content: str
    folder: str
    counts: dict[str, int]
    digest: str


class IndexOrigin:
    """What the index of one split is made from.

    Args:
        archives: every archive that is read for the index.
        classes: names of the classes by number, where a list gives them.
    """

    def __init__(
        self, root: str | Path, split: Split, archives: Sequence[Path], classes: Sequence[str] | None
    ) -> None:
        self.root, self.split, self.archives, self.classes = os.path.abspath(root), split, archives, classes

    def file(self) -> Path | None:
        """Where the index is kept; None: nothing is kept here."""
        if (folder := cache_folder()) is None:
            return None
        name = hashlib.sha256(self.root.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return folder / "index" / f"{self.split}-{name}.safetensors"

    def hash(self) -> tuple[str, int]:
        """Hash of the archives as they are now, and when the last of them changed, in ns since 1970."""
        found = [os.stat(path) for path in self.archives]
        seen = [
            (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            for path, stat in zip(self.archives, found, strict=True)
        ]
        content = json.dumps([__version__, self.root, self.split, seen, self.classes])
        last = max((stat.st_mtime_ns for stat in found), default=0)
        return hashlib.sha256(content.encode()).hexdigest(), last


def listing_of(origin: IndexOrigin, make: Callable[[], Listing]) -> Listing:
    """The listing of one split: the kept one where nothing has changed, or a new one, which is kept."""
    if (path := origin.file()) is None:
        return make()
    made_from, changed = origin.hash()
    if path.exists():
        try:
            if kept := _read(path, made_from):
                return kept
        except InputError as error:
            say_once(str(error))
    settled = time.time_ns() - changed >= SETTLED_NS
    listing = make()
    if settled and not listing.problems and len(listing.files) >= LEAST and origin.hash()[0] == made_from:
        listing.digest = names_digest(origin.split, listing.files)
        _keep(path, listing, made_from)
    return listing


def _keep(path: Path, listing: Listing, made_from: str) -> None:
    """Write an index; what hinders it is said, and costs time alone."""
    files = listing.files
    names = "\0".join(files.paths).encode("utf-8", "surrogateescape")
    if names.count(b"\0") != len(files) - 1:  # an archive may name a member so
        return
    columns = {"names": torch.frombuffer(bytearray(names), dtype=torch.uint8)}
    columns |= {name: torch.frombuffer(getattr(files, name), dtype=torch.int64) for name in COLUMNS}
    note = _Note(
        made_from=made_from,
        content=_hash(columns),
        folder=listing.folder,
        counts=listing.counts,
        digest=listing.digest,
    )
    try:
        require_writable(path, f"name another folder for the index in {VARIABLE}, or none with {VARIABLE}=")
        write_tensors(path, columns, {METADATA_KEY: json.dumps(note)})
    except InputError as error:
        say_once(f"the index of the data is not kept: {error}")


def _read(path: Path, made_from: str) -> Listing | None:
    """The index in a file; None: it was made from something else."""
    file = TensorFile(path, "the index is made again")
    note = file.note(METADATA_KEY, _Note)
    if note["made_from"] != made_from:
        return None
    count = sum(note["counts"].values())
    file.require({"names": (-1,), **dict.fromkeys(COLUMNS, (count,))}, ("names", *COLUMNS))
    columns = {name: file.tensor(name) for name in ("names", *COLUMNS)}
    if _hash(columns) != note["content"]:
        raise file.damaged("its content has another hash than it says")
    files = Files()
    files.paths = columns["names"].numpy().tobytes().decode("utf-8", "surrogateescape").split("\0")
    for name in COLUMNS:
        setattr(files, name, array("q", columns[name].numpy().tobytes()))
    return Listing(note["folder"], files, note["counts"], digest=note["digest"])


def _hash(columns: dict[str, torch.Tensor]) -> str:
    """sha256 of tensors in the order of their names, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(np.ascontiguousarray(columns[name].numpy()).data)
    return digest.hexdigest()
