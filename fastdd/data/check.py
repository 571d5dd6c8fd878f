"""Everything wrong with a data set, in one go: the layout of both splits and a full decode of each image.

A long job must not die in its third hour of one bad file, and nobody wants to find bad files one at a
time. Cost: one decode of every image on all processors.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import InputError
from ..progress import progress
from .archive import Archive
from .dataset import processors
from .folder import Folder
from .index import BUILT_IN, open_source
from .tree import SPLIT_FOLDERS, Entry, Problem

CHUNK = 64  # images a task


def check(root: str | Path) -> list[Problem]:
    """List all problems of a data set; an empty list means that both splits can be used.

    Bytes that were changed inside the pixels of a JPEG still decode, to a damaged picture, and are not found.

    Args:
        root: as for open_dataset.

    Raises:
        InputError: there is nothing at root.
    """
    if str(root) == BUILT_IN:
        return []
    if not Path(root).exists():
        open_source(root, "train")
    problems: list[Problem] = []
    for split in SPLIT_FOLDERS:
        try:
            source = open_source(root, split)
        except InputError as error:
            problems.append(Problem(split, f"cannot be opened: {error}"))
            continue
        problems += source.listing.problems
        problems += _unreadable(source)
    return list(dict.fromkeys(problems))


def _unreadable(source: Folder | Archive) -> list[Problem]:
    """Decode every image and keep nothing but the complaints."""
    from .decode import BadImage, decode

    def complaints(files: list[Entry]) -> list[Problem]:
        found = []
        for entry in files:
            try:
                decode(source.read(entry), 3)
            except BadImage as error:
                found.append(Problem(f"{folder}/{entry.path}", str(error)))
            except OSError as error:
                found.append(Problem(f"{folder}/{entry.path}", f"cannot be read ({error.strerror})"))
        return found

    folder, files = source.listing.folder, source.listing.files
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    problems = []
    with progress(f"check {folder}", len(files)) as bar, ThreadPoolExecutor(processors()) as pool:
        for chunk, found in zip(chunks, pool.map(complaints, chunks), strict=True):
            problems += found
            bar.advance(len(chunk))
    return problems
