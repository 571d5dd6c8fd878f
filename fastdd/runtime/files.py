"""Atomic files: every write goes to a temporary name beside the target and is then renamed.

A reader therefore sees the old file, the new file or none, never half of one; a process killed at
any moment leaves at most ``.tmp-PROCESS-NAME`` behind, which ``remove_leftovers`` deletes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = re.compile(r"\.tmp-\d+-(.+)")
"""temporary names, .tmp-PROCESS-NAME"""
FOLDER = ".folder"
"""how the name of a temporary folder ends in which another library writes a file"""
LOCK = ".lock-"
"""how the names of locks begin (lock.py)"""


def temporary_name(path: Path) -> Path:
    """The name beside path under which this process writes it."""
    return path.with_name(f".tmp-{os.getpid()}-{path.name}")


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
    temporary = temporary_name(path)
    with explained(path, size):
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


def append_line(path: Path, line: str) -> None:
    """Append one line to a log.

    Raises:
        InputError: the disk is full or the file cannot be written to.
    """
    with explained(path, len(line)), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def explained(
    path: Path, size: int = 0, *, remedy: str = "choose another folder with --out"
) -> Iterator[None]:
    """Turn the system's refusal to write into an InputError.

    Args:
        size: bytes of what is written.
        remedy: what to do where it cannot be written at all.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no space left for {path} ({size / 1e6:.1f} MB); free some and start the same "
                "command again: finished work is kept"
            ) from error
        if error.errno == errno.EFBIG:
            raise InputError(
                f"no file as large as {path} ({size / 1e6:.1f} MB) may be written here; raise the limit "
                f"(`ulimit -f`), or {remedy}"
            ) from error
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
            raise _in_the_way(path, error, remedy) from error
        raise InputError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error


def _in_the_way(path: Path, error: OSError, remedy: str) -> InputError:
    """The error of a file where a folder belongs, or of a folder where a file does."""
    if error.errno == errno.EISDIR:
        return InputError(f"cannot write {path}: a folder is in its place; move that away, or {remedy}")
    lying = [each for each in (path, *path.parents) if os.path.lexists(each) and not each.is_dir()]
    above = lying[0] if lying else path
    return InputError(f"cannot write {path}: {above} is no folder; move it away, or {remedy}")


def require_writable(path: Path, remedy: str) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold.

    Args:
        path: the file, present or not.
        remedy: what to do, for the message.
    """
    temporary = temporary_name(path)
    with explained(path, remedy=remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        temporary.touch()
        temporary.unlink()


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Delete the temporary files of files, and of all that lies in folders.

    The caller knows that the processes that wrote them are gone: it holds the folder (lock.py).

    Args:
        targets: files and folders, present or not.
    """
    found: list[Path] = []
    for target in targets:
        if target.parent.is_dir():
            beside = target.parent.iterdir()
            found += [path for path in beside if target_name(path) == target.name]
        if target.is_dir() and not target.is_symlink():
            found += [path for path in target.rglob(".tmp-*") if target_name(path)]
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def target_name(path: Path) -> str | None:
    """The name of the file that a temporary file becomes; None: it is no temporary file of ours."""
    match = TEMPORARY.fullmatch(path.name)
    return match[1].removesuffix(FOLDER) if match else None


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
        mode = temporary.stat().st_mode  # what the user's umask gives; safetensors writes for the owner alone
        folder = temporary.with_name(temporary.name + FOLDER)  # its own temporary names have none of ours
        try:
            folder.mkdir(exist_ok=True)
            save_file(whole, folder / path.name, metadata)  # straight from the tensors, perhaps gigabytes
            (folder / path.name).chmod(mode)
            os.replace(folder / path.name, temporary)
        except SafetensorError as error:
            # The library gives the system's error as text: "I/O error: No space left ... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), str(error)) if number else error from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


VARIABLE = "FASTDD_CACHE"
"""environment variable that names another folder, or where it is empty none"""


def cache_folder() -> Path | None:
    """``FASTDD_CACHE``, else ``fastdd`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.

    None: ``FASTDD_CACHE`` is set and empty, or the user has no home; then nothing is kept.
    """
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named) if named else None
    above = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    found = os.path.expanduser(above)
    return None if found.startswith("~") else Path(found) / "fastdd"
