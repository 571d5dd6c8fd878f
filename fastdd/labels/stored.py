"""Stored soft labels: the teacher's logits of each image of a set, un-augmented.

labels/<arm>.safetensors    logits [N, classes] float16, in the order of the classes and slots
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..files import write_tensors
from ..progress import progress
from ..teachers import Teacher

BATCH = 500


@torch.no_grad()
def label(teacher: Teacher, images: Tensor, name: str) -> Tensor:
    """Logits [N, classes] float16 of uint8 images [N, C, H, W]."""
    logits = []
    with progress(f"label {name}", len(images)) as bar:
        for batch in images.split(BATCH):
            logits.append(teacher.network(teacher.normalise(batch)).half())
            bar.advance(len(batch))
    return torch.cat(logits)


def save_labels(path: Path, logits: Tensor) -> None:
    write_tensors(path, {"logits": logits})


def load_labels(path: Path) -> Tensor:
    """Logits [N, classes] float32."""
    return load_file(path)["logits"].float()
