"""An image folder on disk: listed with one scan a class folder, read one file at a time.

Links may point anywhere inside the root, never out of it: a dataset from elsewhere must not make
fastdd read other files of the machine. Cost: one `stat` a file; 1.3 million files take seconds from a
warm cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError
from .tree import SPLIT_FOLDERS, Entry, Listing, Split, arrange, is_class_folder, split_folder


class Folder:
    """One split of an image folder.

    Args:
        root: the folder that holds `train/` and `test/` (or `val/`).
        split: "train" or "test".

    Raises:
        InputError: root is empty, has no such split, or cannot be read.
    """

    def __init__(self, root: Path, split: Split) -> None:
        self.root = root
        self.real_root = os.path.realpath(root)
        found = self._scan("")
        top = {entry.name for entry in found if self._kind(entry) == "folder"}
        if not found:
            raise InputError(f"{str(root)!r} is empty; expected train/CLASS/IMAGE and test/CLASS/IMAGE")
        if not any(name in top for names in SPLIT_FOLDERS.values() for name in names):
            self._refuse_one_level_up(top)
        self.folder = split_folder(top, split, str(root))
        self.listing: Listing = arrange(self.folder, self._entries(), self._other(top, split), [])

    def read(self, entry: Entry) -> bytearray:
        """The encoded bytes of one image; a file that shrank since it was listed comes back short."""
        data = bytearray(entry.size)
        with open(self.root / self.folder / entry.path, "rb") as file:
            del data[file.readinto(data) :]
        return data

    def _scan(self, inside: str) -> list[os.DirEntry[str]]:
        path = self.root / inside
        try:
            with os.scandir(path) as found:
                return list(found)
        except OSError as error:
            raise InputError(f"cannot list {str(path)!r}: {error.strerror}; check its permissions") from error

    def _kind(self, entry: os.DirEntry[str]) -> str:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not os.path.exists(target):
                return "a link that leads nowhere"
            if os.path.commonpath((self.real_root, target)) != self.real_root:
                return "a link that leads out of the data folder"
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_file() else "not a plain file"

    def _entries(self) -> list[Entry]:
        entries = []
        for top in self._scan(self.folder):
            kind = self._kind(top)
            size = top.stat().st_size if kind == "file" else 0
            entries.append(Entry(top.name, kind, size))
            if kind == "folder" and is_class_folder(top.name):
                for inner in self._scan(f"{self.folder}/{top.name}"):
                    kind = self._kind(inner)
                    size = inner.stat().st_size if kind == "file" else 0
                    entries.append(Entry(f"{top.name}/{inner.name}", kind, size))
        return entries

    def _other(self, top: set[str], split: Split) -> tuple[str, set[str]] | None:
        """Folder name and classes of the split that is not open, without looking into the classes."""
        names = SPLIT_FOLDERS["test" if split == "train" else "train"]
        for name in names:
            if name in top:
                folders = {entry.name for entry in self._scan(name) if self._kind(entry) == "folder"}
                return name, {folder for folder in folders if is_class_folder(folder)}
        return None

    def _refuse_one_level_up(self, top: set[str]) -> None:
        """A root one level too high is the commonest slip: name the folder that was meant."""
        for name in sorted(top):
            if (self.root / name / "train").is_dir():
                raise InputError(
                    f"{str(self.root)!r} has no train/ folder, but {str(self.root / name)!r} has; give that as the root"
                )
