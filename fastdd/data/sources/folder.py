"""An image folder on disk: listed with one scan a class folder, read one file at a time.

Links may point anywhere inside the root and not out of it, since a dataset from elsewhere must not make
fastdd read other files of the machine; in huggingface_hub's cache they point to ``blobs/`` of the same data
set, ``datasets--ORG--NAME``. ``data.follow_links`` allows links that lead anywhere. Cost: one
`stat` a file; 1.3 million files take seconds from a warm cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path

from ...errors import InputError
from .base import Layout, Split, SplitImages, register_source
from .encoded import EncodedImages
from .tree import SPLIT_FOLDERS, Entry, Listing, arrange, is_class_folder, split_folder

_follow_links: ContextVar[bool] = ContextVar("follow_links", default=False)


@contextmanager
def following_links(allowed: bool) -> Iterator[None]:
    """Let links lead out of the data folders that are opened within, or not."""
    before = _follow_links.set(allowed)
    try:
        yield
    finally:
        _follow_links.reset(before)


def link_boundary(root: str | Path) -> str:
    """The folder out of which no link may lead: the data's, of a data set in the cache of a hub the one that
    holds its files too, or where links are followed that of all files."""
    if _follow_links.get():
        return os.path.abspath(os.sep)
    real = Path(os.path.realpath(root))
    repositories = (each.parent for each in (real, *real.parents) if each.name == "snapshots")
    cached = next((each for each in repositories if each.name.startswith("datasets--")), real)
    return str(cached)


class FolderLayout(Layout):
    """Every folder that no other layout recognizes."""

    priority = 0

    def recognizes(self, root: str) -> bool:
        """Whether the root is a folder."""
        return Path(root).is_dir()

    def open(self, root: str, split: Split) -> SplitImages:
        """List one split of an image folder (see Folder)."""
        return EncodedImages(Folder(Path(root), split), root, split)


class Folder:
    """One split of an image folder.

    Raises:
        InputError: root is empty, has no such split, or cannot be read.
    """

    layout = "ImageFolder"

    def __init__(self, root: Path, split: Split) -> None:
        self.root = root
        self.real_root = link_boundary(root)
        found = list_folder(root)
        kinds = {entry.name: kind_of(entry, self.real_root) for entry in found}
        top = {name for name, kind in kinds.items() if kind == "folder"}
        if not found:
            raise InputError(f"{str(root)!r} is empty; expected train/CLASS/IMAGE and test/CLASS/IMAGE")
        if not any(name in top for names in SPLIT_FOLDERS.values() for name in names):
            self._refuse_one_level_up(top)
        for name in SPLIT_FOLDERS[split]:
            if kinds.get(name, "").startswith("a link"):
                raise InputError(f"{str(root / name)!r} is {kinds[name]}; replace it or remove it")
        self.folder = split_folder(top, split, str(root))
        entries = two_levels(root / self.folder, self.real_root)
        self.listing: Listing = arrange(self.folder, entries, self._other(top, split), [])

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see ImageFiles)."""
        return read_part(f"{self.root}/{self.folder}/{entry.path}", first, entry.size - first, size)

    def _other(self, top: set[str], split: Split) -> tuple[str, set[str]] | None:
        """Folder name and classes of the split that is not open, without looking into the classes."""
        names = SPLIT_FOLDERS["test" if split == "train" else "train"]
        for name in names:
            if name in top:
                found = (
                    entry
                    for entry in list_folder(self.root / name)
                    if kind_of(entry, self.real_root) == "folder"
                )
                return name, {entry.name for entry in found if is_class_folder(entry.name)}
        return None

    def _refuse_one_level_up(self, top: set[str]) -> None:
        """A root one level too high is the commonest slip: name the folder that was meant."""
        for name in sorted(top):
            if (self.root / name / "train").is_dir():
                raise InputError(
                    f"{str(self.root)!r} has no train/ folder, but {str(self.root / name)!r} has; give that "
                    "as the root"
                )


def list_folder(path: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, in any order."""
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError as error:
        raise InputError(f"cannot list {str(path)!r}: {error.strerror}; check its permissions") from error


def two_levels(path: Path, real_root: str) -> Iterator[Entry]:
    """What lies in a folder and in the folders inside it, with the size of each file, folder after folder.

    A hidden folder is no class, so one that cannot be listed is left alone.
    """
    for top in sized(path, real_root):
        yield top
        if top.kind == "folder":
            with nullcontext() if is_class_folder(top.path) else suppress(InputError):
                for inner in sized(path / top.path, real_root):
                    yield inner._replace(path=f"{top.path}/{inner.path}")


def sized(path: Path, real_root: str) -> list[Entry]:
    """What lies in a folder, by name, with the size of each file."""
    entries = []
    for found in list_folder(path):
        kind = kind_of(found, real_root)
        entries.append(Entry(found.name, kind, found.stat().st_size if kind == "file" else 0))
    return entries


def kind_of(entry: os.DirEntry[str], real_root: str) -> str:
    """ "file", "folder", or what is rejected, as in Entry."""
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            return "a link that leads nowhere"
        if os.path.commonpath((real_root, target)) != real_root:
            return "a link that leads out of the data folder (data.follow_links=true follows it)"
    if entry.is_dir():
        return "folder"
    return "file" if entry.is_file() else "not a plain file"


def read_part(path: str, offset: int, left: int, size: int | None) -> bytearray:
    """Read ``size`` bytes of a file from an offset on: at most ``left``, and fewer if the file is shorter."""
    data = bytearray(max(0, left if size is None else min(left, size)))
    with open(path, "rb") as file:
        file.seek(offset)
        del data[file.readinto(data) :]
    return data


register_source("folder", FolderLayout())
