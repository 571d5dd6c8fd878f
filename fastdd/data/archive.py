"""A tar archive (plain, .gz or .xz) of an image folder, read in place: nothing is ever unpacked to disk.

A plain archive is indexed by its headers and its images are read through a memory map, so it may be
larger than the memory. A compressed one is streamed once, and the encoded images of the wanted split
(and of no other) stay in one buffer. Every member is judged by its name and type before its bytes are
used; links, devices and names that would lead out of the archive are problems.
Cost: about 20 us a member for the headers, plus the decompression.
"""

from __future__ import annotations

import gzip
import lzma
import mmap
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ..errors import InputError
from .memory import memory_budget, require_memory
from .tree import IMAGE_SUFFIXES, SPLIT_FOLDERS, Entry, Listing, Problem, Split, arrange, split_folder

ALL_SPLIT_FOLDERS = tuple(name for names in SPLIT_FOLDERS.values() for name in names)
DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError, RecursionError)
MAGIC_GZIP, MAGIC_XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"

EndOfArchive = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # a block of zeros where a header is due


class Archive:
    """One split of an archive with members `[TOP/]SPLIT/CLASS/IMAGE`.

    Args:
        path: a .tar, .tar.gz or .tar.xz file; recognised by its first bytes, not by its suffix.
        split: "train" or "test".

    Raises:
        InputError: not such an archive, damaged, no such split, or (compressed) larger than the memory.
    """

    def __init__(self, path: Path, split: Split) -> None:
        self.path = path
        self.top: str | None = None  # the folder above train/, "" for none, None until one is met
        self.problems: list[Problem] = []
        self.found: set[str] = set()
        self.entries: dict[str, list[Entry]] = {name: [] for name in ALL_SPLIT_FOLDERS}
        self.kept: dict[str, bytearray] = {name: bytearray() for name in SPLIT_FOLDERS[split]}
        self.budget = memory_budget()
        with _opened(path) as (stream, compressed):
            self._index(stream, compressed)
        present = [name for name in ALL_SPLIT_FOLDERS if self.entries[name]]
        folder = split_folder(present or self.found, split, str(path))
        other = self._other(present, split)
        self.listing: Listing = arrange(folder, self.entries[folder], other, self.problems)
        self.bytes = memoryview(self.kept[folder] if compressed else _mapped(path))
        last = max((entry.offset + entry.size for entry in self.listing.files), default=0)
        if last > len(self.bytes):
            raise _damaged(path, f"a member ends {last - len(self.bytes)} bytes after the end of the file")
        del self.entries, self.kept  # the other split's names and bytes

    def read(self, entry: Entry) -> bytearray:
        """The encoded bytes of one image."""
        return bytearray(self.bytes[entry.offset : entry.offset + entry.size])

    def _index(self, stream: IO[bytes], compressed: bool) -> None:
        for member in _members(stream):
            parts = self._parts(member)
            if not parts:
                continue
            self.found.add(parts[0])
            inside = self._inside(parts, member)
            if inside is None:
                continue
            folder, path = inside
            entry = Entry(path, "folder" if member.isdir() else "file", member.size, member.offset_data)
            if compressed and folder in self.kept and path.lower().endswith(IMAGE_SUFFIXES):
                entry = entry._replace(offset=len(self.kept[folder]))
                self._keep(stream, member, self.kept[folder])
            if path:
                self.entries[folder].append(entry)

    def _parts(self, member: tarfile.TarInfo) -> list[str]:
        """The name as a list of folders and a file; empty, and a problem, for what is not safe."""
        name = member.name
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            what = "is a member whose name leads out of the archive; make the archive anew without it"
        elif member.issym() or member.islnk():
            what = "is a link; make the archive anew with `tar --dereference --hard-dereference`"
        elif not member.isdir() and (not member.isreg() or member.issparse()):
            what = "is a member that is not a plain file; make the archive anew without it"
        else:
            return [part for part in name.split("/") if part not in ("", ".")]
        self.problems.append(Problem(name, what))
        return []

    def _inside(self, parts: list[str], member: tarfile.TarInfo) -> tuple[str, str] | None:
        """(split folder, path below it), or None for a member outside of the split folders."""
        for depth in (0, 1):
            is_folder = member.isdir() or len(parts) > depth + 1
            if len(parts) > depth and parts[depth] in ALL_SPLIT_FOLDERS and is_folder:
                break
        else:
            return None
        top = "/".join(parts[:depth])
        if self.top is None:
            self.top = top
        elif self.top != top:
            what = f"is a second tree in the archive, beside {self.top or '.'!r}; expected one"
            self.problems.append(Problem("/".join(parts[: depth + 1]), what))
            return None
        return parts[depth], "/".join(parts[depth + 1 :])

    def _keep(self, stream: IO[bytes], member: tarfile.TarInfo, buffer: bytearray) -> None:
        needed = len(buffer) + member.size
        if needed > self.budget:
            require_memory(needed, f"to hold {str(self.path)!r} decompressed", "store it as a plain .tar instead")
        stream.seek(member.offset_data)
        before = len(buffer)
        buffer += stream.read(member.size)
        if len(buffer) - before < member.size:
            raise _damaged(self.path, f"it ends inside {member.name!r}")

    def _other(self, present: list[str], split: Split) -> tuple[str, set[str]] | None:
        for name in SPLIT_FOLDERS["test" if split == "train" else "train"]:
            if name in present:
                return name, set(arrange(name, self.entries[name], None, []).counts)
        return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """The archive as a stream of tar blocks, and whether it is compressed."""
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
        raise _damaged(path, str(error)) from error
    except PermissionError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions") from error


def _members(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
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


def _mapped(path: Path) -> mmap.mmap | bytes:
    if not os.path.getsize(path):
        return b""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"{str(path)!r} is no tar archive that fastdd can read ({reason}): not a .tar, .tar.gz or .tar.xz, "
        "or damaged or cut short; fetch it again"
    )
