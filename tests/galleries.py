"""Small data sets in memory, as the bank reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from fastdd.bank import RealImages
from fastdd.data.loader import Batch
from fastdd.teachers import Card, Teacher, build


def real_images(
    images: Tensor, labels: Tensor, batch: int, fingerprint: str = "d", unreadable: Collection[int] = ()
) -> RealImages:
    """uint8 images [N, C, H, W] in class order; those in ``unreadable`` are skipped."""

    def stream(positions: range) -> Iterator[Batch]:
        for start in range(positions.start, positions.stop, batch):
            indices = torch.arange(start, min(start + batch, positions.stop))
            good = torch.tensor([index not in unreadable for index in indices.tolist()])
            skipped = tuple(indices[~good].tolist())
            yield Batch(images[indices[good]], labels[indices[good]], indices[good], skipped)

    names = [f"{c}/{i}" for i, c in enumerate(labels.tolist())]
    _, channels, height, width = images.shape
    return RealImages((channels, height, width), labels, names, fingerprint, {"size": [height, width]}, stream)


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
