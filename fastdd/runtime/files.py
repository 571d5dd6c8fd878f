"""Atomic files: every write goes to a temporary name beside the target and is then renamed.

A reader therefore sees the old file, the new file or none, never half of one; a process killed at
any moment leaves at most ``.tmp`` files behind, which ``remove_leftovers`` deletes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".tmp"
"""How temporary names begin: ours are .tmp-PROCESS-NAME, those of safetensors .tmpRANDOM."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write content to path, creating its folder, so that path is never seen half-written.

    Raises:
        InputError: the disk is full or the folder cannot be written to; path is as it was.
    """
    with _replacing(path, len(content)) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextmanager
def _replacing(path: Path, size: int) -> Iterator[Path]:
    """A temporary name that is on the disk and takes the place of path when the block ends, or goes if it
    fails."""
    temporary = path.with_name(f"{TEMPORARY}-{os.getpid()}-{path.name}")
    with _explained(path, size):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise


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
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose another folder with --out")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"{path} is not empty; choose a new folder with --out")
    temporary = path.with_name(f"{TEMPORARY}-{os.getpid()}-{path.name}")
    with _explained(path, size):
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed and had the same number
        try:
            temporary.mkdir(parents=True)
            yield temporary
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def append_line(path: Path, line: str) -> None:
    """Append one line to a log.

    Raises:
        InputError: the disk is full or the file cannot be written to.
    """
    with _explained(path, len(line)), open(path, "a") as file:
        file.write(line + "\n")


@contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    """Turn what the user can mend into an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no space left for {path} ({size / 1e6:.1f} MB); free some and start the same "
                "command again: finished work is kept"
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError) or error.errno == errno.EROFS:
            raise InputError(
                f"cannot write {path}: {error.strerror}; choose another folder with --out"
            ) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed process left in a folder: they bear the names of images and
    weights."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        leftover.unlink()


def write_text(path: Path, content: str) -> None:
    """Write text atomically (see write_bytes)."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically: sorted nowhere, two-space indent, one final newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; tensors are moved to the CPU and made contiguous."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with _replacing(path, sum(t.nbytes for t in whole.values())) as temporary:
        temporary.touch()
        mode = (
            temporary.stat().st_mode
        )  # what the user's umask gives; safetensors makes files for their owner alone
        try:
            save_file(whole, temporary, metadata)  # straight from the tensors: the content may be gigabytes
            temporary.chmod(mode)
        except SafetensorError as error:
            # The library gives the system's error as text: "I/O error: No space left ... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), str(error)) if number else error from error
