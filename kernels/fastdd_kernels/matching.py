"""What dataset condensation matches: mean features, attention maps, gradients and weights, class by class.

    mean_distance        sum_g || mean x_g - mean y_g ||^2                    DM (Zhao and Bilen, 2023)
    attention_distance   sum_g || mean A(x_g) - mean A(y_g) ||^2              DataDAM (Sajedi et al., 2023)
                         A(f) = u / max(||u||, 1e-12),  u = sum over channels of |f|^p
    gradient_distance    rows    sum over rows of 1 - <g, h> / (||g|| ||h|| + 1e-6)
                                                                              DC, DSA (Zhao et al., 2021)
                         mse     sum of (g - h)^2                             IDC (Kim et al., 2022)
                         cosine  1 - <g, h> / (||g|| ||h|| + 1e-6) of all numbers as one vector
    trajectory_distance  || w - w* ||^2 / || w_0 - w* ||^2                    MTT (Cazenavette et al., 2022)

A row of a weight tensor is what one output channel has: [out, in, k, k] has ``out`` rows of in k k numbers, a
linear layer's [out, in] likewise; tensors of one dimension (biases, affine parameters) have none, as in the
released code of DC. A zero row of either side costs exactly 1 and has no gradient.

Only means reach the losses of features, so the real side is a [G, D] row that may be kept, and the gradient
of an image is 2 (mean x - mean y) / n, the same for all images of its class. Cost: one pass over the
features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from .product import root

Metric = Literal["rows", "mse", "cosine"]
EPSILON = 1e-6
"""What DC adds to the product of norms."""
SMALLEST = 1e-12
"""The least norm by which an attention map is divided."""

# -- references ------------------------------------------------------------------------------------


def mean_distance_reference(synthetic: Tensor, real: Tensor) -> Tensor:
    """The definition, one group after the other: [G]."""
    pairs = zip(synthetic, real, strict=True)
    return torch.stack([(x.mean(0) - y.mean(0)).square().sum() for x, y in pairs])


def attention_distance_reference(synthetic: Tensor, real: Tensor, power: float) -> Tensor:
    """The definition, one image after the other: [G]."""

    def attention(image: Tensor) -> Tensor:
        summed = image.abs().pow(power).sum(0).flatten()
        return summed / summed.norm().clamp(min=SMALLEST)

    def mean(images: Tensor) -> Tensor:
        return torch.stack([attention(image) for image in images]).mean(0)

    pairs = zip(synthetic, real, strict=True)
    return torch.stack([(mean(x) - mean(y)).square().sum() for x, y in pairs])


def gradient_distance_reference(
    synthetic: Sequence[Tensor], real: Sequence[Tensor], metric: Metric
) -> Tensor:
    """The definition, one row after the other."""
    pairs = list(zip(synthetic, real, strict=True))
    if metric == "mse":
        return torch.stack([(g - h).square().sum() for g, h in pairs]).sum()
    if metric == "cosine":
        g, h = (torch.cat([tensor.flatten() for tensor in side]) for side in (synthetic, real))
        return 1 - (g @ h) / (g.norm() * h.norm() + EPSILON)
    total = synthetic[0].new_zeros(())
    for g, h in pairs:
        if g.ndim >= 2:
            for row, other in zip(g.flatten(1), h.flatten(1), strict=True):
                total = total + 1 - (row @ other) / (row.norm() * other.norm() + EPSILON)
    return total


# -- checks ----------------------------------------------------------------------------------------


def _check_groups(synthetic: Tensor, real: Tensor, dims: int, shape: str) -> None:
    for name, x in (("synthetic", synthetic), ("real", real)):
        if x.ndim != dims or not x.is_floating_point():
            raise ValueError(f"{name} must be a floating-point {shape}, got {tuple(x.shape)} {x.dtype}")
        if not x.shape[1] and len(x):
            raise ValueError(f"{name} must hold an image a group, got none in {tuple(x.shape)}")
    if len(synthetic) != len(real) or synthetic.shape[2:] != real.shape[2:]:
        raise ValueError(
            f"synthetic and real must have the same groups and features, got {tuple(synthetic.shape)} and "
            f"{tuple(real.shape)}"
        )


def _check_pairs(synthetic: Sequence[Tensor], real: Sequence[Tensor]) -> None:
    if len(synthetic) != len(real) or not synthetic:
        raise ValueError(f"expected as many real as synthetic tensors, got {len(real)} and {len(synthetic)}")
    for number, (g, h) in enumerate(zip(synthetic, real, strict=True)):
        if g.shape != h.shape:
            raise ValueError(
                f"tensors {number} must have one shape, got {tuple(g.shape)} and {tuple(h.shape)}"
            )


# -- public functions ------------------------------------------------------------------------------


def mean_distance(synthetic: Tensor, real: Tensor) -> Tensor:
    """Squared distance of the mean features of each group (DM, equation 4).

    Args:
        synthetic: [G, n, D], floating point: n images of each of G groups, such as classes.
        real: [G, m, D]; [G, 1, D] where the means were computed before.

    Returns:
        [G], in at least float32; DM's loss is their sum. The gradient reaches both sides.

    Raises:
        ValueError: shapes do not fit, or a group holds no image.
    """
    _check_groups(synthetic, real, 3, "[G, n, D]")
    precise = torch.promote_types(synthetic.dtype, torch.float32)
    return (synthetic.mean(1, dtype=precise) - real.mean(1, dtype=precise)).square().sum(1)


def attention(maps: Tensor, power: float = 1.0) -> Tensor:
    """Attention maps of activations: channels summed as |f|^power, each image divided by its norm.

    Args:
        maps: [..., C, H, W], floating point.
        power: 1 in the released code of DataDAM, 4 in its paper.

    Returns:
        [..., H W], in at least float32; of an image without activation, zeros.
    """
    x = maps.abs().to(torch.promote_types(maps.dtype, torch.float32))
    summed = (x if power == 1 else x.pow(power)).sum(-3).flatten(-2)
    return summed / _norm(summed).clamp(min=SMALLEST)[..., None]


def attention_distance(synthetic: Tensor, real: Tensor, power: float = 1.0) -> Tensor:
    """Squared distance of the mean attention maps of each group (DataDAM, equation 3).

    Args:
        synthetic: [G, n, C, H, W], floating point: activations of n images of each of G groups.
        real: [G, m, C, H, W].
        power: exponent of the activations, 1 as released or 4 as printed.

    Returns:
        [G], in at least float32. DataDAM sums it over groups and layers and multiplies by 100.

    Raises:
        ValueError: shapes do not fit, a group holds no image, or power is not positive.
    """
    _check_groups(synthetic, real, 5, "[G, n, C, H, W]")
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    return (attention(synthetic, power).mean(1) - attention(real, power).mean(1)).square().sum(1)


def gradient_distance(
    synthetic: Sequence[Tensor], real: Sequence[Tensor], metric: Metric = "rows", matrices_only: bool = False
) -> Tensor:
    """Distance of two gradients of a network's parameters (DC, equation 9; IDC, equation 6).

    Args:
        synthetic, real: the gradient of each parameter, in one order; parameters by parameters of one shape.
        metric: see the top of the file.
        matrices_only: of tensors with two and more dimensions alone, as ``rows`` always is.

    Returns:
        A scalar, in at least float32, differentiable to every order on both sides.

    Raises:
        ValueError: the tensors do not pair, or the metric is unknown.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    _check_pairs(synthetic, real)
    precise = torch.promote_types(synthetic[0].dtype, torch.float32)
    pairs = [
        (g.to(precise), h.to(precise))
        for g, h in zip(synthetic, real, strict=True)
        if g.ndim >= 2 or not (matrices_only or metric == "rows")
    ]
    if not pairs:
        return synthetic[0].new_zeros((), dtype=precise)
    if metric == "mse":
        return torch.stack([(g - h).square().sum() for g, h in pairs]).sum()
    if metric == "cosine":
        g, h = (torch.cat([each.flatten() for each in side])[None] for side in zip(*pairs, strict=True))
        pairs = [(g, h)]
    return torch.stack([_row_distance(g.flatten(1), h.flatten(1)).sum() for g, h in pairs]).sum()


def trajectory_distance(weights: Tensor, target: Tensor, start: Tensor) -> Tensor:
    """How far a student is from an expert's later weights, as a part of the way the expert went (MTT,
    equation 2).

    Args:
        weights: [..., P], the student's after its steps.
        target: [..., P], the expert's some epochs later.
        start: [..., P], the weights from which both began.

    Returns:
        [...], in at least float32: 1 for a student that has not moved, 0 for one that has arrived.

    Raises:
        ValueError: shapes differ.
    """
    if not weights.shape == target.shape == start.shape or weights.ndim < 1:
        shapes = ", ".join(str(tuple(x.shape)) for x in (weights, target, start))
        raise ValueError(f"weights, target and start must be of one shape [..., P], got {shapes}")
    precise = torch.promote_types(weights.dtype, torch.float32)
    goal = target.to(precise)
    return (weights.to(precise) - goal).square().sum(-1) / (start.to(precise) - goal).square().sum(-1)


# -- the parts -------------------------------------------------------------------------------------


def _row_distance(g: Tensor, h: Tensor) -> Tensor:
    """1 - the cosine of each row, [rows]."""
    return 1 - (g * h).sum(1) / (_norm(g) * _norm(h) + EPSILON)


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm over the last dimension."""
    return root(x.square().sum(-1))
