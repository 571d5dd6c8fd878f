"""Everything wrong with a data set, in one go: the layout of both splits and a full decode of each image.

A long job must not die in its third hour of one bad file, and nobody wants to find bad files one at a
time. Cost: one decode of every image on all processors; quick, two small reads of every file (see unreadable.py).
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .open import open_decoded
from .sources.detect import BUILT_IN, existing, open_source
from .sources.layout import SPLIT_FOLDERS, Problem
from .sources.webdataset_paths import is_pattern
from .unreadable import faults


def check(root: str | Path, quick: bool = False) -> list[Problem]:
    """List all problems of a data set; an empty list means that both splits can be used.

    Bytes that were changed inside the pixels of a JPEG still decode, to a damaged picture, and are not found.

    Args:
        root: as for open_dataset.
        quick: look at both ends of each file and decode only what looks wrong.

    Raises:
        InputError: there is nothing at root.
    """
    if str(root) != BUILT_IN and not is_pattern(root):
        existing(root)
    problems: list[Problem] = []
    for split in SPLIT_FOLDERS:
        try:
            if open_decoded(root, split) is not None:
                continue
            source = open_source(root, split)
        except InputError as error:
            problems.append(Problem(split, f"cannot be opened: {error}"))
            continue
        problems += source.listing.problems
        folder, files = source.listing.folder, source.listing.files
        problems += [
            Problem(f"{folder}/{files[number].path}", reason) for number, reason in faults(source, quick)
        ]
    return list(dict.fromkeys(problems))
