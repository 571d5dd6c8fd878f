"""From the name of a data set to its index: one function for every layout."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, suggestion
from .dataset import Dataset, FingerprintOf
from .sources import cifar
from .sources.cifar import Cifar
from .sources.detect import BUILT_IN, existing, open_source
from .sources.digits import Digits
from .sources.encoded import EncodedImages
from .sources.layout import SPLIT_FOLDERS, Split
from .sources.webdataset_paths import is_pattern

FINGERPRINTS = ("names", "contents")


def open_dataset(root: str | Path, split: Split, fingerprint: FingerprintOf = "names") -> Dataset:
    """Index one split; nothing is decoded yet.

    Args:
        root: one of
            "digits" (see sources/digits.py);
            a folder with train/CLASS/IMAGE and test/CLASS/IMAGE (or val/), or a .tar, .tar.gz or .tar.xz of
            one, itself possibly below one top folder;
            the folder of Tiny-ImageNet, or a tar of it (see sources/tiny_imagenet.py);
            a folder of WebDataset shards, or a pattern such as "shards/{split}-{0000..0099}.tar" (see sources/webdataset.py);
            the files of CIFAR-10 or CIFAR-100 as distributed (see sources/cifar.py).
            Images are JPEG or PNG.
        split: "train" or "test"; "val" means "test".
        fingerprint: of "names" and sizes, without opening a file; or of "contents", one read of every file.
            That of images which come decoded (digits, CIFAR) is of their pixels whichever is asked for.

    Raises:
        InputError: the root is missing, or the first thing wrong with its layout (see sources/layout.py).
    """
    split = split_named(split)
    if fingerprint not in FINGERPRINTS:
        hint = suggestion(str(fingerprint), FINGERPRINTS)
        raise InputError(f"fingerprint {fingerprint!r} is unknown{hint}; expected 'names' or 'contents'")
    if (decoded := open_decoded(root, split)) is not None:
        return Dataset(split, decoded.counts, decoded.names, decoded.fingerprint, decoded, "contents")
    source = open_source(root, split)
    listing = source.listing
    if listing.problems:
        more = len(listing.problems) - 1
        others = f" (and {more} more: `fastdd data check {root}` lists all)" if more else ""
        raise InputError(f"data set {str(root)!r}: {listing.problems[0]}{others}")
    reader = EncodedImages(source, str(root))
    digest = reader.fingerprint(split, fingerprint == "contents")
    return Dataset(
        split, listing.counts, [entry.path for entry in listing.files], digest, reader, fingerprint
    )


def open_decoded(root: str | Path, split: Split) -> Digits | Cifar | None:
    """The images of a root whose images are not kept as JPEG or PNG files; None for every other root.

    Raises:
        InputError: the root is missing, or its files are damaged.
    """
    if str(root) == BUILT_IN:
        return Digits(split)
    found = None if is_pattern(root) else cifar.find(existing(root))
    return Cifar(*found, split) if found else None


def split_named(split: str) -> Split:
    """ "train" or "test", from any name of a split.

    Raises:
        InputError: the name is unknown.
    """
    for name, folders in SPLIT_FOLDERS.items():
        if split in (name, *folders):
            return name
    raise InputError(
        f"split {split!r} is unknown{suggestion(split, SPLIT_FOLDERS)}; expected 'train' or 'test'"
    )
