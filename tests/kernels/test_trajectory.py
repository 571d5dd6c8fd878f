"""Trajectory matching by the adjoint against unrolled autograd, and the values of the released functions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fastdd_kernels import trajectory_match
from fastdd_kernels.trajectory import Batch, trajectory_match_reference


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a n + b) over the numbers n of the entries, float64."""
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).view(shape)


def tanh_loss(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of a network 3 - 4 - 2 whose 26 weights are one vector."""
    first, bias, second, last = weights.split((12, 4, 8, 2))
    hidden = (x @ first.view(4, 3).T + bias).tanh()
    return F.cross_entropy(hidden @ second.view(2, 4).T + last, y)


START = 0.5 * wave(26, a=1.7, b=0.2)
TARGET = START + 0.1 * wave(26, a=2.3, b=0.5)
IMAGES, LABELS = wave(4, 3, a=0.8), torch.tensor([0, 0, 1, 1])
ROWS = [[0, 2], [1, 3], [3, 0]]
LR = torch.tensor(0.3, dtype=torch.float64)

MTT = [
    [-0.0169979, -0.1980368, 0.1286657],
    [0.0039829, -0.0409104, 0.0242506],
    [-0.0039388, 0.1535706, -0.0948763],
    [-0.0346004, 0.3703428, -0.1197878],
]
TESLA = [
    [-0.0148959, -0.1064068, 0.0664497],
    [0.0021214, -0.0247907, 0.0116861],
    [0.0120195, 0.1009266, -0.0567294],
    [-0.0168346, 0.2000808, -0.0599131],
]


def gathered(gradients: list[Tensor]) -> Tensor:
    """The gradient of the four images, each of which is in one or two batches."""
    total = torch.zeros_like(IMAGES)
    for rows, gradient in zip(ROWS, gradients, strict=True):
        total.index_add_(0, torch.tensor(rows), gradient)
    return total


@pytest.mark.parametrize("through_weights", [True, False])
def test_the_released_values(through_weights: bool) -> None:
    batches = [(IMAGES[rows], LABELS[rows]) for rows in ROWS]
    found = trajectory_match(tanh_loss, START, TARGET, batches, LR, through_weights)
    assert float(found.distance) == pytest.approx(0.9942339, abs=5e-8)
    assert float(found.lr) == pytest.approx(0.8897625 if through_weights else 0.9900508, abs=5e-8)
    # TESLA's code drops the factor 2 of the square.
    expected = torch.tensor(MTT if through_weights else TESLA, dtype=torch.float64) * (
        1 if through_weights else 2
    )
    torch.testing.assert_close(gathered(found.images), expected, rtol=0, atol=2e-7)


def small_network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(8, 8),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 4),
    )
    return network, torch.cat([p.detach().flatten() for p in network.parameters()])


def network_loss(network: nn.Module, weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    shapes = {name: p.shape for name, p in network.named_parameters()}
    parts = weights.split([shape.numel() for shape in shapes.values()])
    named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
    return F.cross_entropy(functional_call(network, named, (x,)), y)


def draws(steps: int, weights: Tensor) -> tuple[Tensor, list[Batch]]:
    random = torch.Generator().manual_seed(1)
    target = weights + 0.02 * torch.randn(weights.shape, generator=random)
    labels = torch.arange(4)
    return target, [(torch.randn(4, 3, 8, 8, generator=random), labels) for _ in range(steps)]


def test_the_adjoint_is_unrolling_in_float32() -> None:
    network, weights = small_network()
    target, batches = draws(5, weights)
    lr = torch.tensor(0.05)

    def loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return network_loss(network, w, x, y)

    ours = trajectory_match(loss, weights, target, batches, lr)
    theirs = trajectory_match_reference(loss, weights, target, batches, lr)
    torch.testing.assert_close(ours.distance, theirs.distance, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.lr, theirs.lr, rtol=1e-5, atol=0)
    for a, b in zip(ours.images, theirs.images, strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()


def test_memory_does_not_grow_with_the_steps() -> None:
    network, weights = small_network()
    kept: list[int] = []

    def most_saved(steps: int) -> int:
        live, most = 0, 0

        class Saved:
            """One tensor that a graph keeps; its bytes count as long as the graph lives."""

            def __init__(self, x: Tensor) -> None:
                nonlocal live, most
                self.x, self.bytes = x, x.nbytes
                live += self.bytes
                most = max(most, live)

            def __del__(self) -> None:
                nonlocal live
                live -= self.bytes

        def loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return network_loss(network, w, x, y)

        target, batches = draws(steps, weights)
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.x):
            trajectory_match(loss, weights, target, batches, torch.tensor(0.05))
        return most

    kept = [most_saved(steps) for steps in (2, 8)]
    assert kept[1] <= 1.05 * kept[0]


def test_a_loss_that_does_not_see_the_images() -> None:
    def loss(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return weights.square().sum()

    found = trajectory_match(loss, START, TARGET, [(IMAGES, LABELS)], LR)
    assert not found.images[0].any()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"must both be \[P\]"):
        trajectory_match(tanh_loss, START, TARGET[:3], [(IMAGES, LABELS)], LR)
    with pytest.raises(ValueError, match="0 batches"):
        trajectory_match(tanh_loss, START, TARGET, [], LR)
