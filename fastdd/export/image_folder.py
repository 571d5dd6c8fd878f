"""An ImageFolder, which needs no library to be written.

train/CLASS/SLOT.png    the images
train/metadata.jsonl    file name, label, class and id of each image
labels.safetensors      "logits", float16 [N, classes], where the run stored them
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.files import write_tensors
from .content import Content, json_line, metadata, write_new
from .forms import Form, register_export


def write_image_folder(content: Content, folder: Path, shard_bytes: int) -> None:
    """Write train/ and the labels; this form has no shards, so ``shard_bytes`` changes nothing."""
    lines = []
    for sample in content.samples():
        name = f"{sample.class_name}/{sample.slot:05d}.png"
        write_new(folder / "train" / name, sample.png)
        lines.append(json_line({"file_name": name, **metadata(sample)}))
    write_new(folder / "train" / "metadata.jsonl", b"".join(lines))
    if content.logits is not None:
        write_tensors(folder / "labels.safetensors", {"logits": content.logits})


register_export(
    "imagefolder",
    Form(
        text="ImageFolder (train/CLASS/IMAGE)",
        write=write_image_folder,
        files="train/**",
        loading="from torchvision.datasets import ImageFolder\n"
        'data = ImageFolder("PATH/train")\n'
        "image, label = data[0]",
    ),
)
