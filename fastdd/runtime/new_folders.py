"""Folders that are whole or absent: written under a temporary name beside their place, and then renamed.

The temporary folder holds its process's lock (lock.py), so that those of processes that were killed are known
and deleted by the next that writes to the same place.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .files import explained, target_name, temporary_name
from .lock import at_work, is_abandoned, refuse_busy


@contextmanager
def new_folder(path: Path, size: int = 0) -> Iterator[Path]:
    """A temporary folder beside path that takes its place when the block ends, or goes if it fails.

    Args:
        path: absent, or an empty folder.
        size: bytes that will be written, for the message where they do not fit.

    Raises:
        InputError: path is not empty or no folder, the disk is full, or the folder above cannot be written
            to.
    """
    require_new(path)
    temporary = temporary_name(path)
    with explained(path, size):
        temporary.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        refuse_busy(temporary)  # another thread of this process writes to the same place
        shutil.rmtree(temporary, ignore_errors=True)  # of one that had the same number and no lock yet
        try:
            temporary.mkdir()
            with at_work(temporary, "writer"):
                yield temporary
            os.replace(temporary, path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                raise InputError(f"{path} is not empty; choose a new folder with --out") from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def require_new(path: Path) -> None:
    """Refuse a place for ``new_folder`` that holds something."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose another folder with --out")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} is not empty; choose a new folder with --out")


def _remove_abandoned(path: Path) -> None:
    """Delete what processes that are gone have begun to write for this path."""
    for beside in path.parent.iterdir():
        if target_name(beside) == path.name and not beside.is_symlink() and is_abandoned(beside):
            shutil.rmtree(beside, ignore_errors=True)
