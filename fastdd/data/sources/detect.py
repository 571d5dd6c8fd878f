"""Which layout a root has: an image folder, Tiny-ImageNet, shards, or an archive. Names and headers only are read."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError, suggestion
from .folder import Folder
from .layout import Source, Split
from .tar_archive import Archive
from .tiny_imagenet import TinyFolder, is_tiny
from .webdataset import Shards
from .webdataset_paths import is_pattern, is_sharded

BUILT_IN = "digits"


def open_source(root: str | Path, split: Split) -> Source:
    """List one split of encoded images, with all its problems.

    Raises:
        InputError: the root is missing, or holds no such split.
    """
    if is_pattern(root):
        return Shards(root, split)
    path = existing(root)
    if path.is_file():
        return Archive(path, split)
    if is_tiny(path):
        return TinyFolder(path, split)
    return Shards(path, split) if is_sharded(path) else Folder(path, split)


def existing(root: str | Path) -> Path:
    """The root as a path.

    Raises:
        InputError: there is no such folder or file.
    """
    path = Path(root)
    if path.is_dir() or path.is_file():
        return path
    if path.exists():
        raise InputError(f"{str(root)!r} is neither a folder nor a file; expected an image folder or a .tar")
    near = []
    if path.parent.is_dir() and os.access(path.parent, os.R_OK):
        near = [str(path.parent / name) for name in os.listdir(path.parent)]
    hint = suggestion(str(root), [BUILT_IN, *near])
    raise InputError(
        f"no data at {str(root)!r}{hint}; expected an image folder, a .tar of one, or {BUILT_IN!r}"
    )
