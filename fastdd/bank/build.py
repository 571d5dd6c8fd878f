"""Build the bank: one pass of the teacher over the real images, class by class, in eval mode.

Per class and tapped layer: count, mean and covariance of spatially pooled features (DEDA eq. 3 to 5),
and the embeddings themselves (DiRe).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from fastdd_kernels import ClassGaussian

from ..progress import progress
from ..teachers import Taps, Teacher


@torch.no_grad()
def build(
    teacher: Teacher,
    batches: Iterable[tuple[Tensor, Tensor]],
    total: int,
    layers: Collection[str],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Statistics of the real images.

    Args:
        batches: (uint8 images [B, C, H, W], labels [B]), in class order.
        total: number of images, for the progress bar.
        layers: names of the tapped layers (see teachers.taps).

    Returns:
        (statistics, embeddings): ``counts`` [K], and per layer ``<layer>/mean`` [K, D] and
        ``<layer>/covariance`` [K, D (D + 1) / 2], float32, biased, lower triangle by rows;
        ``embeddings`` [N, D] float16 in class order.
    """
    taps = Taps(teacher.network, layers)
    num_classes = len(teacher.card.classes)
    gaussians: dict[str, ClassGaussian] = {}
    embeddings: list[Tensor] = []
    counts = torch.zeros(num_classes, dtype=torch.long)
    with progress("bank", total) as bar:
        for images, labels in batches:
            features = taps(teacher.normalise(images))
            for layer in layers:
                pooled = features.pooled[layer]
                if layer not in gaussians:
                    gaussians[layer] = ClassGaussian(num_classes, pooled.shape[1], device=pooled.device)
                gaussians[layer].update(pooled, labels)
            embeddings.append(features.embedding.half().cpu())
            counts += torch.bincount(labels.cpu(), minlength=num_classes)
            bar.advance(len(labels))
    statistics = {"counts": counts}
    for layer, gaussian in gaussians.items():
        statistics[f"{layer}/mean"] = torch.stack([gaussian.mean(c) for c in range(num_classes)])
        statistics[f"{layer}/covariance"] = torch.stack(
            [gaussian.covariance(c, packed=True) for c in range(num_classes)]
        )
    return statistics, {"embeddings": torch.cat(embeddings)}
