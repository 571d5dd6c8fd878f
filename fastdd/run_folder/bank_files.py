"""Names of the files in a bank's folder, and how many of its classes they hold; bank/store.py says what is in
them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from typing_extensions import TypedDict

from .reading import read

MANIFEST, PLAN = "manifest.json", "plan.json"
REMEDY = "delete it and start the command that built the bank again, which makes that alone"
"""the remedy for a file of a bank that is damaged"""
FILE = re.compile(r"classes-(\d+)-(\d+)\.safetensors")


class ClassFile(NamedTuple):
    """A file of the statistics of consecutive classes, first to last."""

    path: Path
    first: int
    last: int


class _Classes(TypedDict):
    """What is read of plan and manifest here."""

    classes: list[str]


def class_files(folder: Path) -> list[ClassFile]:
    """The files of a bank in class order; where one's classes are part of another's, only the larger."""
    found = [
        ClassFile(path, int(match[1]), int(match[2]))
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := FILE.fullmatch(path.name))
    ]
    kept: list[ClassFile] = []
    for file in sorted(found, key=lambda file: (file.first, -file.last)):
        if not kept or file.last > kept[-1].last:
            kept.append(file)
    return kept


def classes_of_bank(folder: Path) -> tuple[int, int | None]:
    """How many classes of a bank are finished, and how many there are; None: its building has not begun.

    Raises:
        InputError: its manifest or plan is damaged.
    """
    done = sum(file.last - file.first + 1 for file in class_files(folder))
    for name in (MANIFEST, PLAN):
        if (folder / name).is_file():
            return done, len(read(folder / name, _Classes, REMEDY)["classes"])
    return done, None
