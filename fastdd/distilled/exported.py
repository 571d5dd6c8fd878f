"""Sets in the forms that ``fastdd export`` writes for other libraries, read back.

    train-000000.tar, ...                    WebDataset shards, with classes.txt
    00000.parquet, ...; data/train-*.parquet Parquet files with columns ``image`` and ``label``

Images stay encoded until they are asked for: those of shards on the disk, those of Parquet files in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..data.sources.tree import Entry, ImageFiles, Listing, class_name_fault, complete
from ..data.sources.webdataset import Shards
from ..data.sources.webdataset_paths import is_sharded
from ..errors import InputError


def exported_files(folder: Path) -> ImageFiles | None:
    """The images of an export; None: the folder is none.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """
    if files := sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/train-*.parquet")):
        return ParquetFiles(files)
    return Shards(folder, "train") if is_sharded(folder) else None


class ParquetFiles:
    """The images of Parquet files: a column ``image`` of structs with ``bytes``, a column ``label`` of
    integers, and the class names in what Hugging Face's libraries note in the schema.

    Args:
        paths: the files.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """

    layout = "Parquet files"

    def __init__(self, paths: Sequence[Path]) -> None:
        self.listing = Listing("train")
        self._images: list[bytes] = []
        names: list[str] = []
        for path in paths:
            names = _class_names(path)
            if faults := [fault for name in names if (fault := class_name_fault(name))]:
                raise _useless(path, f"a class {faults[0]}")
            for row, (image, label) in enumerate(_rows(path)):
                if not 0 <= label < len(names):
                    raise _useless(path, f"row {row} has label {label}, but there are {len(names)} classes")
                name = f"{names[label]}/{path.stem}/{row:08d}.png"
                self.listing.files.append(Entry(name, "file", len(image), part=len(self._images)))
                self._images.append(image)
        complete(self.listing, names, None)

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see tree.ImageFiles)."""
        return bytearray(self._images[entry.part][first : None if size is None else first + size])


def _rows(path: Path) -> Iterator[tuple[bytes, int]]:
    """(encoded image, label) of each row of a file."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise InputError(
            f"{path} is a Parquet file, which pyarrow reads, and that is not installed; pip install "
            "'fastdd[export]'"
        ) from error
    try:
        table = read_table(path, columns=["image", "label"])
        columns = [table[name].to_pylist() for name in ("image", "label")]
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise _useless(path, str(error).partition("\n")[0]) from error
    for row, (image, label) in enumerate(zip(*columns, strict=True)):
        content = image.get("bytes") if isinstance(image, dict) else None
        if not isinstance(content, bytes) or not isinstance(label, int):
            raise _useless(path, f"row {row} has no encoded image and number of a class")
        yield content, label


class _Label(TypedDict):
    names: list[str]


class _Columns(TypedDict):
    label: _Label


class _Info(TypedDict):
    features: _Columns


class _Note(TypedDict):
    """What Hugging Face's libraries note in the schema of a Parquet file."""

    info: _Info


def _class_names(path: Path) -> list[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        metadata = read_schema(path).metadata or {}
        note = TypeAdapter(_Note).validate_json(metadata.get(b"huggingface", b""))
    except (ArrowException, OSError) as error:
        raise _useless(path, str(error).partition("\n")[0]) from error
    except ValidationError as error:
        raise _useless(path, "its schema does not name the classes") from error
    return note["info"]["features"]["label"]["names"]


def _useless(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is no Parquet file of a distilled set ({reason}); export the set again")
