"""Distance between the statistics of a batch and those a BatchNorm layer remembers: SRe2L's loss.

    || running_var - var(x) ||_2 + || running_mean - mean(x) ||_2

Mean and variance over (images, H, W) are plain algebra on the [N, C] moments of ``moments.py``: of the whole
batch (SRe2L), or of groups of images with targets of their own (LPLD). The statistics of all layers of a
network are one row of D numbers, so beside the moments a step costs three reductions a layer, and some thirty
operations on [groups, D] for all of them. For a GPU, where each reduction is a launch, the moments can be
written side by side and reduced together, and the norms be one product with the layers' columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .autograd import Context
from .moments import check_activation, check_channels, spatial_moments
from .product import matmul, root

Moments = tuple[Tensor, Tensor]
"""mean and mean square about a shift of each image, each [N, C]"""

# -- reference -------------------------------------------------------------------------------------


def batch_norm_loss_reference(
    x: Tensor, running_mean: Tensor, running_var: Tensor, groups: int = 1
) -> Tensor:
    """The definition: mean and biased variance of each group of images, then two plain norms."""
    grouped = x.unflatten(0, (groups, -1))
    variance, mean = torch.var_mean(grouped, (1, 3, 4), correction=0)
    return (running_var - variance).norm(dim=1) + (running_mean - mean).norm(dim=1)


# -- checks ----------------------------------------------------------------------------------------


def _check_groups(count: int, groups: int) -> None:
    if groups < 1 or count < groups or count % groups:
        raise ValueError(f"groups must divide the {count} images into equal non-empty parts, got {groups}")


def _check_moments(mean: Tensor, mean_square: Tensor, groups: int) -> None:
    if mean.ndim != 2 or mean.shape != mean_square.shape:
        raise ValueError(
            f"mean and mean_square must both be [N, C], got {tuple(mean.shape)} and "
            f"{tuple(mean_square.shape)}"
        )
    _check_groups(mean.shape[0], groups)


def _check_targets(running_mean: Tensor, running_var: Tensor, channels: int, groups: int) -> None:
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value.shape not in ((channels,), (groups, channels)):
            raise ValueError(
                f"{name} must be [{channels}] or, one row a group, [{groups}, {channels}]; got "
                f"{tuple(value.shape)}"
            )


# -- all layers in one row -------------------------------------------------------------------------


def _sums(layers: Sequence[Tensor], groups: int, at_once: bool) -> Tensor:
    """Sums over the images of each group, [groups, D], of layers [N, C] side by side."""
    if at_once:
        return torch.cat(list(layers), dim=1).unflatten(0, (groups, -1)).sum(1)
    return torch.cat([rows.unflatten(0, (groups, -1)).sum(1) for rows in layers], dim=1)


class _Sums(torch.autograd.Function):
    """``_sums`` with a gradient that is written once for all layers, and for one group not at all."""

    @staticmethod
    def forward(*inputs: Tensor | int) -> Tensor:
        return _sums(_layers(inputs), int(inputs[-2]), bool(inputs[-1]))

    @staticmethod
    def setup_context(
        ctx: Context[tuple[int, list[int]]], inputs: tuple[Tensor | int, ...], output: Tensor
    ) -> None:
        layers = _layers(inputs)
        ctx.options = layers[0].shape[0] // int(inputs[-2]), [rows.shape[1] for rows in layers]

    @staticmethod
    def backward(ctx: Context[tuple[int, list[int]]], grad: Tensor) -> tuple[Tensor | None, ...]:
        images, widths = ctx.options
        return *grad.unsqueeze(1).expand(-1, images, -1).flatten(0, 1).split(widths, dim=1), None, None


def _layers(inputs: Sequence[Tensor | int]) -> list[Tensor]:
    """The layers among the arguments of ``_Sums``; behind them come the other two of ``_sums``."""
    return [rows for rows in inputs[:-2] if isinstance(rows, Tensor)]


def _statistics(
    moments: Sequence[Moments], shift: Tensor | None, groups: int, at_once: bool = False
) -> tuple[Tensor, Tensor]:
    """Mean and variance of each group, [groups, D], of layers with D channels together; shift is [D]."""
    images = moments[0][0].shape[0] // groups
    layers = ([mean for mean, _ in moments], [square for _, square in moments])
    if torch.compiler.is_compiling():
        mean, mean_square = (_sums(rows, groups, at_once) / images for rows in layers)
    else:
        mean, mean_square = (_Sums.apply(*rows, groups, at_once) / images for rows in layers)
    offset = mean if shift is None else mean - shift
    return mean, mean_square - offset.square()


def _norms(rows: Tensor, widths: Sequence[int], columns: Tensor | None) -> Tensor:
    """Euclidean norm of each layer's part of rows [..., D], [layers, ...]; see ``layer_columns``."""
    if columns is None:
        return root(torch.stack([part.sum(-1) for part in rows.square().split(list(widths), dim=-1)]))
    sums = matmul(rows.square().flatten(0, -2), columns.to(rows.dtype))
    return root(sums.mT.unflatten(1, rows.shape[:-1]))


# -- public functions ------------------------------------------------------------------------------


def layer_columns(widths: Sequence[int]) -> Tensor:
    """Which layer each channel of a row belongs to, float32 [D, layers]: 1 where it does, else 0.

    Args:
        widths: the number of channels of each layer; D is their sum.
    """
    return torch.block_diag(*(torch.ones(width, 1) for width in widths))


def batch_moments(
    mean: Tensor, mean_square: Tensor, shift: Tensor | None = None, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over (images, H, W), for each group of consecutive images.

    Args:
        mean, mean_square: [N, C] from :func:`spatial_moments`.
        shift: the [C] constant that was given to :func:`spatial_moments`; none if none was.
        groups: number of equal parts of consecutive images that N is cut into.

    Returns:
        ``(mean, variance)``, each [groups, C]. The variance is ``mean_square - (mean - shift)^2``
        unclamped, since a clamp would cut the gradient: it is as exact as the shift is near the
        mean, and rounding may leave a constant channel a hair below zero.

    Raises:
        ValueError: shapes do not fit, or groups does not divide N.
    """
    _check_moments(mean, mean_square, groups)
    check_channels("shift", shift, mean.shape[1])
    return _statistics([(mean, mean_square)], shift, groups)


def batch_norm_losses(
    moments: Sequence[Moments],
    running_mean: Tensor,
    running_var: Tensor,
    shift: Tensor,
    groups: int = 1,
    variance_weight: float = 1.0,
    columns: Tensor | None = None,
) -> Tensor:
    """:func:`batch_norm_loss` of each of several layers, whose channels stand side by side in one row.

    Args:
        moments: (mean, mean_square) of each layer, [N, C] each, from :func:`frozen_batch_norm`.
        running_mean, running_var: targets of all layers, [D], or [groups, D] for targets of each group's own;
            D is the sum of the layers' channels.
        shift: the constants of the moments of all layers, [D].
        groups: number of equal parts of consecutive images that N is cut into.
        variance_weight: factor on the norm of the variances (DWA uses 11).
        columns: [D, layers] from :func:`layer_columns`, where launches are dear: all layers are then added up
            in the same few, in another order.

    Returns:
        [layers, groups].

    Raises:
        ValueError: shapes do not fit, groups does not divide N, or there is no layer.
    """
    if not moments:
        raise ValueError("the losses of no layers were asked for; give the moments of one at least")
    for mean, mean_square in moments:
        _check_moments(mean, mean_square, groups)
    widths = [mean.shape[1] for mean, _ in moments]
    _check_targets(running_mean, running_var, sum(widths), groups)
    check_channels("shift", shift, sum(widths))
    batch_mean, batch_var = _statistics(moments, shift, groups, at_once=columns is not None)
    norms = _norms(torch.stack((running_var - batch_var, running_mean - batch_mean)), widths, columns)
    return variance_weight * norms[:, 0] + norms[:, 1]


def batch_norm_loss_from_moments(
    mean: Tensor,
    mean_square: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    groups: int = 1,
    shift: Tensor | None = None,
    variance_weight: float = 1.0,
) -> Tensor:
    """:func:`batch_norm_loss` for a layer whose spatial moments are known already.

    Args:
        mean, mean_square: [N, C] from :func:`spatial_moments` or :func:`frozen_batch_norm`.
        running_mean, running_var: targets, [C], or [groups, C] for a target of each group's own.
        groups: number of equal parts of consecutive images that N is cut into.
        shift: the [C] constant of the moments; running_mean if not given. Class-wise targets
            have no single running mean, so with them it must be given.
        variance_weight: factor on the norm of the variances (DWA uses 11).

    Returns:
        [groups], one loss a group.

    Raises:
        ValueError: shapes do not fit, groups does not divide N, or shift is missing.
    """
    if shift is None and running_mean.ndim != 1:
        raise ValueError(
            f"running_mean is {tuple(running_mean.shape)}, a row a group: "
            "give the shift [C] that the moments were taken with"
        )
    return batch_norm_losses(
        [(mean, mean_square)],
        running_mean,
        running_var,
        running_mean if shift is None else shift,
        groups=groups,
        variance_weight=variance_weight,
    )[0]


def batch_norm_loss(x: Tensor, running_mean: Tensor, running_var: Tensor, groups: int = 1) -> Tensor:
    """Distance between the batch statistics of a layer's input and its running statistics (SRe2L).

        || running_var - var(x) ||_2 + || running_mean - mean(x) ||_2

    Mean and biased variance are over (images, H, W). The norms are not squared and not divided
    by the channels; where a difference is exactly zero its gradient is 0.

    Args:
        x: input of a BatchNorm layer [N, C, H, W], any float dtype.
        running_mean, running_var: that layer's buffers [C], or class-wise targets [groups, C].
        groups: number of equal parts of consecutive images, each with statistics of its own.

    Returns:
        [groups], float32 (float64 for float64 x). Sum over layers is left to the caller, as
        methods weigh the first one differently.

    Raises:
        ValueError: shapes do not fit or groups does not divide N.
    """
    check_activation(x)
    _check_targets(running_mean, running_var, x.shape[1], groups)
    shift = running_mean if running_mean.ndim == 1 else running_mean.mean(0)
    moments = spatial_moments(x, shift)
    return batch_norm_loss_from_moments(*moments, running_mean, running_var, groups=groups, shift=shift)
