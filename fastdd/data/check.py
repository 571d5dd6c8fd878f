"""Everything wrong with a data set, in one go: the layout of both splits and a full decode of each image.

A long job must not die in its third hour of one bad file, and nobody wants to find bad files one at a time.
Cost: one decode of every image on all processors; with quick, two small reads of every file (see
unreadable.py).
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .open import MissingRootError, open_split
from .sources.base import Problem
from .sources.encoded import EncodedImages
from .sources.tree import SPLIT_FOLDERS
from .unreadable import faults


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
