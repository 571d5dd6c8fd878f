"""What a set covers of the real images and how diverse it is: of the whole, of each class, and the mean of classes.

    coverage, density (Naeem et al. 2020), precision, recall (Kynkaanniemi et al. 2019), with k neighbours
    vendi, vendi_2     Vendi score of order 1 and 2, cosine kernel (Friedman and Dieng 2023)
    cosine             mean cosine of the pairs of different images

A number of these alone says nothing: k, the numbers of images and the features go with it. Cost: n^2 D operations
for the radii of n real rows and 2 n m D for m distilled ones; a few tiles and n + m numbers of memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fastdd_kernels import coverage, density, intra_class_cosine, prdc, precision, vendi_score

from ..errors import InputError

NAMES = ("coverage", "density", "precision", "recall", "vendi", "vendi_2", "cosine")


@dataclass(frozen=True)
class Scores:
    """Of a set or a class; None where a value is not defined.

    Attributes:
        real, synthetic: numbers of images.
        missing: why values are None.
    """

    real: int
    synthetic: int
    coverage: float | None = None
    density: float | None = None
    precision: float | None = None
    recall: float | None = None
    vendi: float | None = None
    vendi_2: float | None = None
    cosine: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What measure found.

    Attributes:
        k: neighbours.
        dimension: of the features.
        whole: all classes together; its cosine is of all pairs, of other classes too.
        by_class: one entry a class of the real set.
    """

    k: int
    dimension: int
    whole: Scores
    by_class: tuple[Scores, ...]

    def values(self, name: str) -> list[float]:
        """One of NAMES, of the classes where it is defined."""
        return [value for scores in self.by_class if (value := getattr(scores, name)) is not None]

    def mean(self, name: str) -> float | None:
        """Mean over the classes where it is defined; None where it is so for none."""
        values = self.values(name)
        return sum(values) / len(values) if values else None

    def as_plain(self) -> dict[str, Any]:
        """Ready for JSON: k, dimension, whole, mean (over the classes counted in ``classes``) and by_class."""
        return {
            "k": self.k,
            "dimension": self.dimension,
            "whole": asdict(self.whole),
            "mean": {name: self.mean(name) for name in NAMES},
            "classes": {name: len(self.values(name)) for name in NAMES},
            "by_class": [asdict(scores) for scores in self.by_class],
        }


@torch.no_grad()
def measure(
    real: Tensor,
    real_labels: Tensor,
    synthetic: Tensor,
    labels: Tensor,
    k: int = 5,
    *,
    real_radii: Tensor | None = None,
) -> Measured:
    """Measure a distilled set against real images.

    Args:
        real: features [n, D] of real images, any real float dtype.
        real_labels: int64 [n].
        synthetic: features [m, D] of distilled images.
        labels: int64 [m], classes of the real set.
        k: neighbours that set the radius of a ball.
        real_radii: ``knn_radii(real, k)`` if already known.

    Raises:
        InputError: shapes or labels that do not fit, features that are not finite, no distilled image, or k of the
            number of real images or more. A class with too few images is no error, see Scores.missing.
    """
    real, synthetic = (
        x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (real, synthetic)
    )
    _check(real, real_labels, synthetic, labels, k)
    whole = _scores(real, synthetic, k, real_radii)
    classes = range(int(real_labels.max()) + 1)
    by_class = tuple(_scores(real[real_labels == c], synthetic[labels == c], k, None) for c in classes)
    return Measured(k, real.shape[1], whole, by_class)


def _scores(real: Tensor, synthetic: Tensor, k: int, radii: Tensor | None) -> Scores:
    n, m = len(real), len(synthetic)
    if m == 0:
        return Scores(n, m, missing=("no distilled images",))
    missing = []
    values: dict[str, Tensor] = {"vendi": vendi_score(synthetic), "vendi_2": vendi_score(synthetic, 2)}
    if n <= k:
        missing.append(
            f"coverage, density, precision and recall with k = {k} need {k + 1} real images, there are {n}"
        )
    elif m <= k:
        missing.append(f"recall with k = {k} needs {k + 1} distilled images, there are {m}")
        for name, function in (("coverage", coverage), ("density", density), ("precision", precision)):
            values[name] = function(real, synthetic, k, real_radii=radii)
    else:
        values |= prdc(real, synthetic, k, real_radii=radii)._asdict()
    if m > 1:
        values["cosine"] = intra_class_cosine(synthetic)
    else:
        missing.append("a cosine needs 2 distilled images, there is 1")
    return Scores(n, m, **{name: float(value) for name, value in values.items()}, missing=tuple(missing))


def _check(real: Tensor, real_labels: Tensor, synthetic: Tensor, labels: Tensor, k: int) -> None:
    for name, x, truth in (("real", real, real_labels), ("synthetic", synthetic, labels)):
        if x.ndim != 2 or truth.shape != x.shape[:1] or not len(x):
            shapes = f"got {list(x.shape)} and {list(truth.shape)}"
            raise InputError(f"{name} features must be [N, D] with labels [N] and N > 0, {shapes}")
        if not torch.stack(x.aminmax()).isfinite().all():
            raise InputError(
                f"{name} features hold NaN or infinite values; check the network and its weights"
            )
    if real.shape[1] != synthetic.shape[1]:
        raise InputError(
            f"real features are {real.shape[1]} wide, distilled ones {synthetic.shape[1]}; use one network"
        )
    if not 1 <= k < len(real):
        raise InputError(f"k is {k}, expected at least 1 and less than the {len(real)} real images")
    last = int(real_labels.max())
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > last:
        raise InputError(f"label {low if low < 0 else high} is none of the real set's classes 0 to {last}")


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
