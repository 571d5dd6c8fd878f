"""How much of the real images a set covers, and how diverse it is, as a whole and class by class.

    coverage, density (Naeem et al. 2020), precision, recall (Kynkaanniemi et al. 2019), with k neighbours
    vendi, vendi_2     Vendi score of order 1 and 2, cosine kernel (Friedman and Dieng 2023)
    cosine             mean cosine of the pairs of different images

Such a number says nothing without k, the numbers of images and the features. Cost: n^2 D operations for the
radii of n real rows and 2 n m D for m distilled ones; memory for a few tiles and n + m numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from fastdd_kernels import coverage, density, intra_class_cosine, prdc, precision, vendi_score

from ..errors import InputError

NAMES = ("coverage", "density", "precision", "recall", "vendi", "vendi_2", "cosine")


@dataclass(frozen=True)
class Scores:
    """Scores of a set or of one class; None where a score is not defined.

    Attributes:
        real, synthetic: numbers of real and of distilled images.
        coverage, density, precision, recall, vendi, vendi_2, cosine: as above.
        missing: why scores are None.
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
class SetScores:
    """Scores of a set as a whole and class by class.

    Attributes:
        k: number of neighbours that set the radius of a ball.
        whole: scores of all classes together; its cosine is over all pairs, of different classes too.
        by_class: scores of each class of the real set.
    """

    k: int
    dimension: int
    whole: Scores
    by_class: tuple[Scores, ...]

    def values(self, name: str) -> list[float]:
        """One score (of NAMES) of every class where it is defined."""
        return [value for scores in self.by_class if (value := getattr(scores, name)) is not None]

    def mean(self, name: str) -> float | None:
        """Mean of one score over the classes where it is defined; None: it is defined for none."""
        values = self.values(name)
        return sum(values) / len(values) if values else None

    def content(self) -> dict[str, JsonValue]:
        """The content of a JSON file; ``mean`` is over the classes that ``classes`` counts."""
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
) -> SetScores:
    """Measure a distilled set against real images.

    Args:
        real: features [n, D] of real images, any floating-point dtype.
        real_labels: int64 [n].
        synthetic: features [m, D] of distilled images.
        labels: int64 [m], classes of the real set.
        k: number of neighbours that set the radius of a ball.
        real_radii: ``knn_radii(real, k)`` if already known.

    Raises:
        InputError: shapes or labels do not fit, features are not finite, there is no distilled image, or k is
            not less than the number of real images. A class with too few images is no error; see
            Scores.missing.
    """
    real, synthetic = (
        x.float() if x.dtype in (torch.float16, torch.bfloat16) else x for x in (real, synthetic)
    )
    _check(real, real_labels, synthetic, labels, k=k)
    whole = _scores(real, synthetic, k, real_radii)
    classes = int(real_labels.max()) + 1
    own = zip(rows_of_classes(real_labels, classes), rows_of_classes(labels, classes), strict=True)
    by_class = tuple(_scores(real[rows], synthetic[made], k, None) for rows, made in own)
    return SetScores(k, real.shape[1], whole, by_class)


def rows_of_classes(labels: Tensor, classes: int) -> tuple[Tensor, ...]:
    """The rows of each class, int64, ascending; one sort, where a look at all labels for each class would
    take as many times longer as there are classes.

    Args:
        labels: int64 [n], 0 to classes - 1.
    """
    return labels.argsort(stable=True).split(labels.bincount(minlength=classes).tolist())


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


def _check(real: Tensor, real_labels: Tensor, synthetic: Tensor, labels: Tensor, *, k: int) -> None:
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
    """The diversity that a run reports of a set.

    Attributes:
        coverage: coverage of the real images by the whole set.
        vendi: mean of the classes' Vendi scores.
        cosine: mean of the classes' mean cosines.
        vendi_by_class: Vendi score of each class.
        cosine_by_class: mean cosine of each class; 1 for a class of one image, where it is not defined.
    """

    coverage: float
    vendi: float
    cosine: float
    vendi_by_class: list[float]
    cosine_by_class: list[float]


def diversity(real: Tensor, radii: Tensor, synthetic: Tensor, labels: Tensor, k: int) -> Diversity:
    """The diversity of a distilled set.

    Args:
        real: embeddings [N, D] of real images.
        radii: ``knn_radii(real, k)``, which depend on the real images alone.
        synthetic: embeddings [n, D] of distilled images.
        labels: int64 [n].
        k: number of neighbours that set the radius of a ball.
    """
    each = rows_of_classes(labels, int(labels.max()) + 1)
    by_class = [synthetic[rows] for rows in each if len(rows)]
    vendi = [float(vendi_score(rows)) for rows in by_class]
    cosine = [float(intra_class_cosine(rows)) if len(rows) > 1 else 1.0 for rows in by_class]
    return Diversity(
        coverage=float(coverage(real, synthetic, k, real_radii=radii)),
        vendi=sum(vendi) / len(vendi),
        cosine=sum(cosine) / len(cosine),
        vendi_by_class=vendi,
        cosine_by_class=cosine,
    )
