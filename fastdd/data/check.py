"""What is wrong with a data set, in one go: the layout of both splits, and the images that cannot be read.

A long job must not die in its third hour of one bad file, and nobody wants to find bad files one at a time.
Images are found by a decode of each, or quickly by a look at both ends of each file: at a JPEG's signature or
a PNG's chunks up to the pixels, and at its end marker or end chunk. Good files may have bytes behind their
end, so what looks wrong is decoded before it is called bad. The quick way does not find damage between the
two ends. Cost: one decode of every image on all processors; the quick way, two small reads a file.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import InputError
from ..runtime.memory import processors
from ..runtime.progress import progress
from .dataset import Dataset
from .decode import decode
from .open import MissingRootError, open_dataset, open_split
from .sources.base import Problem, Split
from .sources.encoded import EncodedImages
from .sources.tree import SPLIT_FOLDERS, Entry, ImageFiles
from .verify import PNG_SIGNATURE, BadImage


def check(root: str | Path, quick: bool = False, *, follow_links: bool = False) -> list[Problem]:
    """List all problems of a data set; an empty list means that both splits can be used.

    Bytes that were changed inside the pixels of a JPEG still decode, to a damaged picture, and are not found.

    Args:
        root: as for open_dataset.
        quick: look at both ends of each file, and decode only what looks wrong.
        follow_links: as for open_dataset.

    Raises:
        InputError: there is nothing at root.
    """
    problems: list[Problem] = []
    for split in SPLIT_FOLDERS:
        try:
            images = open_split(root, split, follow_links)
        except MissingRootError:
            raise
        except InputError as error:
            problems.append(Problem(split, f"cannot be opened: {error}"))
            continue
        problems += images.problems
        if isinstance(images, EncodedImages):
            folder, files = images.source.listing.folder, images.files
            found = faults(images.source, quick)
            problems += [Problem(f"{folder}/{files[number].path}", reason) for number, reason in found]
    return list(dict.fromkeys(problems))


JPEG_SIGNATURE, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
HEAD = 4096  # bytes in which a PNG's first pixels are looked for: a color profile may stand before them
TAIL = 16  # bytes in which a JPEG's end marker is looked for: writers pad
CHUNK = 64  # files a task


def scan(data: Dataset | str | Path, split: Split = "train") -> list[tuple[int, str]]:
    """List quickly the images of one split that cannot be read.

    Args:
        data: an open data set, or a root as for open_dataset.
        split: "train" or "test", where a root is given; an open data set has its own.

    Returns:
        (position in the data set, why), ascending; the reason names the file. Nothing for images that are not
        kept in files of their own.

    Raises:
        InputError: the root cannot be opened.
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(data, split)
    reader = dataset.reader
    if not isinstance(reader, EncodedImages):
        return []
    folder = reader.source.listing.folder
    found = faults(reader.source, quick=True)
    return [(number, f"{folder}/{dataset.names[number]} {reason}") for number, reason in found]


def faults(source: ImageFiles, quick: bool) -> list[tuple[int, str]]:
    """The images that cannot be read: (number in the listing, why), ascending."""
    files = source.listing.files

    def complaints(numbers: range) -> list[tuple[int, str]]:
        found = ((number, _fault(source, files[number], quick)) for number in numbers)
        return [(number, reason) for number, reason in found if reason]

    chunks = [range(first, min(first + CHUNK, len(files))) for first in range(0, len(files), CHUNK)]
    bad = []
    name = f"{'scan' if quick else 'check'} {source.listing.folder}"
    with progress(name, len(files)) as bar, ThreadPoolExecutor(processors()) as pool:
        for numbers, found in zip(chunks, pool.map(complaints, chunks), strict=True):
            bad += found
            bar.advance(len(numbers))
    return bad


def _fault(source: ImageFiles, entry: Entry, quick: bool) -> str:
    """Why an image cannot be read, as the end of "FILE ..."; empty if it can."""
    try:
        if not (quick and _plausible(source, entry)):
            decode(source.read(entry), 3)
    except BadImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def _plausible(source: ImageFiles, entry: Entry) -> bool:
    """Whether a file begins and ends as a JPEG or as a PNG of one picture does."""
    if entry.size <= TAIL:
        return False
    head = source.read(entry, 0, HEAD)
    tail = source.read(entry, entry.size - TAIL, TAIL)
    if len(tail) < TAIL:
        return False
    if head.startswith(JPEG_SIGNATURE):
        return JPEG_END in tail
    return head.startswith(PNG_SIGNATURE) and _is_still(head) and tail.endswith(PNG_END)


def _is_still(head: bytes | bytearray) -> bool:
    """Whether the beginning of a PNG shows that no animation (acTL) is declared before its pixels (IDAT)."""
    at = len(PNG_SIGNATURE)
    while (kind := bytes(head[at + 4 : at + 8])) not in (b"acTL", b"IDAT", b""):
        at += 12 + int.from_bytes(head[at : at + 4])
    return kind == b"IDAT"
