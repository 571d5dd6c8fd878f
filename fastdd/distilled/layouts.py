"""The files of a distilled set and the class of each, in every layout in which such sets are kept.

    CLASS/IMAGE                    an ImageFolder: an arm of a run, or RDED's folders 00000, 00001, ...
    train/CLASS/IMAGE              the training images of an ImageFolder with splits
    new000/class000_id000.jpg      the released sets of SRe2L and its successors, with any number of digits
    train-000000.tar, ...          WebDataset shards, with classes.txt
    00000.parquet, ...; data/train-*.parquet    Parquet files with columns ``image`` and ``label``

In the released layout the class is the number in the name and not the place in the sort order: new1000 sorts
before new101. The last two are what ``fastdd export`` writes for other libraries; images stay encoded until
they are asked for, those of shards on the disk, those of Parquet files in memory. Soft labels lie beside the
images of an export: KEY.logits.npy in shards, a column ``logits`` of Parquet files, and labels.safetensors
beside the folder train/ of an ImageFolder. Cost: one ``stat`` a file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.sources.archive_members import opened
from ..data.sources.base import Problem
from ..data.sources.folder import link_boundary, read_part, two_levels
from ..data.sources.parquet import ParquetFiles, files_by_split, require_whole
from ..data.sources.tree import IMAGE_SUFFIXES, Entry, Listing, arrange
from ..data.sources.tree import ImageFiles as ExportedImages
from ..data.sources.webdataset import Shards
from ..data.sources.webdataset_paths import is_sharded
from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.distributed import say_once
from ..runtime.hub import is_hub

RELEASED_FOLDER = re.compile(r"new(\d+)")
RELEASED_FILE = re.compile(r"class(\d+)_id(\d+)\.(?:jpe?g|png)", re.IGNORECASE)


INSIDE = ("train", "data", "images")
"""names of folders that tell what lies in them, and not of which set"""


def set_name(path: str | Path) -> str:
    """What a set of no run is called: as its folder, as the one above where that only says what lies in it,
    or as it is called on the hub.

    Args:
        path: as the user gave it, so that a set of the hub is not called as its folder in the cache.
    """
    if is_hub(path):
        return Path(path).name
    folder = Path(path).resolve()
    return (folder.name in INSIDE and folder.parent.name) or folder.name


class ImageFiles(NamedTuple):
    """The image files of a set, class after class.

    Attributes:
        classes: class names; in the released layout the numbers, in rising order.
        files: paths relative to the folder, with their sizes in bytes.
        labels: place of each file's class among ``classes``.
        numbered: whether this is the released layout, where a class is always meant by its number.
        logits: soft labels that an export holds beside the images, float16 [N, classes]; None: it has none.
    """

    folder: Path
    classes: tuple[str, ...]
    files: Sequence[Entry]
    labels: list[int]
    read: Callable[[Entry], bytearray]
    numbered: bool = False
    logits: Tensor | None = None


def list_image_files(folder: Path) -> ImageFiles:
    """List the image files of a set."""
    if (exported := exported_files(folder)) is not None:
        found = _arranged(folder, exported.listing, exported.read)
        return found._replace(logits=exported_logits(folder, exported, found.files))
    train, top = folder / "train", folder
    if train.is_dir() and any(child.is_dir() for child in train.iterdir()):
        folder = train
    entries = [entry for entry in two_levels(folder, link_boundary(folder)) if not _is_no_image(entry)]
    listing = arrange(folder.name, entries, None, [])
    say_once(listing.note)
    released = bool(listing.counts) and all(RELEASED_FOLDER.fullmatch(name) for name in listing.counts)
    numbers = _released_numbers(listing) if released else []

    def read(entry: Entry) -> bytearray:
        return read_part(f"{folder}/{entry.path}", 0, entry.size, None)

    if not released or listing.problems:
        found = _arranged(folder, listing, read)
        return found._replace(logits=exported_logits(top, None, found.files)) if folder != top else found
    ordered = sorted(zip(numbers, listing.files, strict=True))
    files, keys = [entry for _, entry in ordered], [number for (number, _), _ in ordered]
    place = {number: i for i, number in enumerate(sorted(set(keys)))}
    labels = [place[number] for number in keys]
    return ImageFiles(folder, tuple(map(str, place)), files=files, labels=labels, read=read, numbered=True)


def _arranged(folder: Path, listing: Listing, read: Callable[[Entry], bytearray]) -> ImageFiles:
    """The files of a listing, whose classes are the first parts of their names."""
    if listing.problems:
        more = f" (and {len(listing.problems) - 1} more)" if len(listing.problems) > 1 else ""
        raise InputError(
            f"distilled set {str(folder)!r}: {listing.problems[0]}{more}; expected CLASS/IMAGE or "
            "new000/class000_id000.jpg"
        )
    names = {name: i for i, name in enumerate(listing.counts)}
    labels = [names[entry.path.partition("/")[0]] for entry in listing.files]
    return ImageFiles(folder, tuple(names), files=listing.files, labels=labels, read=read)


def _is_no_image(entry: Entry) -> bool:
    """Whether an entry is a card, metadata or labels, which may lie beside the class folders."""
    return entry.kind == "file" and "/" not in entry.path and not entry.path.lower().endswith(IMAGE_SUFFIXES)


def _released_numbers(listing: Listing) -> list[tuple[int, int]]:
    """(class, image) of each file by its name.

    A name without them, or with another class than its folder's, becomes a problem of the listing.
    """
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


AGAIN = "export the set again"
LOGITS = ".logits.npy"
"""how the members of shards that hold logits end"""


def exported_files(folder: Path) -> ExportedImages | None:
    """The images of an export; None: the folder is none.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """
    by_split = files_by_split(folder)
    if "train" in by_split:
        return ParquetFiles(require_whole(str(folder), "train", by_split["train"]))
    if files := sorted(folder.glob("*.parquet")):
        return ParquetFiles(files)
    return Shards(folder, "train") if is_sharded(folder) else None


def exported_logits(folder: Path, exported: ExportedImages | None, files: Sequence[Entry]) -> Tensor | None:
    """The soft labels that an export holds beside its images.

    Args:
        exported: what ``exported_files`` says of the folder; None: it is an ImageFolder.
        files: its images, in the order in which their labels are wanted.

    Returns:
        Logits, float16 [N, classes]; None: there are none.
    """
    if isinstance(exported, ParquetFiles):
        rows = [exported.logits[entry.part] for entry in files]
    elif isinstance(exported, Shards):
        of_key = _logits_in_shards(exported)
        rows = [of_key.get((entry.part, entry.path.split("/", 2)[2].rpartition(".")[0])) for entry in files]
    else:
        return _logits_in_file(folder / "labels.safetensors", len(files))
    known = [row for row in rows if row is not None]
    if not known:
        return None
    if len(known) < len(files) or len({row.shape for row in known}) > 1 or known[0].ndim != 1:
        raise InputError(
            f"{folder} has soft labels of {len(known)} of its {len(files)} images, or of several numbers of "
            f"classes; {AGAIN}"
        )
    return torch.from_numpy(np.stack(known)).half()


def _logits_in_file(path: Path, images: int) -> Tensor | None:
    if not path.is_file():
        return None
    stored = TensorFile(path, AGAIN)
    if "logits" not in stored.shapes:  # the file is somebody else's
        return None
    stored.require({"logits": (images, -1)})
    return stored.tensor("logits").half()


def _logits_in_shards(shards: Shards) -> dict[tuple[int, str], np.ndarray]:
    """(number of the shard, key) of an image -> its logits."""
    found = {}
    for part, path in enumerate(shards.paths):
        with opened(path) as members:
            for member in members:
                if not member.name.endswith(LOGITS):
                    continue
                try:
                    row = np.lib.format.read_array(io.BytesIO(members.read(member)), allow_pickle=False)
                except (ValueError, OSError, EOFError, MemoryError) as error:
                    raise InputError(f"{path}: {member.name} is no array ({error}); {AGAIN}") from error
                if row.dtype.kind != "f" or not np.isfinite(row).all():
                    raise InputError(f"{path}: {member.name} holds no finite logits; {AGAIN}")
                found[part, member.name.removeprefix("./").removesuffix(LOGITS)] = row
    return found
