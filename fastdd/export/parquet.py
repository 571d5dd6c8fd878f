"""Parquet with the features of Hugging Face: image {bytes, path}, label with class names, id, class and logits.

    parquet   00000.parquet, ...
    hf        data/train-00000-of-0000N.parquet, which ``datasets.load_dataset`` finds by the card

Soft labels are float32 (their float16 values), since not every reader of Parquet knows half precision. Needs pyarrow.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import InputError
from .content import Content, Sample

ROWS = 100
"""a row group: what a reader that wants one image has to read"""


def features(content: Content) -> dict[str, Any]:
    """The columns as Hugging Face's libraries describe them."""
    columns: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(content.names), "_type": "ClassLabel"},
        "id": {"dtype": "string", "_type": "Value"},
    }
    if content.logits is not None:
        columns["logits"] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    return columns


def write_parquet(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write the files directly into the folder."""
    _write(content, folder, shard_bytes, "{number:05d}.parquet")


def write_hub_folder(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write the files as data/ of a folder for the hub."""
    _write(content, folder / "data", shard_bytes, "train-{number:05d}-of-{count:05d}.parquet")


def _write(content: Content, folder: Path, shard_bytes: int, name: str) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed; pip install 'fastdd[export]'"
        ) from error
    fields = [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("id", pa.string()),
    ]
    if content.logits is not None:
        fields.append(("logits", pa.list_(pa.float32())))
    schema = pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features(content)}})})

    def table(rows: list[Sample]) -> pa.Table:
        columns: list[Any] = [
            [{"bytes": row.png, "path": f"{row.class_name}_{row.slot:05d}.png"} for row in rows],
            [row.label for row in rows],
            [row.id for row in rows],
        ]
        if content.logits is not None:
            columns.append(content.logits[[row.number for row in rows]].float().numpy().tolist())
        return pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema
        )

    folder.mkdir(parents=True, exist_ok=True)
    samples, files = content.samples(), content.shards(shard_bytes)
    for number, numbers in enumerate(files):
        with pq.ParquetWriter(folder / name.format(number=number, count=len(files)), schema) as writer:
            for first in range(0, len(numbers), ROWS):
                writer.write_table(table(list(islice(samples, len(numbers[first : first + ROWS])))))
