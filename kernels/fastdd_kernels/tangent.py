"""The neural tangent kernel of a ReLU network of infinite width, and kernel ridge regression through it
(KIP).

    K^0 = s_w^2 x y / d + s_b^2                 Theta^0 = K^0
    K   <- s_w^2 k_1 + s_b^2                    k_1 = sqrt(K_xx K_yy) (sin phi + (pi - phi) cos phi) / 2 pi
    Theta <- K + s_w^2 Theta k_0                k_0 = (pi - phi) / 2 pi,   cos phi = K / sqrt(K_xx K_yy)

for each of the hidden layers (Jacot et al., 2018; Lee et al., 2019, NTK parametrization), with s_w^2 = 2 and
s_b = 0.1 as in the released notebook of KIP (Nguyen et al., ICLR 2021). The loss of a support set (X, y)
against targets (X_t, y_t) is

    1/2 mean (K_ts (K_ss + e tr(K_ss) / n I)^-1 y - y_t)^2

An image against itself has phi = 0, where arccos has an infinite slope: with a clamp K_ss would carry the
square root of the rounding error on its whole diagonal. The diagonal is known (k_1 = K_xx / 2, k_0 = 1/2), so
it is set apart.

Cost: one product n m d, and some operations a layer on the n x m kernels; the solution n^3 / 3. Use float64:
the condition number of K_ss reaches 1 / e.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WEIGHT_VARIANCE = 2.0
BIAS_VARIANCE = 0.01

# -- reference -------------------------------------------------------------------------------------


def relu_ntk_reference(x: Tensor, y: Tensor, depth: int) -> Tensor:
    """The definition, one pair after the other."""

    def step(k_xy: float, k_xx: float, k_yy: float) -> tuple[float, float]:
        root = math.sqrt(k_xx * k_yy)
        phi = math.acos(max(-1.0, min(1.0, k_xy / root)))
        k_1 = root * (math.sin(phi) + (math.pi - phi) * math.cos(phi)) / (2 * math.pi)
        return k_1, (math.pi - phi) / (2 * math.pi)

    kernel = x.new_empty(len(x), len(y))
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            k_xy, k_xx, k_yy = (
                float(WEIGHT_VARIANCE * (p @ q) / len(p) + BIAS_VARIANCE) for p, q in ((a, b), (a, a), (b, b))
            )
            theta = k_xy
            for _ in range(depth):
                k_1, k_0 = step(k_xy, k_xx, k_yy)
                k_xy, k_xx, k_yy = (
                    WEIGHT_VARIANCE * value + BIAS_VARIANCE for value in (k_1, k_xx / 2, k_yy / 2)
                )
                theta = k_xy + WEIGHT_VARIANCE * theta * k_0
            kernel[i, j] = theta
    return kernel


# -- public functions ------------------------------------------------------------------------------


def relu_ntk(x: Tensor, y: Tensor | None = None, depth: int = 1) -> Tensor:
    """Neural tangent kernel of a fully connected ReLU network with ``depth`` hidden layers.

    Args:
        x: [n, d], float32 or float64: flat images.
        y: [m, d]; None for x itself, whose diagonal is then exact.
        depth: number of hidden layers; 0 for a linear model.

    Returns:
        [n, m], differentiable.

    Raises:
        ValueError: shapes or types do not fit, or depth is negative.
    """
    for name, value in (("x", x), ("y", x if y is None else y)):
        if value.ndim != 2 or not value.shape[1] or value.dtype not in (torch.float32, torch.float64):
            shape = tuple(value.shape)
            raise ValueError(f"{name} must be a float32 or float64 [n, d], got {shape} {value.dtype}")
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    other = x if y is None else y
    if x.shape[1] != other.shape[1] or x.dtype != other.dtype:
        shapes = f"{tuple(x.shape)} {x.dtype} and {tuple(other.shape)} {other.dtype}"
        raise ValueError(f"x and y must have one width and type, got {shapes}")
    factor = WEIGHT_VARIANCE / x.shape[1]
    k = factor * (x @ other.mT) + BIAS_VARIANCE
    k_x = factor * x.square().sum(1) + BIAS_VARIANCE
    k_y = k_x if y is None else factor * other.square().sum(1) + BIAS_VARIANCE
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device) if y is None else None
    theta = k
    for _ in range(depth):
        k_1, k_0 = _arc_cosine(k, k_x, k_y, itself)
        k = WEIGHT_VARIANCE * k_1 + BIAS_VARIANCE
        k_x, k_y = k_x + BIAS_VARIANCE, k_y + BIAS_VARIANCE  # 2 (k / 2) + s_b^2
        theta = k + WEIGHT_VARIANCE * theta * k_0
    return theta


def kernel_ridge_loss(
    support_kernel: Tensor, target_kernel: Tensor, labels: Tensor, target_labels: Tensor, ridge: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Half the mean squared error of kernel ridge regression from a support set onto targets (KIP, equation
    7).

    Args:
        support_kernel: K_ss [n, n].
        target_kernel: K_ts [m, n].
        labels: [n, K] of the support set; may be learned too.
        target_labels: [m, K].
        ridge: of K_ss, as a part of its mean diagonal.

    Returns:
        (loss, predictions): a scalar, and [m, K].

    Raises:
        ValueError: shapes do not fit, or ridge is not positive.
    """
    n, m = len(support_kernel), len(target_kernel)
    if support_kernel.shape != (n, n) or target_kernel.shape != (m, n):
        shapes = f"{tuple(support_kernel.shape)} and {tuple(target_kernel.shape)}"
        raise ValueError(f"expected kernels [n, n] and [m, n], got {shapes}")
    if labels.ndim != 2 or len(labels) != n or target_labels.shape != (m, labels.shape[1]):
        shapes = f"{tuple(labels.shape)} and {tuple(target_labels.shape)}"
        raise ValueError(f"expected labels [{n}, K] and [{m}, K], got {shapes}")
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}")
    diagonal = ridge * support_kernel.diagonal().mean()
    itself = torch.eye(n, dtype=support_kernel.dtype, device=support_kernel.device)
    predictions = target_kernel @ torch.linalg.solve(support_kernel + diagonal * itself, labels)
    return (predictions - target_labels).square().mean() / 2, predictions


def _arc_cosine(k: Tensor, k_x: Tensor, k_y: Tensor, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    """The arc-cosine kernels of degree 1 and 0, [n, m]; ``itself`` marks pairs of an image with itself."""
    square = k_x[:, None] * k_y
    root = square.sqrt()
    cosine = k / root
    apart = cosine.abs() >= 1 if itself is None else itself | (cosine.abs() >= 1)
    # Where the slope of arccos is infinite the value is known; the other branch must not see those pairs at
    # all.
    cosine = torch.where(apart, 0.0, cosine)
    phi = cosine.arccos()
    k_1 = root * ((1 - cosine.square()).sqrt() + (math.pi - phi) * cosine) / (2 * math.pi)
    k_0 = (math.pi - phi) / (2 * math.pi)
    aligned = k > 0
    return torch.where(apart, torch.where(aligned, k / 2, 0.0), k_1), torch.where(apart, 0.5 * aligned, k_0)
