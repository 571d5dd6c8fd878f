"""The members of tar and zip archives one after the other, with damage told from the end.

Cost: about 2 us a member of a plain tar, 20 us of others, whatever its size.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import mmap
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

from ...errors import InputError
from .tar_headers import plain_headers

DAMAGE = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    EOFError,
    RecursionError,
    NotImplementedError,  # a zip's way of compression that Python lacks
)
MAGIC_GZIP, MAGIC_BZIP2, MAGIC_XZ, MAGIC_ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"PK\3\4"
UNREAD = {
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "7z x"),
    b"Rar!": ("a RAR archive", "unrar x"),
}
"""first bytes of archives that Python cannot read -> what they are, and the command that unpacks them"""

EndOfArchive = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # a block of zeros where a header is due


class Member(NamedTuple):
    """One member of an archive.

    Attributes:
        name: its path in the archive, with '/'.
        offset: where its bytes begin in the tar's blocks; of a zip, its number.
    """

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int
    offset: int


class Members(ABC):
    """The members of an open archive; a pass over them remembers none.

    Attributes:
        compressed: whether the bytes of members do not lie in the file as they are.
    """

    compressed: bool

    @abstractmethod
    def __iter__(self) -> Iterator[Member]:
        """The members, in the order of the archive."""

    @abstractmethod
    def read(self, member: Member, size: int | None = None) -> bytes:
        """The bytes of a member, or the first ``size``; fewer where the archive ends before."""


class TarMembers(Members):
    """The members of a stream of tar blocks."""

    def __init__(self, stream: IO[bytes], *, compressed: bool) -> None:
        self.stream, self.compressed = stream, compressed

    def __iter__(self) -> Iterator[Member]:
        headers = None if self.compressed else plain_headers(self.stream)
        if headers is not None:
            for name, is_folder, size, offset in headers.members():
                yield Member(name, "folder" if is_folder else "file", size, offset)
            return
        with tarfile.open(fileobj=self.stream, mode="r:") as tar:
            found = tar.next()
            while found is not None:
                before = found.offset_data
                yield Member(found.name, _tar_kind(found), found.size, before)
                self.stream.seek(tar.offset)
                try:
                    # Not tar.next(): that takes a damaged header for the end of the archive.
                    found = tar.tarinfo.fromtarfile(tar)
                except EndOfArchive:
                    return
                if found.size < 0 or found.offset_data <= before:  # a forged size would loop for ever
                    raise tarfile.ReadError(f"{found.name!r} declares {found.size} bytes")

    def read(self, member: Member, size: int | None = None) -> bytes:
        self.stream.seek(member.offset)
        return self.stream.read(member.size if size is None else min(size, member.size))


def _tar_kind(member: tarfile.TarInfo) -> Literal["file", "folder", "link", "other"]:
    if member.issym() or member.islnk():
        return "link"
    if member.isdir():
        return "folder"
    return "file" if member.isreg() and not member.issparse() else "other"


class ZipMembers(Members):
    """The members of a zip archive. What is read is at most what a member's header declares."""

    compressed = True

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.found = archive, archive.infolist()

    def __iter__(self) -> Iterator[Member]:
        for number, found in enumerate(self.found):
            if found.flag_bits & 1:
                raise zipfile.BadZipFile(f"{found.filename!r} is encrypted")
            mode = found.external_attr >> 16
            kind: Literal["file", "folder", "link"] = "folder" if found.is_dir() else "file"
            yield Member(
                found.filename, "link" if stat.S_ISLNK(mode) else kind, found.file_size, offset=number
            )

    def read(self, member: Member, size: int | None = None) -> bytes:
        with self.archive.open(self.found[member.offset]) as stream:
            return stream.read(-1 if size is None else size)


@contextmanager
def opened(path: Path) -> Iterator[Members]:
    """The members of an archive, which is recognized by its first bytes and not by its name.

    Raises:
        InputError: it cannot be read; or, while it is used, it is damaged or cut short.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            file.seek(0)
            for known, (what, command) in UNREAD.items():
                if magic.startswith(known):
                    raise InputError(
                        f"{str(path)!r} is {what}, which fastdd does not read; unpack it with "
                        f"`{command} {path}`"
                    )
            if magic.startswith(MAGIC_ZIP):
                with zipfile.ZipFile(file) as archive:
                    yield ZipMembers(archive)
            elif magic.startswith(MAGIC_GZIP):
                with gzip.open(file) as stream:
                    yield TarMembers(cast(IO[bytes], stream), compressed=True)
            elif magic.startswith(MAGIC_BZIP2):
                with bz2.open(file) as stream:
                    yield TarMembers(cast(IO[bytes], stream), compressed=True)
            elif magic == MAGIC_XZ:
                with lzma.open(file) as stream:
                    yield TarMembers(cast(IO[bytes], stream), compressed=True)
            else:
                yield TarMembers(file, compressed=False)
    except DAMAGE as error:
        raise damaged(path, str(error)) from error
    except PermissionError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        # bz2 says so of damage; a damaged zip names places before its beginning.
        raise damaged(path, str(error)) from error


def unsafe(member: Member) -> str:
    """What forbids the use of a member, as the end of "NAME ..."; empty for a plain file or folder."""
    name = member.name
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return "is a member whose name leads out of the archive; make the archive anew without it"
    if member.kind == "link":
        return "is a link; make the archive anew with `tar --dereference --hard-dereference`"
    if member.kind == "other":
        return "is a member that is not a plain file; make the archive anew without it"
    return ""


def mapped(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file without reading them."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def damaged(path: Path, reason: str) -> InputError:
    """The error for a file that is no archive that fastdd reads, or no whole one."""
    return InputError(
        f"{str(path)!r} is no archive that fastdd can read ({reason}): not a .tar, .tar.gz, .tar.bz2, "
        ".tar.xz or .zip, or damaged or cut short; fetch it again"
    )
