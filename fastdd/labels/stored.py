"""Stored soft labels: the teacher's logits of each image of a set, un-augmented.

labels/<arm>.safetensors    logits [N, classes] float16, in the order of the classes and slots
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..files import write_tensors
from ..progress import progress
from ..teachers import Teacher
from .average import Average, averaged
from .label import check_finite

BATCH = 500


@torch.no_grad()
def label(teacher: Teacher | Mapping[str, Teacher], images: Tensor, name: str, average: Average = "mean") -> Tensor:
    """Logits [N, classes] float16 of uint8 images [N, C, H, W].

    Args:
        teacher: one, or several by name, whose logits are averaged (average.py).

    Raises:
        InputError: a teacher gives no finite numbers.
    """
    voters = teacher if isinstance(teacher, Mapping) else {"": teacher}
    logits: list[Tensor] = []
    with progress(f"label {name}", len(images)) as bar:
        for ids in torch.arange(len(images)).split(BATCH):
            batch, seen = images[ids.to(images.device)], []
            for key, voter in voters.items():
                seen.append(voter.network(voter.normalise(batch)))
                check_finite(seen[-1].half(), key or voter.card.network, 0, ids)
            logits.append(averaged(seen, average).half())
            bar.advance(len(batch))
    return torch.cat(logits)


def save_labels(path: Path, logits: Tensor) -> None:
    write_tensors(path, {"logits": logits})


def load_labels(path: Path) -> Tensor:
    """Logits [N, classes] float32."""
    return load_file(path)["logits"].float()
