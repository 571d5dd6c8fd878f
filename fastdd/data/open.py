"""From the root of a data set to its index: one function for every layout.

A root is a path, a pattern of shards, ``digits``, or ``package.module:function``, which the layouts of
sources/ recognize; or NAME:REST, where NAME is a layout's or a registered source's name, which then opens
REST.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from ..config.downloads import origin_of
from ..errors import InputError, suggestion
from ..runtime.distributed import say_once
from .dataset import Dataset
from .sources.base import SOURCES, FingerprintOf, Layout, Split, SplitImages
from .sources.digits import NAME as DIGITS
from .sources.folder import following_links
from .sources.torch_dataset import OBJECTS, FunctionLayout, RegisteredFunction
from .sources.tree import SPLIT_FOLDERS

FINGERPRINTS = ("names", "contents")
LONGEST = 120
"""characters of a root in a message"""


class MissingRootError(InputError):
    """There is nothing at the root of a data set."""


def open_dataset(
    root: str | Path, split: str, fingerprint: FingerprintOf = "names", *, follow_links: bool = False
) -> Dataset:
    """Index one split; nothing is decoded yet.

    Args:
        root: one of
            - "digits" (see sources/digits.py);
            - a folder with train/CLASS/IMAGE and test/CLASS/IMAGE (or val/), or a .tar, .tar.gz, .tar.bz2,
              .tar.xz or .zip of one, itself possibly below one top folder;
            - the folder of Tiny-ImageNet, or an archive of it (see sources/tiny_imagenet.py);
            - a folder of WebDataset shards, or a pattern such as "shards/{split}-{0000..0099}.tar" (see
              sources/webdataset.py);
            - the files of CIFAR-10 or CIFAR-100 as distributed (see sources/cifar.py);
            - a folder of Parquet files (see sources/parquet.py);
            - hf:ORG/NAME, a data set of the hub that is in the cache (see sources/hub.py);
            - a .npz file of MedMNIST or Keras (see sources/npz.py);
            - package.module:function, a function of the user's that is called with "train" or "test" and
              returns a torch Dataset (see sources/torch_dataset.py);
            - NAME:REST for a source of the name NAME (see fastdd.register_source).
            Images in files are JPEG or PNG.
        split: "train" or "test"; "val" means "test".
        fingerprint: "names" hashes file names and sizes, without opening a file; "contents" reads every file
            once. Images that come decoded (digits, CIFAR) are hashed by their pixels whichever is asked for;
            of a torch Dataset "names" hashes the labels and 64 images, "contents" all images.
        follow_links: whether links in a folder may lead out of it, such as those of a hub's cache.

    Raises:
        InputError: there is nothing at the root, or the first thing wrong with it (see sources/tree.py).
    """
    name = split_named(split)
    if fingerprint not in FINGERPRINTS:
        hint = suggestion(str(fingerprint), FINGERPRINTS)
        raise InputError(f"fingerprint {fingerprint!r} is unknown{hint}; expected 'names' or 'contents'")
    images = open_split(root, name, follow_links)
    if images.problems:
        more = len(images.problems) - 1
        others = f" (and {more} more: `fastdd data check {root}` lists all)" if more else ""
        raise InputError(f"data set {str(root)!r}: {images.problems[0]}{others}")
    return Dataset(name, images.counts, images.names, images.fingerprint(fingerprint), reader=images)


def open_split(root: str | Path, split: Split, follow_links: bool = False) -> SplitImages:
    """The images of one split with all that is wrong with it.

    Raises:
        MissingRootError: there is nothing at the root.
        InputError: the root holds no such split, or is damaged.
    """
    with following_links(follow_links):
        source, rest = source_of(str(root))
        images = source.open(rest, split)
    if images.note:
        _say(f"{root}: {images.note}")
    return images


@cache
def _say(note: str) -> None:
    """Say a note, once however often a split is opened."""
    say_once(note)


def source_of(root: str) -> tuple[Layout, str]:
    """Who opens a root, and what is left of it behind a NAME and colon.

    A path that exists is never taken for NAME:REST, and no name has one letter, as the drives of Windows
    have.
    """
    name, colon, rest = root.partition(":")
    if colon and name in SOURCES and not os.path.lexists(root):
        source = SOURCES[name]
        return (source if isinstance(source, Layout) else RegisteredFunction(name, source)), rest
    _look(root)
    for layout in SOURCES.layouts():
        if layout.recognizes(root):
            return layout, root
    if os.path.lexists(root) and os.path.exists(root):
        raise InputError(f"{root!r} is neither a folder nor a file; expected an image folder or a .tar")
    path = Path(root)
    near = []
    if path.parent.is_dir() and os.access(path.parent, os.R_OK):
        near = [str(path.parent / found) for found in os.listdir(path.parent)]
    named = [f"{known}:{rest}" for known in SOURCES] if colon else []
    raise MissingRootError(
        f"no data at {root!r}{suggestion(root, [DIGITS, *named, *near])}; expected an image folder, a .tar "
        f"of one, or {DIGITS!r}{origin_of(root)}"
    )


def _look(root: str) -> None:
    """Refuse a path that the system cannot follow or open: too long a name, links in a circle, a closed
    folder."""
    try:
        if os.path.isdir(root):
            with os.scandir(root):
                os.stat(os.path.join(root, os.curdir))  # fails where the folder can be listed, and no more
        else:
            os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise InputError(f"{root!r} cannot be opened ({error.strerror}); check its permissions") from error
    except OSError as error:
        shown = repr(root) if len(root) <= LONGEST else f"{root[:LONGEST]!r}... ({len(root)} characters)"
        raise InputError(f"{shown} cannot be opened ({error.strerror}); give another data root") from error


def check_recorded_root(root: str, option: str) -> None:
    """Refuse the root that a finished run's recipe names, where it cannot or must not be opened from there.

    Args:
        option: option of the command that gives the images otherwise, for the message.

    Raises:
        InputError: the run was made from objects of another process; or from a function, which the recipe of
            somebody else must not call.
    """
    name, _, rest = root.partition(":")
    if name == "object" and rest not in OBJECTS.given:
        what = "objects that were given from Python"
    elif isinstance(source_of(root)[0], FunctionLayout):
        what = "a function, which is called only where you ask for it"
    else:
        return
    raise InputError(f"the run was made from {what} ({root}); give its real images with {option} ROOT")


def split_named(split: str) -> Split:
    """ "train" or "test", from any name of a split."""
    for name, folders in SPLIT_FOLDERS.items():
        if split in (name, *folders):
            return name
    raise InputError(
        f"split {split!r} is unknown{suggestion(split, SPLIT_FOLDERS)}; expected 'train' or 'test'"
    )
