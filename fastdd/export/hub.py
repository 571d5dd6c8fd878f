"""A folder for the Hugging Face hub, whose Parquet files ``datasets.load_dataset`` finds by the card.

data/train-00000-of-0000N.parquet, ...
"""

from __future__ import annotations

from pathlib import Path

from .content import Content
from .forms import Form, register_export
from .parquet import PYARROW, write_files


def write_hub_folder(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write the Parquet files into data/."""
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
