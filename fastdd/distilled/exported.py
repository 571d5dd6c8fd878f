"""Sets in the forms that ``fastdd export`` writes for other libraries, read back.

    train-000000.tar, ...                    WebDataset shards, with classes.txt
    00000.parquet, ...; data/train-*.parquet Parquet files with columns ``image`` and ``label``

Images stay encoded until they are asked for: those of shards on the disk, those of Parquet files in memory.
Soft labels lie beside the images in each form: KEY.logits.npy in shards, a column ``logits`` of Parquet
files, and labels.safetensors beside the folder train/ of an ImageFolder.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.sources.archive_members import opened
from ..data.sources.parquet import ParquetFiles, files_by_split, require_whole
from ..data.sources.tree import Entry, ImageFiles
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
    by_split = files_by_split(folder)
    if "train" in by_split:
        return ParquetFiles(require_whole(str(folder), "train", by_split["train"]))
    if files := sorted(folder.glob("*.parquet")):
        return ParquetFiles(files)
    return Shards(folder, "train") if is_sharded(folder) else None


def exported_logits(folder: Path, exported: ImageFiles | None, files: Sequence[Entry]) -> Tensor | None:
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
