"""Parquet files with the columns of Hugging Face's libraries: an image, which stays encoded, and its class.

    data/train-00000-of-00002.parquet, data/test-00000-of-00001.parquet     the split in the name
    train/0000.parquet, validation/0000.parquet                             or in the folder

The schema notes which column holds images (``{"bytes": ..., "path": ...}``) and which one classes, and the
names of these; without such a note they are the columns ``image`` (or ``img``) and ``label``, and the classes
are called by their numbers. Reading needs pyarrow. Cost: the encoded images of the open split in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ...errors import InputError
from ...runtime.memory import require_memory
from .base import Layout, Split, SplitImages, register_source
from .encoded import EncodedImages
from .tree import SPLIT_FOLDERS, Entry, Listing, class_name_fault, complete, some

if TYPE_CHECKING:
    import pyarrow

DEPTH = 3
"""folders below the root in which Parquet files are looked for"""
OF = re.compile(r"-of-(\d+)(?:-|$)")
"""how many files there are, in the name of each"""
IMAGE_NAMES = ("image", "img", "png", "jpg")
LABEL_NAMES = ("label", "labels", "fine_label", "cls", "class")


class ParquetLayout(Layout):
    """A folder with Parquet files of a split."""

    priority = 30

    def recognizes(self, root: str) -> bool:
        """Whether the root is a folder with Parquet files whose names tell their split."""
        return Path(root).is_dir() and bool(files_by_split(Path(root)))

    def open(self, root: str, split: Split) -> SplitImages:
        """The images of one split, encoded in memory.

        Raises:
            InputError: there are no files of the split or some are missing, they are of several data sets, or
                one is damaged.
        """
        by_split = files_by_split(Path(root))
        found = next((name for name in SPLIT_FOLDERS[split] if name in by_split), None)
        if found is None:
            raise InputError(
                f"{root!r} has no Parquet files of {split}; found those of {some(sorted(by_split))}"
            )
        others = [name for name in SPLIT_FOLDERS["test" if split == "train" else "train"] if name in by_split]
        other = (others[0], _class_names(by_split[others[0]][0])) if others else None
        paths = require_whole(root, found, by_split[found])
        files = ParquetFiles(paths, split=found, other=other, numbers=True)
        return EncodedImages(files, root, split)


def files_by_split(root: Path) -> dict[str, list[Path]]:
    """The Parquet files of a folder by the name of their split; without those whose split nothing tells."""
    patterns = ["/".join(["*"] * depth + ["*.parquet"]) for depth in range(DEPTH)]
    by_split: dict[str, list[Path]] = {}
    for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
        if not path.name.startswith(".") and (name := _split_of(path)) is not None:
            by_split.setdefault(name, []).append(path)
    return by_split


def _split_of(path: Path) -> str | None:
    """The name of the split that a file is of, by its own name or its folder's; None: neither tells."""
    names = [name for names in SPLIT_FOLDERS.values() for name in names]
    for text in (re.split(r"[-_.]", path.name)[0], path.parent.name):
        if text in names:
            return text
    return None


def require_whole(root: str, split: str, paths: Sequence[Path]) -> Sequence[Path]:
    """The files of a split, which must be of one data set, and all of them."""
    folders = {path.parent.parent if path.parent.name == split else path.parent for path in paths}
    if len(folders) > 1:
        names = some(sorted(folder.name for folder in folders))
        raise InputError(
            f"{root!r} holds several data sets, in {names}; give the folder of one, such as "
            f"{str(min(folders))!r}"
        )
    counts = {int(found[1]) for path in paths if (found := OF.search(path.stem))}
    if counts and max(counts) != len(paths):
        raise InputError(
            f"{root!r} has {len(paths)} of the {max(counts)} Parquet files of {split}; get the others too"
        )
    return paths


class ParquetFiles:
    """The images of Parquet files (see tree.ImageFiles).

    Args:
        other: name and classes of the other split; None: there is none.
        numbers: call each class by its number and name, such as ``07_ship``, where the names alone would sort
            in another order than the numbers.

    Attributes:
        logits: soft labels of each image, by the number of its entry's part; None where it has none.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """

    layout = "Parquet files"

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        split: str = "train",
        other: tuple[str, list[str]] | None = None,
        numbers: bool = False,
    ) -> None:
        self.listing = Listing(split)
        self._images: list[bytes] = []
        self.logits: list[np.ndarray | None] = []
        tables = [_Table.open(path) for path in paths]
        needed = sum(table.size for table in tables)
        require_memory(needed, f"to hold the images of {paths[0].parent}", "store them as a folder of images")
        names: list[str] = []
        for table in tables:
            names = _named(table.names, numbers=numbers)
            if faults := [fault for name in names if (fault := class_name_fault(name))]:
                raise _useless(table.path, f"a class {faults[0]}")
            for row, (image, label, logits) in enumerate(table.rows()):
                if not 0 <= label < len(names):
                    raise _useless(
                        table.path, f"row {row} has label {label}, but there are {len(names)} classes"
                    )
                name = f"{names[label]}/{table.path.stem}/{row:08d}.png"
                self.listing.files.append(Entry(name, "file", len(image), part=len(self._images)))
                self._images.append(image)
                self.logits.append(logits)
        theirs = None if other is None else (other[0], _named(other[1], numbers=numbers))
        complete(self.listing, names, theirs)

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see tree.ImageFiles)."""
        return bytearray(self._images[entry.part][first : None if size is None else first + size])


def _named(names: Sequence[str], *, numbers: bool) -> list[str]:
    """Names of classes whose sorted order is that of the numbers, where that is asked for."""
    if not numbers or list(names) == sorted(names):
        return list(names)
    width = len(str(len(names) - 1))
    return [f"{number:0{width}d}_{name}" for number, name in enumerate(names)]


class _Table(NamedTuple):
    """One Parquet file, of which only the schema was read.

    Attributes:
        image, label: names of its columns.
        names: names of its classes, by number.
    """

    path: Path
    image: str
    label: str
    names: list[str]
    has_logits: bool
    size: int

    @staticmethod
    def open(path: Path) -> _Table:
        """Read the schema of a file."""
        schema, size = _schema(path)
        features = _features(path, schema)
        columns = set(schema.names)
        image = _column(path, columns, features, "Image", IMAGE_NAMES)
        label = _column(path, columns, features, "ClassLabel", LABEL_NAMES)
        noted = features.get(label, {}).get("names")
        names = [str(name) for name in noted] if isinstance(noted, list) else _numbers(path, label)
        return _Table(path, image, label, names, "logits" in columns, size)

    def rows(self) -> Iterator[tuple[bytes, int, np.ndarray | None]]:
        """(encoded image, label, logits) of each row."""
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        names = [self.image, self.label, *(["logits"] if self.has_logits else [])]
        try:
            table = read_table(self.path, columns=names)
            images, labels, *logits = (table[name].to_pylist() for name in names)
        except (ArrowException, OSError, KeyError, ValueError) as error:
            raise _useless(self.path, str(error).partition("\n")[0]) from error
        values = logits[0] if logits else [None] * len(images)
        for row, (image, label, given) in enumerate(zip(images, labels, values, strict=True)):
            content = image.get("bytes") if isinstance(image, dict) else image
            if not isinstance(content, bytes) or not isinstance(label, int):
                raise _useless(self.path, f"row {row} has no encoded image and number of a class")
            try:
                array = None if given is None else np.array(given, np.float32)
            except (TypeError, ValueError, OverflowError) as error:
                raise _useless(self.path, f"row {row} has logits that are no numbers") from error
            if array is not None and not np.isfinite(array).all():
                raise _useless(self.path, f"row {row} has logits that are not finite")
            yield content, label, array


_Features = dict[str, dict[str, JsonValue]]
"""what a schema notes of each column"""


class _Info(TypedDict):
    features: dict[str, JsonValue]


class _Note(TypedDict):
    """What Hugging Face's libraries note in the schema of a Parquet file."""

    info: _Info


def _schema(path: Path) -> tuple[pyarrow.Schema, int]:
    """The schema of a file, and about how many bytes its columns take in memory."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError(
            f"{path} is a Parquet file, which pyarrow reads, and that is not installed; pip install "
            "'fastdd[export]'"
        ) from error
    try:
        with ParquetFile(path) as file:
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            return file.schema_arrow, sum(group.total_byte_size for group in groups)
    except (ArrowException, OSError) as error:
        raise _useless(path, str(error).partition("\n")[0]) from error


def _features(path: Path, schema: pyarrow.Schema) -> _Features:
    """What the schema notes of its columns, by name; empty: nothing."""
    noted = (schema.metadata or {}).get(b"huggingface")
    if noted is None:
        return {}
    try:
        features = TypeAdapter(_Note).validate_json(noted)["info"]["features"]
        return {name: each for name, each in features.items() if isinstance(each, dict)}
    except ValidationError as error:
        raise _useless(path, "its schema does not name the classes") from error


def _column(path: Path, columns: set[str], features: _Features, kind: str, usual: Sequence[str]) -> str:
    """The column of images, or of classes: the one that is noted as such, or has a usual name."""
    noted = [name for name, each in features.items() if each.get("_type") == kind and name in columns]
    candidates = noted or sorted(columns)
    chosen = next((name for name in usual if name in candidates), None)
    if chosen is None and len(noted) == 1:
        return noted[0]
    if chosen is None:
        what = "images" if kind == "Image" else "classes"
        raise _useless(
            path, f"no column of {what} is known among {some(candidates)}; expected one called {usual[0]!r}"
        )
    return chosen


def _numbers(path: Path, label: str) -> list[str]:
    """Names for the classes of a file that names none: their numbers, up to the largest of all files beside
    it, whose sorted order is that of the numbers."""
    from pyarrow import ArrowException, compute
    from pyarrow.parquet import read_table

    largest = 0
    try:
        for each in sorted(path.parent.glob("*.parquet")):
            column = read_table(each, columns=[label])[label]
            largest = max(largest, int(compute.max(column).as_py()))
    except (ArrowException, OSError, TypeError, ValueError, KeyError) as error:
        raise _useless(path, f"its column {label!r} holds no numbers of classes") from error
    width = len(str(largest))
    return [f"{number:0{width}d}" for number in range(largest + 1)]


def _class_names(path: Path) -> list[str]:
    return _Table.open(path).names


def _useless(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is no Parquet file of labelled images ({reason}); get or export it again")


register_source("parquet", ParquetLayout())
