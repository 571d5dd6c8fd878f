"""The forms without tables: an ImageFolder, and WebDataset shards. Both need no library to be written.

    imagefolder   train/CLASS/SLOT.png, train/metadata.jsonl, labels.safetensors
    webdataset    train-000000.tar, ... with KEY.png, KEY.cls, KEY.json, KEY.logits.npy; classes.txt

Soft labels are float16. Members of a shard have no times or owners, so that a set gives the same bytes everywhere.
"""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np

from ..runtime.files import write_tensors
from .content import Content, Sample, line, metadata, write_new


def write_image_folder(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write train/ and what belongs to it; nothing is cut into shards."""
    lines = []
    for sample in content.samples():
        name = f"{sample.class_name}/{sample.slot:05d}.png"
        write_new(folder / "train" / name, sample.png)
        lines.append(line({"file_name": name, **metadata(sample)}))
    write_new(folder / "train" / "metadata.jsonl", b"".join(lines))
    if content.logits is not None:
        write_tensors(folder / "labels.safetensors", {"logits": content.logits})


def write_shards(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write .tar shards of at most shard_bytes, unless one image is larger."""
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
    members = {"png": sample.png, "cls": str(sample.label).encode(), "json": line(metadata(sample))}
    if content.logits is not None:
        array = io.BytesIO()
        np.save(array, content.logits[sample.number].numpy(), allow_pickle=False)
        members["logits.npy"] = array.getvalue()
    return members
