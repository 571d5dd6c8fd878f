"""The members of tar and zip archives one after the other, with damage told from the end.

Python's tarfile takes 25 us a member, half a minute for a million. So the headers of a plain tar are read all
at once, where every header is of the plainest kind: one walk notes where they begin, and their checksums and
names are then taken together. Whatever is unusual (links, long names, damage, other ways to write a number)
is left to tarfile, which reads such an archive from its beginning and has its words for what is wrong with
it. Headers of the kind x that tell times alone, which Python writes, are passed over.

Cost: about 2 us a member of a plain tar, 20 us of others, whatever its size.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import mmap
import re
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np

from ...errors import InputError

BLOCK = 512
CHUNK = 8192
"""headers that are looked at together"""
NAME, SIZE, CHECKSUM, KIND, PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), 156, 345
FILE, OLD_FILE, FOLDER, TIMES = b"0\x005x"
ONLY_TIMES = re.compile(rb"(?:\d+ [mac]time=-?[0-9.]+\n)+")


class Headers(NamedTuple):
    """The headers of a tar, all of them plain.

    Attributes:
        content: the bytes of the tar.
        starts: where each header begins.
        sizes: bytes of each member.
    """

    content: mmap.mmap
    starts: array[int]
    sizes: array[int]

    def members(self) -> Iterator[tuple[str, bool, int, int]]:
        """Name, whether it is a folder, size, and where the bytes begin, of each member."""
        for first in range(0, len(self.starts), CHUNK):
            blocks = self.blocks(first)
            names = _names(blocks)
            folders = (blocks[:, KIND] == FOLDER).tolist()
            sizes = self.sizes[first : first + CHUNK]
            starts = self.starts[first : first + CHUNK]
            for name, folder, size, start in zip(names, folders, sizes, starts, strict=True):
                yield name.rstrip("/") if folder else name, folder, size, start + BLOCK

    def blocks(self, first: int) -> np.ndarray:
        """Headers from the number ``first`` on, uint8 [n, 512], at most ``CHUNK``."""
        whole = len(self.content) // BLOCK * BLOCK
        rows = np.frombuffer(self.content, np.uint8, whole).reshape(-1, BLOCK)
        return rows[np.frombuffer(self.starts[first : first + CHUNK], np.int64) // BLOCK]


def plain_headers(stream: IO[bytes]) -> Headers | None:
    """The headers of the tar in a file; None: it is not one whose headers are all plain."""
    try:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # no file of the system's, or an empty one
        return None
    found = _walk(content)
    if found is None:
        return None
    chunks = range(0, len(found.starts), CHUNK)
    return found if all(_is_plain(found.blocks(first)) for first in chunks) else None


def _walk(content: mmap.mmap) -> Headers | None:
    """Where headers begin, up to the block of zeros that ends a tar."""
    found, at = Headers(content, array("q"), array("q")), 0
    while at + BLOCK <= len(content):
        kind = content[at + KIND]
        if kind == OLD_FILE and not content[at]:
            return found if not any(content[at : at + BLOCK]) else None
        try:
            size = int(content[at + 124 : at + 136].rstrip(b"\0 ") or b"0", 8)
        except ValueError:
            return None
        if size < 0 or (kind == FOLDER and size):
            return None
        if kind == TIMES:
            if size > BLOCK or not ONLY_TIMES.fullmatch(content[at + BLOCK : at + BLOCK + size]):
                return None
        elif kind in (FILE, OLD_FILE, FOLDER):
            found.starts.append(at)
            found.sizes.append(size)
        else:
            return None
        at += BLOCK + -(-size // BLOCK) * BLOCK
    return None


def _is_plain(blocks: np.ndarray) -> bool:
    """Whether all headers have the right checksum, and names that stand in one field, in ASCII."""
    digits = blocks[:, 148:154].astype(np.int64) - ord("0")
    sums = blocks.sum(1, dtype=np.int64) - blocks[:, CHECKSUM].sum(1, dtype=np.int64) + 8 * ord(" ")
    names, old = blocks[:, NAME], blocks[:, KIND] == OLD_FILE
    ends = (names == 0).argmax(1)  # a name of 100 letters has no end, and is left to tarfile
    after = np.arange(names.shape[1]) > ends[:, None]
    last = names[np.arange(len(names)), np.maximum(ends - 1, 0)]
    return bool(
        ((digits >= 0) & (digits < 8)).all()
        and (digits @ 8 ** np.arange(5, -1, -1) == sums).all()
        and np.isin(blocks[:, 154], (0, ord(" "))).all()
        and not blocks[:, PREFIX].any()
        and (ends > 0).all()
        and not names[after].any()
        and (names < 128).all()
        and not (old & (last == ord("/"))).any()
    )


def _names(blocks: np.ndarray) -> list[str]:
    """The names in the headers."""
    fields = np.ascontiguousarray(blocks[:, NAME]).view("S100").ravel()
    return [name.decode("ascii") for name in fields.tolist()]


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
