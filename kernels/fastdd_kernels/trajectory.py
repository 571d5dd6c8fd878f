"""Trajectory matching in constant memory: how a student's last weights depend on the images it learned from.

    w_0 = w*_t,   w_{i+1} = w_i - a g_i,   g_i = grad_w loss(w_i; b_i)          N steps on batches b_i
    L = || w_N - w*_{t+M} ||^2 / D,        D = || w*_t - w*_{t+M} ||^2       MTT (Cazenavette et al., 2022)

Unrolling keeps the graphs of all N steps. The adjoint keeps the N weight vectors alone, and goes back through
them:

    l_N = 2 (w_N - w*_{t+M}) / D                      l_i = l_{i+1} - a H_i l_{i+1}
    dL/db_i = -a (d g_i / d b_i)^T l_{i+1}            dL/da = - sum_i g_i . l_{i+1}

with H_i the Hessian of the i-th loss. The result is that of unrolling; only one step's graph lives at a time.
TESLA (Cui et al., ICML 2023) holds l_i = l_N instead: it drops the paths by which an image moves later
weights.

Cost: 4/3 of unrolling's time, for each step's first forward is done twice; memory is one differentiable step
and N P numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .matching import trajectory_distance

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(weights [P], images, labels) -> scalar; twice differentiable in the first two"""
Batch = tuple[Tensor, Tensor]
"""(images, labels) of one step"""


class TrajectoryMatch(NamedTuple):
    """The loss of one trajectory, and its gradients."""

    distance: Tensor
    """scalar, L"""
    images: list[Tensor]
    """dL / d images of each step"""
    lr: Tensor
    """scalar, dL / d lr"""


# -- reference -------------------------------------------------------------------------------------


def trajectory_match_reference(
    loss: Loss, start: Tensor, target: Tensor, batches: Sequence[Batch], lr: Tensor
) -> TrajectoryMatch:
    """The definition: all steps unrolled into one graph."""
    lr = lr.detach().requires_grad_()
    images = [x.detach().requires_grad_() for x, _ in batches]
    weights = start.detach().requires_grad_()
    for x, (_, labels) in zip(images, batches, strict=True):
        (gradient,) = torch.autograd.grad(loss(weights, x, labels), weights, create_graph=True)
        weights = weights - lr * gradient
    distance = trajectory_distance(weights, target, start)
    *of_images, of_lr = torch.autograd.grad(distance, [*images, lr])
    return TrajectoryMatch(distance.detach(), of_images, of_lr)


# -- public function -------------------------------------------------------------------------------


def trajectory_match(
    loss: Loss,
    start: Tensor,
    target: Tensor,
    batches: Sequence[Batch],
    lr: Tensor,
    through_weights: bool = True,
) -> TrajectoryMatch:
    """Distance of a student from an expert's later weights, and its gradient by images and learning rate.

    Args:
        loss: gives the loss of a student's weights on a batch, such as a mean cross-entropy.
        start: [P], floating point: the expert's weights where the student begins.
        target: [P]: the expert's weights some epochs later.
        batches: images (floating point) and labels of each step, in order. A batch that is made of the
            distilled images by augmentation passes its gradient on by ``images.backward(gradient)``.
        lr: scalar tensor, the learning rate of the steps.
        through_weights: also through the weights of later steps, which is MTT; False is TESLA.

    Returns:
        The distance (see :func:`trajectory_distance`) and its gradients, detached, in the dtypes of what they
        belong to.

    Raises:
        ValueError: shapes do not fit, or there is no batch.
    """
    if start.ndim != 1 or start.shape != target.shape:
        raise ValueError(
            f"start and target must both be [P], got {tuple(start.shape)}, {tuple(target.shape)}"
        )
    if lr.ndim or not batches:
        raise ValueError(
            f"expected a scalar lr and some batches, got {tuple(lr.shape)} and {len(batches)} batches"
        )
    weights, rate = start.detach(), lr.detach()
    passed = []
    for images, labels in batches:
        weights.requires_grad_()
        passed.append(weights)
        (gradient,) = torch.autograd.grad(loss(weights, images.detach(), labels), weights)
        weights = weights.detach() - rate * gradient
    distance = trajectory_distance(weights, target.detach(), start.detach())
    adjoint = 2 * (weights - target.detach()) / (start - target).detach().square().sum()
    of_lr, of_images = torch.zeros_like(rate), []
    for step, weights in reversed(list(enumerate(passed))):
        images, labels = batches[step]
        x = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(weights, x, labels), weights, create_graph=True)
        of_lr -= (gradient.detach() * adjoint).sum()
        moved = through_weights and step > 0  # the weights that the first step finds are given
        wanted = (x, weights) if moved else (x,)
        of_x, *hessian = torch.autograd.grad(gradient, wanted, adjoint, materialize_grads=True)
        of_images.append(-rate * of_x)
        if moved:
            adjoint = adjoint - rate * hessian[0]
    return TrajectoryMatch(distance, of_images[::-1], of_lr)
