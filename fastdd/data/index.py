"""From the name of a data set to its index: the digits, a folder or an archive behind one function."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from torch import Tensor

from ..errors import InputError, suggestion
from .archive import Archive
from .dataset import Dataset, processors
from .digits import Digits
from .folder import Folder
from .tree import SPLIT_FOLDERS, Split

BUILT_IN = "digits"
# Mean size in bytes of a file from which threads pay: a smaller image takes the interpreter, which only one
# thread can hold, as long as the decoder.
THREADED_BYTES = 8192


def open_dataset(root: str | Path, split: Split) -> Dataset:
    """Index one split; nothing is decoded yet.

    Args:
        root: "digits" (see digits.py); a folder with train/CLASS/IMAGE and test/CLASS/IMAGE (or val/);
            or a .tar, .tar.gz or .tar.xz of one, itself possibly below one top folder. JPEG and PNG.
        split: "train" or "test"; "val" means "test".

    Raises:
        InputError: the root is missing, or the first thing wrong with its layout (see tree.py).
    """
    split = _split(split)
    if str(root) == BUILT_IN:
        digits = Digits(split)
        return Dataset(split, digits.counts, digits.names, digits.fingerprint, digits)
    source = open_source(root, split)
    listing = source.listing
    if listing.problems:
        more = len(listing.problems) - 1
        others = f" (and {more} more: `fastdd data check {root}` lists all)" if more else ""
        raise InputError(f"data set {str(root)!r}: {listing.problems[0]}{others}")
    names = [entry.path for entry in listing.files]
    digest = hashlib.sha256(f"{split}\n".encode())
    for entry in listing.files:
        digest.update(f"{entry.path}\0{entry.size}\n".encode("utf-8", "surrogateescape"))
    return Dataset(split, listing.counts, names, digest.hexdigest(), EncodedImages(source, str(root)))


def open_source(root: str | Path, split: Split) -> Folder | Archive:
    """List one split of a folder or an archive, with all its problems.

    Raises:
        InputError: the root is missing, or holds no such split.
    """
    path = Path(root)
    if path.is_dir():
        return Folder(path, split)
    if path.is_file():
        return Archive(path, split)
    if path.exists():
        raise InputError(f"{str(root)!r} is neither a folder nor a file; expected an image folder or a .tar")
    near = []
    if path.parent.is_dir() and os.access(path.parent, os.R_OK):
        near = [str(path.parent / name) for name in os.listdir(path.parent)]
    hint = suggestion(str(root), [BUILT_IN, *near])
    raise InputError(f"no data at {str(root)!r}{hint}; expected an image folder, a .tar of one, or {BUILT_IN!r}")


def _split(split: str) -> Split:
    for name, folders in SPLIT_FOLDERS.items():
        if split in (name, *folders):
            return name
    raise InputError(f"split {split!r} is unknown{suggestion(split, SPLIT_FOLDERS)}; expected 'train' or 'test'")


class EncodedImages:
    """Reader of the images of a folder or an archive."""

    def __init__(self, source: Folder | Archive, root: str) -> None:
        self.source, self.root, self.files = source, root, source.listing.files
        mean_bytes = sum(entry.size for entry in self.files) / max(1, len(self.files))
        self.threads = processors() if mean_bytes >= THREADED_BYTES else 1

    def pixels(self, index: int, channels: int) -> Tensor:
        """Decode one image.

        Raises:
            InputError: the file cannot be read or is no whole image; the message names it.
        """
        from .decode import BadImage, decode

        try:
            return decode(self.encoded(index), channels)
        except BadImage as error:
            raise self._bad(index, str(error)) from error

    def encoded(self, index: int) -> bytearray:
        """The bytes of one file.

        Raises:
            InputError: the file cannot be read; the message names it.
        """
        try:
            return self.source.read(self.files[index])
        except OSError as error:
            raise self._bad(index, f"cannot be read ({error.strerror})") from error

    def _bad(self, index: int, reason: str) -> InputError:
        where = f"{self.source.listing.folder}/{self.files[index].path}"
        return InputError(
            f"image {where!r} of {self.root!r} {reason}; `fastdd data check {self.root}` lists all such files"
        )
