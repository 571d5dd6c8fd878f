"""Test accuracy of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

EVALUATION_BATCH = 500


def accuracy(
    network: Callable[[Tensor], Tensor], normalize: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
) -> float:
    """Top-1 accuracy of a classifier on uint8 images [N, C, H, W], as a fraction."""
    pairs = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    return streamed_accuracy(network, normalize, pairs)


@torch.no_grad()
def streamed_accuracy(
    network: Callable[[Tensor], Tensor],
    normalize: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> float:
    """Top-1 accuracy of a classifier on batches of uint8 images and labels, as a fraction."""
    hits, seen = [], 0
    for images, labels in batches:
        hits.append((network(normalize(images)).argmax(1) == labels).sum())
        seen += len(labels)
    return int(torch.stack(hits).sum()) / seen if seen else 0.0
