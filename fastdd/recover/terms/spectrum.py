"""G-VBSM's diversity of the images of a class: the spectrum of their Gram matrix is flattened.

    X [s, 3 * 32 * 32]: the augmented images of a class in a batch, pooled to 32 x 32        l = eigenvalues
    of X Xt
    KL(stop[softmax(l / tau)] || softmax(l))        summed over the classes of the unit

X Xt is symmetric, so the gradient of its eigenvalues is a product with the eigenvectors, which is finite for
equal eigenvalues too. A single image gives 0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fastdd_kernels.product import matmul

from ...config import Config
from ...config.base import NotNegative, Positive
from ...teachers import Features
from ..plan import Unit
from .base import Term, Values, by_class, register_term

SIDE = 32
"""height and width in pixels that images are pooled to"""


class Spectrum(Config):
    """G-VBSM's diversity of a class: KL(stop[softmax(l / tau)] || softmax(l)), l the eigenvalues of X Xt."""

    weight: NotNegative = 1.0
    """factor of the divergence"""
    tau: Positive = 4.0
    """temperature of the flattened spectrum, which is the target"""


class SpectrumTerm(Term[Spectrum, None]):
    """The diversity of each class in each batch; it has no targets."""

    configuration = Spectrum
    labels: ClassVar = {"nuc": "diversity of the spectrum"}
    position = 60
    waits = True  # torch looks whether the eigenvalues were found

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        rows = by_class(pooled(images).flatten(1), self.shape)
        eigenvalues = torch.linalg.eigvalsh(matmul(rows, rows.mT))
        wanted = (eigenvalues.detach() / self.config.tau).log_softmax(1)
        divergence = (wanted.exp() * (wanted - eigenvalues.log_softmax(1))).sum()
        return {"nuc": self.config.weight * divergence}


def pooled(images: Tensor) -> Tensor:
    """``adaptive_avg_pool2d`` of images to 32 x 32, as matrix products, so the gradient is deterministic."""
    if images.shape[2:] == (SIDE, SIDE):
        return images
    rows, columns = (_pooling(side, images) for side in images.shape[2:])
    return rows @ images @ columns.T


def _pooling(side: int, images: Tensor) -> Tensor:
    """The matrix [32, side] whose row i averages pixels floor(i side / 32) up to ceil((i + 1) side / 32)."""
    i, pixel = torch.arange(SIDE, device=images.device)[:, None], torch.arange(side, device=images.device)
    inside = (pixel >= i * side // SIDE) & (pixel < -((-(i + 1) * side) // SIDE))
    return (inside / inside.sum(1, keepdim=True)).to(images.dtype)


register_term("nuc", SpectrumTerm)
