"""Tar files read by their headers: the members one after the other, with damage told from the end.

Cost: about 20 us a member, whatever its size.
"""

from __future__ import annotations

import gzip
import lzma
import mmap
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ...errors import InputError

DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError, RecursionError)
MAGIC_GZIP, MAGIC_XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"

EndOfArchive = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # a block of zeros where a header is due


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """The archive as a stream of tar blocks, and whether it is compressed.

    Raises:
        InputError: it cannot be read; or, while it is used, it is damaged or cut short.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic.startswith(MAGIC_GZIP):
                with gzip.open(file) as stream:
                    yield cast(IO[bytes], stream), True
            elif magic == MAGIC_XZ:
                with lzma.open(file) as stream:
                    yield cast(IO[bytes], stream), True
            else:
                yield file, False
    except DAMAGE as error:
        raise damaged(path, str(error)) from error
    except PermissionError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions") from error


def members(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members one by one; none is remembered, for a million of them would take gigabytes."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        member = tar.next()
        while member is not None:
            before = member.offset_data
            yield member
            stream.seek(tar.offset)
            try:
                # Not tar.next(): that takes a damaged header for the end of the archive.
                member = tar.tarinfo.fromtarfile(tar)
            except EndOfArchive:
                return
            if member.size < 0 or member.offset_data <= before:  # a forged size would loop for ever
                raise tarfile.ReadError(f"{member.name!r} declares {member.size} bytes")


def unsafe(member: tarfile.TarInfo) -> str:
    """What forbids the use of a member, as the end of "NAME ..."; empty for a plain file or folder."""
    name = member.name
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return "is a member whose name leads out of the archive; make the archive anew without it"
    if member.issym() or member.islnk():
        return "is a link; make the archive anew with `tar --dereference --hard-dereference`"
    if not member.isdir() and (not member.isreg() or member.issparse()):
        return "is a member that is not a plain file; make the archive anew without it"
    return ""


def mapped(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file without reading them."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def damaged(path: Path, reason: str) -> InputError:
    """The error for a file that is no tar archive, or no whole one."""
    return InputError(
        f"{str(path)!r} is no tar archive that fastdd can read ({reason}): not a .tar, .tar.gz or .tar.xz, "
        "or damaged or cut short; fetch it again"
    )
