"""What a run's page says of a set: what it covers and how diverse it is, by the teacher's embeddings (see scores.py).

Coverage over all classes with k neighbours (Naeem et al., 2020), Vendi score of each class (Friedman and Dieng,
2023; order 1, cosine kernel) and mean off-diagonal cosine within each class.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fastdd_kernels import coverage, intra_class_cosine, vendi_score


@dataclass(frozen=True)
class Diversity:
    """Metrics of one set; the lists have one value a class."""

    coverage: float
    vendi: float
    cosine: float
    vendi_by_class: list[float]
    cosine_by_class: list[float]


def diversity(real: Tensor, radii: Tensor, synthetic: Tensor, labels: Tensor, k: int) -> Diversity:
    """Metrics of synthetic embeddings [n, D] with labels [n] against all real ones [N, D].

    ``radii`` are ``knn_radii(real, k)``, which depend on the real images alone.

    With one image a class the cosine is not defined and reported as 1.
    """
    by_class = [synthetic[labels == c] for c in labels.unique().tolist()]
    vendi = [float(vendi_score(rows)) for rows in by_class]
    cosine = [float(intra_class_cosine(rows)) if len(rows) > 1 else 1.0 for rows in by_class]
    return Diversity(
        float(coverage(real, synthetic, k, real_radii=radii)),
        sum(vendi) / len(vendi),
        sum(cosine) / len(cosine),
        vendi,
        cosine,
    )
