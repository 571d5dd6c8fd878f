"""Small data sets in memory, as the bank reads them, and pixels of any split."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fastdd.data import Dataset, open_loader, resident
from fastdd.data.loading.batch import Batch
from fastdd.data.real_data import TrainingImages
from fastdd.models.build import build
from fastdd.teachers import Card, Teacher


def real_images(
    images: Tensor, labels: Tensor, batch: int, fingerprint: str = "d", unreadable: Collection[int] = ()
) -> TrainingImages:
    """uint8 images [N, C, H, W] in class order; those in ``unreadable`` are skipped."""

    def stream(positions: range) -> Iterator[Batch]:
        for start in range(positions.start, positions.stop, batch):
            indices = torch.arange(start, min(start + batch, positions.stop))
            good = torch.tensor([index not in unreadable for index in indices.tolist()])
            skipped = tuple(indices[~good].tolist())
            yield Batch(images[indices[good]], labels[indices[good]], indices[good], skipped)

    names = [f"{c}/{i}" for i, c in enumerate(labels.tolist())]
    _, channels, height, width = images.shape
    return TrainingImages(
        (channels, height, width),
        labels,
        names,
        fingerprint,
        transform={"size": [height, width]},
        stream=stream,
    )


def gallery(counts: Sequence[int], size: int = 8) -> tuple[Tensor, Tensor]:
    """Random images of classes that differ in brightness, and their labels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randint(0, 128, (len(labels), 3, size, size), dtype=torch.uint8, generator=random)
    return images + (labels * 120 // len(counts)).to(torch.uint8)[:, None, None, None], labels


def random_teacher(network: str, classes: Sequence[str]) -> Teacher:
    """Random weights and BatchNorm statistics."""
    torch.manual_seed(0)
    built = build(network, len(classes))
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
    card = Card(network, tuple(classes), 3, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    return Teacher(built.eval().requires_grad_(False), card)


def pixels(
    dataset: Dataset,
    size: tuple[int, int] | None,
    channels: Literal[1, 3] = 3,
    indices: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Images of a split, decoded by torchvision: uint8 [N, channels, H, W]."""
    return resident(dataset, size, channels, indices=indices, backend="torchvision").images


def batches_of(
    dataset: Dataset, batch_size: int, size: tuple[int, int] | None, channels: Literal[1, 3] = 3
) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of one pass over a split in class order, decoded by torchvision."""
    for batch in open_loader(dataset, batch_size, size, channels, backend="torchvision"):
        yield batch.images, batch.labels
