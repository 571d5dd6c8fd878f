"""An archive (.tar, plain or compressed, or .zip) of an image folder: nothing is ever unpacked to disk.

A plain tar is indexed by its headers and its images are read through a memory map, so it may be larger
than the memory. A compressed tar or a zip is streamed once, and the encoded images of the wanted split
(and of no other) stay in one buffer. Every member is judged by its name and type before its bytes are
used; links, devices and names that would lead out of the archive are problems.
Cost: about 30 us a member for the headers, plus the decompression.
"""

from __future__ import annotations

from operator import add
from pathlib import Path

from ...errors import InputError
from ...runtime.memory import memory_budget, require_memory
from . import tiny_imagenet as tiny
from .archive_members import Member, Members, ZipMembers, damaged, mapped, opened, unsafe
from .base import Layout, Problem, Split, SplitImages, register_source
from .encoded import EncodedImages
from .tree import IMAGE_SUFFIXES, SPLIT_FOLDERS, Entry, Listing, arrange, split_folder

ALL_SPLIT_FOLDERS = tuple(name for names in SPLIT_FOLDERS.values() for name in names)


class TarLayout(Layout):
    """Every file that no other layout recognizes."""

    priority = 10

    def recognizes(self, root: str) -> bool:
        """Whether the root is a file."""
        return Path(root).is_file()

    def open(self, root: str, split: Split) -> SplitImages:
        """Index one split of an archive (see Archive)."""
        return EncodedImages(Archive(Path(root), split), root, split)


class Archive:
    """One split of an archive with members `[TOP/]SPLIT/CLASS/IMAGE`, or of Tiny-ImageNet.

    Args:
        path: a .tar, .tar.gz, .tar.bz2, .tar.xz or .zip file; recognized by its first bytes, not by its
            suffix.

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
        self.texts: dict[str, str] = {}  # the two files that make a Tiny-ImageNet
        self.budget = memory_budget()
        with opened(path) as members:
            self._index(members)
            compressed, kind = members.compressed, "zip" if isinstance(members, ZipMembers) else "tar"
        self.listing: Listing = self._tiny(split) if self._is_tiny() else self._tree(split)
        self.layout = f"{'Tiny-ImageNet' if self._is_tiny() else 'ImageFolder'}, {kind}"
        self.bytes = memoryview(self.kept[self.listing.folder] if compressed else mapped(path))
        files = self.listing.files
        last = max(map(add, files.offsets, files.sizes), default=0)
        if last > len(self.bytes):
            raise damaged(path, f"a member ends {last - len(self.bytes)} bytes after the end of the file")
        del self.entries, self.kept  # the other split's names and bytes

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see ImageFiles)."""
        stop = entry.size if size is None else min(entry.size, first + size)
        return bytearray(self.bytes[entry.offset + first : entry.offset + stop])

    def _tree(self, split: Split) -> Listing:
        present = [name for name in ALL_SPLIT_FOLDERS if self.entries[name]]
        folder = split_folder(present or self.found, split, str(self.path))
        return arrange(folder, self.entries[folder], self._other(present, split), self.problems)

    def _is_tiny(self) -> bool:
        folders = (entry.path.split("/") for entry in self.entries["train"])
        return tiny.CLASSES in self.texts and any(
            len(parts) > 1 and parts[1] == tiny.IMAGES for parts in folders
        )

    def _tiny(self, split: Split) -> Listing:
        folder = tiny.FOLDERS[split]
        entries, annotations = self.entries[folder], self.texts.get(tiny.ANNOTATIONS)
        if not entries:
            raise InputError(
                f"{str(self.path)!r} has no {folder}/ folder; expected the whole of Tiny-ImageNet"
            )
        return tiny.arrange(
            folder, entries, classes=self.texts[tiny.CLASSES], annotations=annotations, problems=self.problems
        )

    def _index(self, members: Members) -> None:
        for member in members:
            parts = self._parts(member)
            if not parts:
                continue
            self.found.add(parts[0])
            for text, depth in ((tiny.CLASSES, 2), (tiny.ANNOTATIONS, 3)):
                if member.name.endswith(text) and len(parts) <= depth and member.size <= tiny.MAX_TEXT:
                    self.texts[text] = members.read(member).decode("utf-8", "replace")
            inside = self._inside(parts, member)
            if inside is None:
                continue
            folder, path = inside
            entry = Entry(path, member.kind, member.size, member.offset)
            if (
                members.compressed
                and member.kind == "file"
                and folder in self.kept
                and path.lower().endswith(IMAGE_SUFFIXES)
            ):
                entry = entry._replace(offset=len(self.kept[folder]))
                self._keep(members, member, self.kept[folder])
            if path:
                self.entries[folder].append(entry)

    def _parts(self, member: Member) -> list[str]:
        """The name as a list of folders and a file; empty, and a problem, for what is not safe."""
        if what := unsafe(member):
            self.problems.append(Problem(member.name, what))
            return []
        return [part for part in member.name.split("/") if part not in ("", ".")]

    def _inside(self, parts: list[str], member: Member) -> tuple[str, str] | None:
        """(split folder, path below it), or None for a member outside of the split folders."""
        for depth in (0, 1):
            is_folder = member.kind == "folder" or len(parts) > depth + 1
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

    def _keep(self, members: Members, member: Member, buffer: bytearray) -> None:
        needed = len(buffer) + member.size
        if needed > self.budget:
            require_memory(
                needed, f"to hold {str(self.path)!r} decompressed", "store it as a plain .tar instead"
            )
        before = len(buffer)
        buffer += members.read(member)
        if len(buffer) - before < member.size:
            raise damaged(self.path, f"it ends inside {member.name!r}")

    def _other(self, present: list[str], split: Split) -> tuple[str, set[str]] | None:
        for name in SPLIT_FOLDERS["test" if split == "train" else "train"]:
            if name in present:
                return name, set(arrange(name, self.entries[name], None, []).counts)
        return None


register_source("tar", TarLayout())
