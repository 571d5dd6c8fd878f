"""A distilled set written out for other libraries, with a card that says what it is.

The folder is written beside its place and then renamed, so it is whole or absent. Cost: one PNG an image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..distilled.sets import DistilledSet
from ..errors import InputError, suggestion
from ..runtime.files import new_folder
from .card import card
from .content import Content, content, write_new
from .folders import write_image_folder, write_shards
from .parquet import write_hub_folder, write_parquet

SHARD_MB = 500


class Form(NamedTuple):
    """A form: in words, who writes it, its files of images, and how it is loaded.

    In loading PATH stands for the folder and LAST for the number of the last shard.
    """

    text: str
    write: Callable[[Content, Path, int], None]
    files: str
    loading: str


FORMS = {
    "imagefolder": Form(
        "ImageFolder (train/CLASS/IMAGE)",
        write_image_folder,
        "train/**",
        'from torchvision.datasets import ImageFolder\ndata = ImageFolder("PATH/train")\nimage, label = data[0]',
    ),
    "webdataset": Form(
        "WebDataset shards",
        write_shards,
        "*.tar",
        'import webdataset\ndata = webdataset.WebDataset("PATH/train-{000000..LAST}.tar", shardshuffle=False)\n'
        'image, label = next(iter(data.decode("pil").to_tuple("png", "cls")))',
    ),
    "parquet": Form(
        "Parquet files",
        write_parquet,
        "*.parquet",
        "from datasets import load_dataset\n"
        'data = load_dataset("parquet", data_files="PATH/*.parquet", split="train")\n'
        'image, label = data[0]["image"], data[0]["label"]',
    ),
    "hf": Form(
        "Parquet files in a folder for the Hugging Face hub",
        write_hub_folder,
        "data/train-*",
        'from datasets import load_dataset\ndata = load_dataset("PATH", split="train")\n'
        'image, label = data[0]["image"], data[0]["label"]',
    ),
}


def export(distilled: DistilledSet, form: str, out: str | Path, shard_mb: float = SHARD_MB) -> Path:
    """Write a set in another form, with a dataset card.

    Stored soft labels of the run go along where they are one row an image.

    Args:
        form: one of FORMS.
        out: a new folder, or an empty one.
        shard_mb: largest size of a shard or a Parquet file, in MB.

    Returns:
        The folder.

    Raises:
        InputError: no such form, out is not empty, a library is missing, or the disk is full.
    """
    if form not in FORMS:
        raise InputError(
            f"form {form!r} is unknown{suggestion(form, FORMS)}; expected one of {', '.join(FORMS)}"
        )
    if shard_mb <= 0:
        raise InputError(f"shards of {shard_mb:g} MB are not possible; expected more than 0")
    out, whole, chosen = Path(out), content(distilled), FORMS[form]
    shard_bytes = int(shard_mb * 1e6)
    last = f"{len(whole.shards(shard_bytes)) - 1:06d}"
    loading = chosen.loading.replace("PATH", out.name).replace("LAST", last)
    with new_folder(out, distilled.images.numel()) as folder:
        chosen.write(whole, folder, shard_bytes)
        text = card(whole, chosen.text, chosen.files, loading)
        write_new(folder / "README.md", text.encode())
    return out
