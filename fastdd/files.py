"""Atomic files: every write goes to a temporary name beside the target and is then renamed.

A reader therefore sees the old file, the new file or none, never half of one; a process killed at
any moment leaves at most a ``.tmp-`` file behind, which nobody reads.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from .errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write content to path, creating its folder, so that path is never seen half-written.

    Raises:
        InputError: the disk is full or the folder cannot be written to; path is as it was.
    """
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no space left for {path} ({len(content) / 1e6:.1f} MB); free some and start the same "
                "command again: finished work is kept"
            ) from error
        if isinstance(error, PermissionError | NotADirectoryError) or error.errno == errno.EROFS:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another folder with --out") from error
        raise


def write_text(path: Path, content: str) -> None:
    """Write text atomically (see write_bytes)."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: sorted nowhere, two-space indent, one final newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically; tensors are moved to the CPU and made contiguous."""
    from safetensors.torch import save

    write_bytes(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata))
