"""WebDataset shards, which need no library to be written.

train-000000.tar, ...    KEY.png, KEY.cls (the label), KEY.json (label, class, id) and, where the run stored
                         them, KEY.logits.npy (float16 [classes]); KEY is the image's number in the set
classes.txt              the class names, a line each

Members of a shard have no times or owners, so that a set gives the same bytes everywhere.
"""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np

from .content import Content, Sample, json_line, metadata, write_new
from .forms import Form, register_export


def write_shards(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write .tar shards of at most ``shard_bytes``, unless one image is larger, and the class names."""
    samples = content.samples()
    for number, rows in enumerate(content.shards(shard_bytes)):
        with tarfile.open(folder / f"train-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in islice(samples, len(rows)):
                for suffix, data in _members(content, sample).items():
                    member = tarfile.TarInfo(f"{sample.number:08d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    write_new(folder / "classes.txt", "".join(f"{name}\n" for name in content.names).encode())


def _members(content: Content, sample: Sample) -> dict[str, bytes]:
    """The files of one image by their suffixes."""
    members = {"png": sample.png, "cls": str(sample.label).encode(), "json": json_line(metadata(sample))}
    if content.logits is not None:
        array = io.BytesIO()
        np.save(array, content.logits[sample.number].numpy(), allow_pickle=False)
        members["logits.npy"] = array.getvalue()
    return members


register_export(
    "webdataset",
    Form(
        text="WebDataset shards",
        write=write_shards,
        files="*.tar",
        loading="import webdataset\n"
        'data = webdataset.WebDataset("PATH/train-{000000..LAST}.tar", shardshuffle=False)\n'
        'image, label = next(iter(data.decode("pil").to_tuple("png", "cls")))',
    ),
)
