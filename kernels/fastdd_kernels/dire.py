"""DiRe, the diversity regularizer (arXiv 2512.13083): three terms on the embeddings of a class.

With S the n synthetic and R the m real embeddings of one class, for each of G classes at once,

    CD   cosine diversity                 alikeness of the synthetic rows among themselves
    CDM  cosine distribution matching     1 - alikeness of synthetic and real rows
    EDM  Euclidean distribution matching  distance of synthetic and real rows
    L = sum_classes r_cd CD + r_cdm CDM + r_edm EDM

Algorithm 1, line 7, has one weight r_c for CD and CDM; the ablation (Table 14) takes them apart.

The paper's equations and the authors' released code are different functions; both are here:

    reading   CD                     CDM                      EDM
    "clean"   mean_{i != j} cos      1 - mean_ij cos          mean_ij d
    "paper"   sum_ij cos  (eq. 3)    1 - sum_ij cos  (eq. 4)  sum_ij d  (eq. 5)
    "code"    mean_ij |cos|          mean_ij (1 - cos)        mean_ij d

where "code" counts every pair (i, i) as cos = 0 and d = 0, of the real matrices too, while its
means still divide by n^2 and n m. "clean" is what the text describes.

Cost: cosines are sums of unit rows, (n + m) D, or n D with the real side prepared (its sum is a
constant); distances are two thin matrix products, 4 n m D, gradient included. ``RealEmbeddings``
holds everything that does not change over the iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .cosine import cosine_sum, to_float, unit_rows
from .distance import shared_center
from .pairs import pair_sums
from .product import Precision, check_precision

Reading = Literal["clean", "code", "paper"]


class DireTerms(NamedTuple):
    """The three terms, each [G]."""

    cd: Tensor
    cdm: Tensor
    edm: Tensor


# -- reference -------------------------------------------------------------------------------------


def dire_terms_reference(synthetic: Tensor, real: Tensor, reading: Reading = "clean") -> DireTerms:
    """The definition for one class, [n, D] and [m, D], every pair written out; no zero or equal rows."""
    n, m = synthetic.shape[0], real.shape[0]
    u, v = (rows / rows.norm(dim=1, keepdim=True) for rows in (synthetic, real))
    within, across = u @ u.mT, u @ v.mT
    distance = (synthetic[:, None] - real[None]).square().sum(-1).sqrt()
    off_within, off_across = (1 - torch.eye(n, k, dtype=u.dtype) for k in (n, m))
    if reading == "paper":
        return DireTerms(within.sum(), 1 - across.sum(), distance.sum())
    if reading == "clean":
        pairs = max(n * (n - 1), 1)
        return DireTerms((within * off_within).sum() / pairs, 1 - across.mean(), distance.mean())
    cdm = (1 - across * off_across).abs().mean()
    return DireTerms((within * off_within).abs().mean(), cdm, (distance * off_across).mean())


# -- the side that does not change -----------------------------------------------------------------


@dataclass(frozen=True)
class RealEmbeddings:
    """Real embeddings of G classes of up to M rows, and all that can be computed from them alone.

    Build it once with ``prepare``; all fields are constants to autograd.

    Attributes:
        centered: rows minus the center of their class, [G, M, D]; padding rows are 0.
        square: squared norms of those, [G, M].
        center: mean row, [G, 1, D].
        unit_sum: sum of the rows divided by their norms, [G, D].
        count: rows of each class, [G], int64.
        weight: [G, M], 1 for a row and 0 for padding; None if the classes are equally large.
    """

    centered: Tensor
    square: Tensor
    center: Tensor
    unit_sum: Tensor
    count: Tensor
    weight: Tensor | None = None

    @staticmethod
    def prepare(real: Tensor | Sequence[Tensor], padded_to: int | None = None) -> RealEmbeddings:
        """From [G, m, D], or from a sequence of G matrices [m_g, D] of any sizes; m, m_g >= 1.

        Matrices are padded to the longest one, or to ``padded_to`` rows, which gives classes of any size the
        same shapes.

        Raises:
            ValueError: wrong shapes, or a class without rows.
            TypeError: an input is not floating point.
        """
        if isinstance(real, Tensor):
            if real.ndim != 3 or real.shape[1] == 0:
                raise ValueError(f"real must be [G, m, D] with m > 0, got {tuple(real.shape)}")
            (rows,) = to_float(real.detach())
            sizes, weight = [rows.shape[1]] * rows.shape[0], None
        else:
            sizes = [len(part) for part in real]
            if not sizes or any(part.ndim != 2 for part in real) or 0 in sizes:
                shapes = [tuple(part.shape) for part in real]
                raise ValueError(f"real must be matrices [m, D] with m > 0, one a class, got {shapes}")
            parts = list(to_float(*(part.detach() for part in real)))
            length = max(*sizes, padded_to or 0)
            padding = parts[0].new_zeros(length, parts[0].shape[1])
            rows = pad_sequence([*parts, padding], batch_first=True)[:-1]
            weight = None
            if min(sizes) < length:
                weight = (torch.arange(length) < torch.tensor(sizes)[:, None]).to(rows)
        center = shared_center(rows, weight)
        centered = rows - center if weight is None else (rows - center) * weight.unsqueeze(2)
        count = torch.tensor(sizes, device=rows.device)
        # A padding row is zero, and so adds nothing to the sum of unit rows.
        return RealEmbeddings(
            centered=centered,
            square=centered.square().sum(2),
            center=center,
            unit_sum=unit_rows(rows).sum(1),
            count=count,
            weight=weight,
        )

    def __len__(self) -> int:
        return self.centered.shape[0]

    def select(self, groups: Tensor | Sequence[int] | slice) -> RealEmbeddings:
        """Some of the classes, by index; a slice shares memory, anything else copies."""
        if not isinstance(groups, slice):
            groups = torch.as_tensor(groups, device=self.centered.device)
        weight = None if self.weight is None else self.weight[groups]
        return RealEmbeddings(
            centered=self.centered[groups],
            square=self.square[groups],
            center=self.center[groups],
            unit_sum=self.unit_sum[groups],
            count=self.count[groups],
            weight=weight,
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> RealEmbeddings:
        """On another device, or in another precision; itself where nothing changes.

        Raises:
            TypeError: dtype is neither float32 nor float64; the terms would cast it back each time.
        """
        if dtype not in (torch.float32, torch.float64, None):
            raise TypeError(f"real embeddings are kept in float32 or float64, got {dtype}")
        dtype = dtype or self.centered.dtype
        return RealEmbeddings(
            centered=self.centered.to(device, dtype),
            square=self.square.to(device, dtype),
            center=self.center.to(device, dtype),
            unit_sum=self.unit_sum.to(device, dtype),
            count=self.count.to(device),
            weight=None if self.weight is None else self.weight.to(device, dtype),
        )

    def first_units(self, n: int) -> Tensor:
        """Unit vectors of the first n rows of each class, [G, min(n, M), D]; padding stays 0."""
        rows = self.centered[:, :n] + self.center
        return unit_rows(rows if self.weight is None else rows * self.weight[:, :n].unsqueeze(2))


# -- terms -----------------------------------------------------------------------------------------


def _check(synthetic: Tensor, real: RealEmbeddings, reading: str, precision: Precision) -> None:
    if reading not in get_args(Reading):
        raise ValueError(f"reading must be one of {get_args(Reading)}, got {reading!r}")
    check_precision(precision)
    wanted = (len(real), real.centered.shape[2])
    if synthetic.ndim != 3 or (synthetic.shape[0], synthetic.shape[2]) != wanted:
        got = tuple(synthetic.shape)
        raise ValueError(f"synthetic must be [{wanted[0]}, n, {wanted[1]}] to match the real side, got {got}")
    if synthetic.shape[1] == 0:
        raise ValueError(f"every class needs at least one synthetic row, got {tuple(synthetic.shape)}")


def _cosine_diversity(synthetic: Tensor, reading: Reading) -> Tensor:
    n = synthetic.shape[1]
    if reading == "paper":
        return cosine_sum(synthetic)
    if n == 1:  # no other row to be like
        return synthetic.new_zeros(synthetic.shape[0])
    if reading == "clean":
        return cosine_sum(synthetic, exclude_diagonal=True) / (n * (n - 1))
    return cosine_sum(synthetic, absolute=True, exclude_diagonal=True) / n**2


def dire_terms(
    synthetic: Tensor,
    real: Tensor | RealEmbeddings,
    reading: Reading = "clean",
    precision: Precision = "high",
) -> DireTerms:
    """CD, CDM and EDM of each class (see the table at the top of the file).

    Gradients go to the synthetic side only, finite for equal and for zero rows.

    Args:
        synthetic: [G, n, D], any real float dtype.
        real: [G, m, D], or ``RealEmbeddings`` of G classes: prepare them once when iterating.
        reading: "clean", "paper" or "code".
        precision: precision of the distances, "high" or "fast"; see ``distance_sum``.

    Returns:
        Three [G] tensors; float64 if an input is, float32 otherwise. CD of a single row is 0 in
        the "clean" and "code" readings.

    Raises:
        ValueError: shapes do not fit, a class is empty, or reading or precision is unknown.
        TypeError: an input is not floating point.
    """
    if isinstance(real, Tensor):
        real = RealEmbeddings.prepare(real)
    _check(synthetic, real, reading, precision)
    synthetic, _ = to_float(synthetic, real.centered[:0])
    real = real.to(dtype=synthetic.dtype)
    units = unit_rows(synthetic)
    cosine = (units.sum(1) * real.unit_sum).sum(1)
    drop_diagonal = reading == "code"
    if drop_diagonal:
        first = real.first_units(synthetic.shape[1])
        cosine = cosine - (units[:, : first.shape[1]] * first).sum((1, 2))
    distance = pair_sums(
        synthetic - real.center,
        real.centered,
        real.square,
        real.weight,
        exclude_diagonal=drop_diagonal,
        precision=precision,
    ).sum(1)
    pairs = synthetic.shape[1] * real.count if reading != "paper" else 1
    return DireTerms(_cosine_diversity(synthetic, reading), 1 - cosine / pairs, distance / pairs)


def dire_loss(
    synthetic: Tensor,
    real: Tensor | RealEmbeddings,
    *,
    r_cd: float = 0.1,
    r_cdm: float = 0.1,
    r_edm: float = 0.001,
    reading: Reading = "clean",
    precision: Precision = "high",
) -> Tensor:
    """Sum over the classes of r_cd CD + r_cdm CDM + r_edm EDM, a scalar (DiRe, Algorithm 1, line 7).

    A sum, not a mean: it does not depend on how classes are split over batches. The default
    weights are the effective ones of the released code (its 1 and 0.01 times its multiplier 0.1).
    Arguments and errors as for ``dire_terms``.
    """
    cd, cdm, edm = dire_terms(synthetic, real, reading, precision)
    return (r_cd * cd + r_cdm * cdm + r_edm * edm).sum()


def diversity_loss(
    embeddings: Tensor,
    real: Tensor | Sequence[Tensor] | RealEmbeddings,
    images_per_class: int,
    start_class: int = 0,
    multiplier: float = 0.1,
    r_cos: float = 1.0,
    r_euc: float = 0.01,
) -> Tensor:
    """The loss of the released code, called the way it calls it: "code" reading, one flat batch.

    Args:
        embeddings: [G * images_per_class, D], class after class, starting at start_class.
        real: embeddings of all classes, in class order: [C, m, D], matrices [m_c, D], or prepared.
        images_per_class: rows of one class in the batch.
        start_class: class of the first row.
        multiplier, r_cos, r_euc: weights by the names that the released script gives them, with its
            defaults; r_cos weighs CD and CDM, r_euc EDM.

    Raises:
        ValueError: the batch is not a whole number of classes, or real has too few of them.
    """
    if images_per_class < 1 or embeddings.ndim != 2 or embeddings.shape[0] % images_per_class:
        shape = tuple(embeddings.shape)
        raise ValueError(f"embeddings must be [G * {images_per_class}, D], whole classes, got {shape}")
    stop = start_class + embeddings.shape[0] // images_per_class
    if start_class < 0 or stop > len(real):
        raise ValueError(f"classes {start_class} to {stop - 1} are asked for, real has {len(real)}")
    classes = slice(start_class, stop)
    bank = real.select(classes) if isinstance(real, RealEmbeddings) else RealEmbeddings.prepare(real[classes])
    synthetic = embeddings.unflatten(0, (-1, images_per_class))
    cosine, euclidean = multiplier * r_cos, multiplier * r_euc
    return dire_loss(synthetic, bank, r_cd=cosine, r_cdm=cosine, r_edm=euclidean, reading="code")
