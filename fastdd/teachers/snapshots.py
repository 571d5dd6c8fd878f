"""Snapshots of a training: how the teacher embeds some real images after chosen epochs.

They show what DEDA's Figure 1 shows: while a teacher learns, the embeddings of a class come ever closer to
one another. Every snapshot of a training is of the same images.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ..data.real_data import RealData
from ..data.sampling import sample_of_classes
from ..run_folder import TensorFile
from ..run_folder.reading import START_OVER
from ..runtime.files import write_tensors
from ..runtime.precision import float32_products
from ..runtime.seeds import derive
from .card import METADATA_KEY
from .load import Teacher
from .taps import Taps
from .training import EVALUATION_BATCH

CLASSES = 10
"""most classes of the images: as many as the page has colors for"""
IMAGES = 100
"""most images of a class: with ten classes as many points as the page's other map has of real images, and a
snapshot of 512 dimensions takes 2 MB"""
REMEDY = f"put it back, or {START_OVER}: it is written while the teacher is trained"


class _Named(TypedDict):
    classes: list[str]


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of a training.

    Attributes:
        classes: names of the classes of the images.
        labels: number in ``classes`` of each image, int64 [N], ascending.
        embeddings: epoch, counted from 1 -> the input of the last linear layer in eval mode, float32 [N, D]
            on the CPU.
    """

    classes: tuple[str, ...]
    labels: Tensor
    embeddings: dict[int, Tensor] = field(default_factory=dict)


def images_of_snapshots(real: RealData) -> tuple[Tensor, Snapshots]:
    """Draw by the recipe's seed the real images that snapshots show.

    Returns:
        Training images, uint8 [N, C, H, W] on the device, and their snapshots, of which there are none yet.
    """
    seed = derive(real.config.seed, "snapshots")
    images, labels = real.images(real.train, sample_of_classes(real.train, CLASSES, IMAGES, seed))
    numbers, places = labels.cpu().unique(return_inverse=True)
    return images, Snapshots(tuple(real.classes[c] for c in numbers.tolist()), places)


@torch.no_grad()
@float32_products("fp32")
def embed_snapshot(teacher: Teacher, images: Tensor) -> Tensor:
    """Embed uint8 images [N, C, H, W] as the teacher is now: float32 [N, D] on the CPU."""
    taps = Taps(teacher.network)
    parts = images.split(EVALUATION_BATCH)
    return torch.cat([taps(teacher.normalize(part)).embedding.flatten(1).cpu() for part in parts])


def save_snapshots(path: Path, snapshots: Snapshots) -> None:
    """Write snapshots to a safetensors file: ``labels``, and ``epoch_N`` of each snapshot."""
    tensors = {f"epoch_{epoch}": rows for epoch, rows in snapshots.embeddings.items()}
    named = json.dumps({"classes": snapshots.classes})
    write_tensors(path, {"labels": snapshots.labels, **tensors}, {METADATA_KEY: named})


def read_snapshots(path: Path) -> Snapshots:
    """Read the snapshots of a training, by rising epoch.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = TensorFile(path, REMEDY)
    classes = tuple(file.note(METADATA_KEY, _Named)["classes"])
    file.require({"labels": (-1,)}, integers=("labels",))
    epochs = {}
    for name in file.shapes.keys() - {"labels"}:
        if (match := re.fullmatch(r"epoch_([1-9]\d*)", name)) is None:
            raise file.damaged(f"it holds an unknown tensor {name!r}")
        epochs[int(match[1])] = name
    if not epochs:
        raise file.damaged("it holds no snapshot")
    shape = (*file.shapes["labels"], file.shapes[min(epochs.values())][-1])
    file.require(dict.fromkeys(epochs.values(), shape))
    labels = file.tensor("labels")
    if labels.unique().tolist() != list(range(len(classes))):
        raise file.damaged("'labels' are not those of its classes")
    return Snapshots(classes, labels, {epoch: file.tensor(epochs[epoch]) for epoch in sorted(epochs)})
