"""Sets in the forms that ``fastdd export`` writes for other libraries, read back.

    train-000000.tar, ...                    WebDataset shards, with classes.txt
    00000.parquet, ...; data/train-*.parquet Parquet files with columns ``image`` and ``label``

Images stay encoded until they are asked for: those of shards on the disk, those of Parquet files in memory.
Soft labels lie beside the images in each form: KEY.logits.npy in shards, a column ``logits`` of Parquet
files, and labels.safetensors beside the folder train/ of an ImageFolder.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict

from ..data.sources.archive_members import opened
from ..data.sources.tree import Entry, ImageFiles, Listing, class_name_fault, complete
from ..data.sources.webdataset import Shards
from ..data.sources.webdataset_paths import is_sharded
from ..errors import InputError
from ..run_folder import TensorFile

AGAIN = "export the set again"
LOGITS = ".logits.npy"
"""how the members of shards that hold logits end"""


def exported_files(folder: Path) -> ImageFiles | None:
    """The images of an export; None: the folder is none.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """
    if files := sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/train-*.parquet")):
        return ParquetFiles(files)
    return Shards(folder, "train") if is_sharded(folder) else None


def exported_logits(folder: Path, exported: ImageFiles | None, files: Sequence[Entry]) -> Tensor | None:
    """The soft labels that an export holds beside its images.

    Args:
        folder: the export.
        exported: what ``exported_files`` says of it; None: it is an ImageFolder.
        files: its images, in the order in which their labels are wanted.

    Returns:
        Logits, float16 [N, classes]; None: there are none.

    Raises:
        InputError: they are damaged, or not of all images.
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


class ParquetFiles:
    """The images of Parquet files: a column ``image`` of structs with ``bytes``, a column ``label`` of
    integers, and the class names in what Hugging Face's libraries note in the schema.

    Args:
        paths: the files.

    Attributes:
        layout, listing: as those of ImageFiles.
        logits: soft labels of each image, by the number of its entry's part; None where it has none.

    Raises:
        InputError: a file is damaged or holds something else, or pyarrow is not installed.
    """

    layout = "Parquet files"

    def __init__(self, paths: Sequence[Path]) -> None:
        self.listing = Listing("train")
        self._images: list[bytes] = []
        self.logits: list[np.ndarray | None] = []
        names: list[str] = []
        for path in paths:
            names = _class_names(path)
            if faults := [fault for name in names if (fault := class_name_fault(name))]:
                raise _useless(path, f"a class {faults[0]}")
            for row, (image, label, logits) in enumerate(_rows(path)):
                if not 0 <= label < len(names):
                    raise _useless(path, f"row {row} has label {label}, but there are {len(names)} classes")
                name = f"{names[label]}/{path.stem}/{row:08d}.png"
                self.listing.files.append(Entry(name, "file", len(image), part=len(self._images)))
                self._images.append(image)
                self.logits.append(logits)
        complete(self.listing, names, None)

    def read(self, entry: Entry, first: int = 0, size: int | None = None) -> bytearray:
        """The encoded bytes of one image, or a part (see tree.ImageFiles)."""
        return bytearray(self._images[entry.part][first : None if size is None else first + size])


def _rows(path: Path) -> Iterator[tuple[bytes, int, np.ndarray | None]]:
    """(encoded image, label, logits) of each row of a file."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_schema, read_table
    except ImportError as error:
        raise InputError(
            f"{path} is a Parquet file, which pyarrow reads, and that is not installed; pip install "
            "'fastdd[export]'"
        ) from error
    try:
        names = ["image", "label", *(["logits"] if "logits" in read_schema(path).names else [])]
        table = read_table(path, columns=names)
        images, labels, *logits = (table[name].to_pylist() for name in names)
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise _useless(path, str(error).partition("\n")[0]) from error
    values = logits[0] if logits else [None] * len(images)
    for row, (image, label, given) in enumerate(zip(images, labels, values, strict=True)):
        content = image.get("bytes") if isinstance(image, dict) else None
        if not isinstance(content, bytes) or not isinstance(label, int):
            raise _useless(path, f"row {row} has no encoded image and number of a class")
        try:
            array = None if given is None else np.array(given, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise _useless(path, f"row {row} has logits that are no numbers") from error
        if array is not None and not np.isfinite(array).all():
            raise _useless(path, f"row {row} has logits that are not finite")
        yield content, label, array


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
    return InputError(f"{path} is no Parquet file of a distilled set ({reason}); {AGAIN}")
