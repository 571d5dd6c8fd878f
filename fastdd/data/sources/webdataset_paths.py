"""Which files are the shards of a split, and what their classes are called; no shard is opened."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

from ...errors import InputError
from .base import Split
from .folder import kind_of, link_boundary, list_folder
from .tree import class_name_fault, is_class_folder, some

SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val", "validation", "valid")}
PLACE = "{split}"
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 1_000_000
SUFFIXES = (".tar", ".tar.gz", ".tgz")
MAX_TEXT = 1 << 24  # bytes of a list of classes


def is_pattern(root: str | Path) -> bool:
    """Whether a root is a pattern of shards rather than the name of something that is there."""
    return "{" in str(root) and not Path(root).exists()


def is_sharded(root: Path) -> bool:
    """Whether a folder holds shards: in train/, val/ or test/ without class folders, or side by side."""
    splits = [root / name for names in SPLITS.values() for name in names if (root / name).is_dir()]
    if any(entry.is_dir() and is_class_folder(entry.name) for path in splits for entry in list_folder(path)):
        return False  # an image folder, beside whose splits its archives may lie
    return any(_in_folder(root, name) for names in SPLITS.values() for name in names)


def shard_paths(root: str | Path, split: Split) -> tuple[str, list[Path]]:
    """The shards of one split in order of name, and what the split is called there.

    Args:
        root: a folder, or a pattern: {split} stands for train, test, val or validation, {0000..0099} for
            each number between, and `*` and `?` in the last part for any characters.

    Raises:
        InputError: there are none, some of a range are missing, or the pattern is not one.
    """
    find = _of_pattern if is_pattern(root) else _in_folder
    for name in SPLITS[split]:
        if paths := find(Path(root), name):
            return name, paths
    raise InputError(
        f"{str(root)!r} has no shards of {split}; looked for .tar files of {some(SPLITS[split])}"
    )


def class_names(root: str | Path) -> list[str] | None:
    """The names in classes.txt or classes.json beside the shards or their folders; None without such a list.

    Raises:
        InputError: the list cannot be read, or holds a name twice or one that no folder can have.
    """
    path = Path(str(root).partition(PLACE)[0] + "x").parent if is_pattern(root) else Path(root)
    lists = {entry.name: entry for entry in list_folder(path)}
    for name in ("classes.txt", "classes.json"):
        if name in lists:
            break
    else:
        return None
    found = lists[name]
    kind = kind_of(found, link_boundary(path))
    if kind != "file" or found.stat().st_size > MAX_TEXT:
        raise InputError(
            f"{found.path!r} is {kind if kind != 'file' else 'too long'}; expected a list of class names"
        )
    try:
        text = Path(found.path).read_text("utf-8")
        names = (
            json.loads(text)
            if name.endswith(".json")
            else [line.strip() for line in text.strip().splitlines()]
        )
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{found.path!r} cannot be read: {error}; expected UTF-8 text, one class a line"
        ) from error
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise InputError(f'{found.path!r} is no list of names; expected one such as ["cat", "dog"]')
    for each, count in Counter(names).items():
        if fault := class_name_fault(each):
            raise InputError(f"{found.path!r} {fault}")
        if count > 1:
            raise InputError(f"{found.path!r} holds {each!r} {count} times; expected each class once")
    return names


def _in_folder(root: Path, name: str) -> list[Path]:
    """NAME/*.tar, or [SET-]NAME[-NUMBER].tar, such as imagenet1k-train-0000.tar.

    A folder with class folders in it is none of shards.
    """
    real_root = link_boundary(root)
    if (root / name).is_dir():
        found = [entry for entry in list_folder(root / name) if not entry.name.startswith(".")]
        if any(entry.is_dir() for entry in found):
            return []
        return _plain([entry for entry in found if entry.name.endswith(SUFFIXES)], real_root)
    named = re.compile(rf"(.*[-_.])?{name}([-_.].*)?\.(tar|tar\.gz|tgz)")
    return _plain([entry for entry in list_folder(root) if named.fullmatch(entry.name)], real_root)


def _of_pattern(pattern: Path, name: str) -> list[Path]:
    if PLACE not in str(pattern):
        raise InputError(
            f"{str(pattern)!r} is a pattern without {PLACE}; write {PLACE} where the shards' names say "
            "train or val"
        )
    pieces = RANGE.split(str(pattern).replace(PLACE, name))
    numbers = [
        range(int(first), int(last) + 1) for first, last in zip(pieces[1::3], pieces[2::3], strict=True)
    ]
    count = 1
    for each in numbers:
        count *= len(each)
    if any("{" in text or "}" in text for text in pieces[::3]) or not 0 < count <= MAX_SHARDS:
        raise InputError(
            f"{str(pattern)!r} is no pattern of 1 to {MAX_SHARDS:,} shards; expected {PLACE} and {{00..99}}"
        )
    names = []
    for chosen in product(*numbers):
        filled = [f"{number:0{len(first)}d}" for number, first in zip(chosen, pieces[1::3], strict=True)]
        names.append("".join(text + number for text, number in zip(pieces[::3], [*filled, ""], strict=True)))
    parents = {os.path.dirname(path) or "." for path in names}
    there = {
        parent: {entry.name: entry for entry in list_folder(Path(parent))}
        for parent in parents
        if os.path.isdir(parent)
    }
    paths: list[Path] = []
    missing = []
    for path in names:
        parent, last = os.path.split(path)
        found = there.get(parent or ".", {})
        if "*" in last or "?" in last:
            matches = [entry for entry in found.values() if fnmatchcase(entry.name, last)]
        else:
            matches = [found[last]] if last in found else []
        paths += _plain(matches, link_boundary(parent or "."))
        if not matches:
            missing.append(path)
    if paths and missing:
        raise InputError(
            f"{len(missing)} of {len(names)} shards are missing: {some(missing)}; fetch them again"
        )
    return paths


def _plain(found: list[os.DirEntry[str]], real_root: str) -> list[Path]:
    """The paths in order of name, all of them plain files."""
    for entry in found:
        if (kind := kind_of(entry, real_root)) != "file":
            raise InputError(f"{entry.path!r} is {kind}; expected plain files: replace it or remove it")
    return sorted(Path(entry.path) for entry in found)
