"""Parquet files with the features of Hugging Face; writing them needs pyarrow.

00000.parquet, ...    image {bytes, path}, label (with the class names), id and, where the run stored
                      them, logits

Logits are written as float32 (of float16 values), since not every reader of Parquet knows half precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from .content import Content, Sample
from .forms import Form, register_export

if TYPE_CHECKING:
    import pyarrow

PYARROW = ("pyarrow", "pip install 'fastdd[export]'")
"""the package that this form needs, and the command that installs it"""
ROW_GROUP = 100
"""rows of a row group, which a reader that wants one image has to read whole"""


def features(content: Content) -> dict[str, JsonValue]:
    """The columns as Hugging Face's libraries describe them."""
    columns: dict[str, JsonValue] = {
        "image": {"_type": "Image"},
        "label": {"names": list(content.names), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    if content.logits is not None:
        columns["logits"] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    return columns


def write_parquet(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write the files directly into the folder."""
    write_files(content, folder, shard_bytes=shard_bytes, name="{number:05d}.parquet")


def write_files(content: Content, folder: Path, *, shard_bytes: int, name: str) -> None:
    """Write files of at most ``shard_bytes``, unless one image is larger.

    Args:
        folder: where; it is created.
        shard_bytes: largest size of a file.
        name: file name with the fields {number} and {count}.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    fields = [
        ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("label", pyarrow.int64()),
        ("id", pyarrow.string()),
    ]
    if content.logits is not None:
        fields.append(("logits", pyarrow.list_(pyarrow.float32())))
    schema = pyarrow.schema(fields, {"huggingface": json.dumps({"info": {"features": features(content)}})})
    folder.mkdir(parents=True, exist_ok=True)
    samples, shards = content.samples(), content.shards(shard_bytes)
    for number, rows in enumerate(shards):
        with ParquetWriter(folder / name.format(number=number, count=len(shards)), schema) as writer:
            for first in range(0, len(rows), ROW_GROUP):
                group = list(islice(samples, len(rows[first : first + ROW_GROUP])))
                writer.write_table(_table(content, group, schema))


def _table(content: Content, samples: Sequence[Sample], schema: pyarrow.Schema) -> pyarrow.Table:
    """One row group."""
    from pyarrow import Table

    columns: dict[str, Sequence[object]] = {
        "image": [{"bytes": each.png, "path": f"{each.class_name}_{each.slot:05d}.png"} for each in samples],
        "label": [each.label for each in samples],
        "id": [each.id for each in samples],
    }
    if content.logits is not None:
        columns["logits"] = content.logits[[each.number for each in samples]].float().numpy().tolist()
    return Table.from_pydict(columns, schema)


register_export(
    "parquet",
    Form(
        text="Parquet files",
        write=write_parquet,
        files="*.parquet",
        loading="from datasets import load_dataset\n"
        'data = load_dataset("parquet", data_files="PATH/*.parquet", split="train")\n'
        'image, label = data[0]["image"], data[0]["label"]',
        needs=PYARROW,
    ),
)


def write_hub_folder(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write data/train-00000-of-0000N.parquet, ..., which ``datasets.load_dataset`` finds by the card."""
    name = "train-{number:05d}-of-{count:05d}.parquet"
    write_files(content, folder / "data", shard_bytes=shard_bytes, name=name)


register_export(
    "hf",
    Form(
        text="Parquet files in a folder for the Hugging Face hub",
        write=write_hub_folder,
        files="data/train-*",
        loading='from datasets import load_dataset\ndata = load_dataset("PATH", split="train")\n'
        'image, label = data[0]["image"], data[0]["label"]',
        needs=PYARROW,
    ),
)
