"""Which class each image of a folder has, in every layout in which distilled sets are kept.

    CLASS/IMAGE                    ImageFolder; a run's arm, and RDED's with the folders 00000, 00001, ...
    train/CLASS/IMAGE              an ImageFolder with splits: its training images
    new000/class000_id000.jpg      as SRe2L and its successors release it, with any number of digits

In the last the class is the number in the name, never the place in the sort order: with three digits new1000 sorts
before new101. Cost: one `stat` a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ..data.sources.folder import two_levels
from ..data.sources.layout import IMAGE_SUFFIXES, Entry, Listing, Problem, arrange
from ..errors import InputError

RELEASED_FOLDER = re.compile(r"new(\d+)")
RELEASED_FILE = re.compile(r"class(\d+)_id(\d+)\.(?:jpe?g|png)", re.IGNORECASE)


class Files(NamedTuple):
    """The images of a set, class after class.

    folder: below it are the class folders. classes: names, or numbers in the order of their value. files: paths
    relative to folder, with sizes. labels: of each file, its place in classes.
    """

    folder: Path
    classes: tuple[str, ...]
    files: list[Entry]
    labels: list[int]


def list_files(folder: Path) -> Files:
    """List a set.

    Raises:
        InputError: no class folders, or something among them that is no image; the first problem is named.
    """
    train = folder / "train"
    if train.is_dir() and any(child.is_dir() for child in train.iterdir()):
        folder = train
    entries = [entry for entry in two_levels(folder, os.path.realpath(folder)) if not _beside(entry)]
    listing = arrange(folder.name, entries, None, [])
    released = bool(listing.counts) and all(RELEASED_FOLDER.fullmatch(name) for name in listing.counts)
    numbers = _released_numbers(listing) if released else []
    if listing.problems:
        more = f" (and {len(listing.problems) - 1} more)" if len(listing.problems) > 1 else ""
        raise InputError(
            f"distilled set {str(folder)!r}: {listing.problems[0]}{more}; expected CLASS/IMAGE or "
            "new000/class000_id000.jpg"
        )
    if released:
        ordered = sorted(zip(numbers, listing.files, strict=True))
        files, keys = [entry for _, entry in ordered], [number for (number, _), _ in ordered]
        place = {number: i for i, number in enumerate(sorted(set(keys)))}
        return Files(folder, tuple(map(str, place)), files, [place[number] for number in keys])
    names = {name: i for i, name in enumerate(listing.counts)}
    return Files(
        folder, tuple(names), listing.files, [names[entry.path.partition("/")[0]] for entry in listing.files]
    )


def _beside(entry: Entry) -> bool:
    """Whether it is a card, metadata or labels beside the class folders."""
    return entry.kind == "file" and "/" not in entry.path and not entry.path.lower().endswith(IMAGE_SUFFIXES)


def _released_numbers(listing: Listing) -> list[tuple[int, int]]:
    """(class, image) of each file; names that say neither, or another class than their folder, become problems."""
    numbers = []
    for entry in listing.files:
        folder, _, name = entry.path.partition("/")
        found = RELEASED_FILE.fullmatch(name)
        if found is None:
            what = "has a name without its class; expected class000_id000.jpg"
            listing.problems.append(Problem(entry.path, what))
        elif int(found[1]) != int(folder.removeprefix("new")):
            what = (
                f"is of class {int(found[1])} by its name and {int(folder.removeprefix('new'))} by its folder"
            )
            listing.problems.append(Problem(entry.path, f"{what}; put it into the right one"))
        else:
            numbers.append((int(found[1]), int(found[2])))
    return numbers
