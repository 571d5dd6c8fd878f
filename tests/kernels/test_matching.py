"""The losses of dataset condensation against their definitions and the values of the released functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastdd_kernels import (
    attention_distance,
    gradient_distance,
    kernel_ridge_loss,
    mean_distance,
    relu_ntk,
    trajectory_distance,
)
from fastdd_kernels.matching import (
    Metric,
    attention,
    attention_distance_reference,
    gradient_distance_reference,
    mean_distance_reference,
)
from fastdd_kernels.tangent import relu_ntk_reference


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a n + b) over the numbers n of the entries, float64."""
    return torch.sin(a * torch.arange(math.prod(shape), dtype=torch.float64) + b).view(shape)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_same_to_second_order(
    ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor
) -> None:
    """Values, gradients, and gradients of the gradients' squares."""
    outcome = []
    for function in (ours, theirs):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        first = torch.autograd.grad(value.sum(), leaves, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)
        outcome.append((value, *first, *second))
    for a, b in zip(*outcome, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


# -- means and attention ---------------------------------------------------------------------------


def test_mean_distance_has_the_value_of_dm() -> None:
    real, synthetic = wave(2, 3, 4, a=0.9), wave(2, 2, 4, a=0.5, b=0.3).requires_grad_()
    value = mean_distance(synthetic, real)
    assert value.tolist() == pytest.approx([0.3082720, 0.0725470], abs=5e-8)
    (gradient,) = torch.autograd.grad(value.sum(), synthetic)
    assert float(gradient[0, 0, 0]) == pytest.approx(0.4035636, abs=5e-8)
    assert float(gradient[1, 1, 3]) == pytest.approx(0.0066799, abs=5e-8)


@pytest.mark.parametrize(("G", "n", "m", "D"), [(1, 1, 1, 1), (3, 2, 5, 7), (2, 4, 1, 33)])
def test_mean_distance_is_its_definition(G: int, n: int, m: int, D: int) -> None:
    assert_same_to_second_order(
        mean_distance, mean_distance_reference, randn(G, n, D), randn(G, m, D, seed=1)
    )


@pytest.mark.parametrize(
    ("power", "loss", "norm"),
    [(1, 0.0862239, 0.2629239), (2, 0.1412318, 0.2708674), (4, 0.2165959, 0.5012326)],
)
def test_attention_distance_has_the_values_of_datadam(power: float, loss: float, norm: float) -> None:
    real = (wave(4, 3, 2, 2, a=0.7).relu() + 0.05).view(2, 2, 3, 2, 2)
    synthetic = (wave(4, 3, 2, 2, a=1.3, b=0.4).relu() + 0.05).view(2, 2, 3, 2, 2).requires_grad_()
    value = attention_distance(synthetic, real, power).sum()
    assert float(value) == pytest.approx(loss, abs=5e-8)
    (gradient,) = torch.autograd.grad(value, synthetic)
    assert float(gradient.norm()) == pytest.approx(norm, abs=5e-8)


def test_attention_of_one_image() -> None:
    image = (wave(4, 3, 2, 2, a=0.7).relu() + 0.05)[0]
    linear, fourth = attention(image, 1), attention(image, 4)
    assert linear.tolist() == pytest.approx([0.1702885, 0.2847684, 0.6293581, 0.7027213], abs=5e-8)
    assert fourth.tolist() == pytest.approx([0.0094054, 0.0993973, 0.5987848, 0.7946625], abs=5e-8)


@pytest.mark.parametrize("power", [1, 1.5, 4])
def test_attention_distance_is_its_definition(power: float) -> None:
    x, y = randn(2, 3, 2, 4, 5), randn(2, 1, 2, 4, 5, seed=1)
    assert_same_to_second_order(
        lambda x, y: attention_distance(x, y, power),
        lambda x, y: attention_distance_reference(x, y, power),
        x,
        y,
    )


def test_an_image_without_activation_has_no_attention_and_no_nan() -> None:
    x = torch.zeros(1, 2, 3, 4, 4, requires_grad=True)
    value = attention_distance(x, torch.ones(1, 1, 3, 4, 4))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all()
    assert not gradient.any()


# -- gradients and weights -------------------------------------------------------------------------

SHAPES = [(2, 3, 3, 3), (2,), (2,), (2,), (3, 8), (3,)]


def gradients(a: float, step: float) -> list[Tensor]:
    return [wave(*shape, a=a, b=step * number) for number, shape in enumerate(SHAPES)]


@pytest.mark.parametrize(
    ("metric", "value", "entry", "norm"),
    [
        ("rows", 5.0943735, -0.2808894, 0.9192390),
        ("mse", 79.3076476, -3.1844664, 17.8109683),
        ("cosine", 0.9152061, -0.0220812, 0.1502012),
    ],
)
def test_gradient_distance_has_the_values_of_dc(
    metric: Metric, value: float, entry: float, norm: float
) -> None:
    synthetic = [g.requires_grad_() for g in gradients(1.1, 0.2)]
    distance = gradient_distance(synthetic, gradients(0.7, 0.1), metric)
    assert float(distance) == pytest.approx(value, abs=5e-8)
    found = torch.autograd.grad(distance, synthetic, allow_unused=True)
    assert float(found[4][1, 2]) == pytest.approx(entry, abs=5e-8)
    together = math.sqrt(sum(float(g.square().sum()) for g in found if g is not None))
    assert together == pytest.approx(norm, abs=5e-7)


def test_each_layer_of_dc() -> None:
    synthetic, real = gradients(1.1, 0.2), gradients(0.7, 0.1)
    assert float(gradient_distance(synthetic[:1], real[:1])) == pytest.approx(1.9725083, abs=5e-8)
    assert float(gradient_distance(synthetic[4:5], real[4:5])) == pytest.approx(3.1218652, abs=5e-8)
    assert float(gradient_distance(synthetic[1:4], real[1:4])) == 0


def test_a_zero_row_costs_one_and_has_no_gradient() -> None:
    synthetic = gradients(1.1, 0.2)[0].requires_grad_()
    distance = gradient_distance([synthetic], [torch.zeros_like(synthetic)])
    assert float(distance) == 2
    assert not torch.autograd.grad(distance, synthetic)[0].any()
    nothing = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(gradient_distance([nothing], [randn(2, 3)]), nothing, create_graph=True)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("metric", ["rows", "mse", "cosine"])
def test_gradient_distance_is_its_definition(metric: Metric) -> None:
    h, other = randn(4, 2, 3, 3, seed=1), randn(4, seed=3)

    def ours(g: Tensor, bias: Tensor) -> Tensor:
        return gradient_distance([g, bias], [h, other], metric) + bias.square().sum()

    def theirs(g: Tensor, bias: Tensor) -> Tensor:
        return gradient_distance_reference([g, bias], [h, other], metric) + bias.square().sum()

    assert_same_to_second_order(ours, theirs, randn(4, 2, 3, 3), randn(4, seed=2))


def test_idc_leaves_biases_out() -> None:
    synthetic, real = gradients(1.1, 0.2), gradients(0.7, 0.1)
    some = gradient_distance([synthetic[0], synthetic[4]], [real[0], real[4]], "mse")
    assert torch.equal(gradient_distance(synthetic, real, "mse", matrices_only=True), some)
    assert float(gradient_distance(synthetic[1:2], real[1:2], "mse", matrices_only=True)) == 0


def test_trajectory_distance() -> None:
    start = 0.5 * wave(26, a=1.7, b=0.2)
    target = start + 0.1 * wave(26, a=2.3, b=0.5)
    assert float((start - target).square().sum()) == pytest.approx(0.1297273, abs=5e-8)
    assert float(trajectory_distance(start, target, start)) == 1
    assert float(trajectory_distance(target, target, start)) == 0
    several = trajectory_distance(torch.stack((start, target)), target.expand(2, -1), start.expand(2, -1))
    assert several.tolist() == [1, 0]


# -- kernels ---------------------------------------------------------------------------------------

SUPPORT, TARGET = wave(4, 5, a=0.9), wave(6, 5, a=1.3, b=0.2)
LABELS = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 0, 1, 1])] - 0.5
TARGET_LABELS = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 1, 0, 1, 1, 0])] - 0.5


def test_the_kernel_has_the_values_of_kip() -> None:
    kernel = relu_ntk(SUPPORT)
    assert kernel[0].tolist() == pytest.approx([1.5823665, 0.0983152, -0.0955428, 1.0415738], abs=5e-8)
    assert float(kernel.trace()) == pytest.approx(8.0518127, abs=5e-8)
    assert float(relu_ntk(TARGET, SUPPORT)[0, 0]) == pytest.approx(0.8536354, abs=5e-8)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_kernel_is_its_definition(depth: int) -> None:
    torch.testing.assert_close(relu_ntk(SUPPORT, depth=depth), relu_ntk_reference(SUPPORT, SUPPORT, depth))
    torch.testing.assert_close(relu_ntk(TARGET, SUPPORT, depth), relu_ntk_reference(TARGET, SUPPORT, depth))


@pytest.mark.parametrize(
    ("depth", "ridge", "value", "gradient"),
    [
        (1, 1e-6, 0.2807815, (0.0515185, -0.0497990, -0.0253663, 0.0090707, -0.0563380)),
        (3, 1e-6, 0.1904491, (0.0121817, -0.0138814, 0.0033111, 0.0193616, -0.0112611)),
        (1, 1e-2, 0.2759105, None),
    ],
)
def test_the_loss_has_the_values_of_kip(
    depth: int, ridge: float, value: float, gradient: tuple[float, ...] | None
) -> None:
    support = SUPPORT.clone().requires_grad_()
    kernels = relu_ntk(support, depth=depth), relu_ntk(TARGET, support, depth)
    loss, predictions = kernel_ridge_loss(*kernels, LABELS, TARGET_LABELS, ridge)
    assert float(loss) == pytest.approx(value, abs=5e-8)
    if depth == 1 and ridge == 1e-6:
        assert predictions[0].abs().tolist() == pytest.approx([0.3753143] * 2, abs=5e-8)
    if gradient is not None:
        assert torch.autograd.grad(loss, support)[0][0].tolist() == pytest.approx(gradient, abs=5e-7)


def test_the_diagonal_is_differentiated_exactly() -> None:
    def loss(support: Tensor) -> Tensor:
        kernels = relu_ntk(support, depth=2), relu_ntk(TARGET, support, 2)
        return kernel_ridge_loss(*kernels, LABELS, TARGET_LABELS, 1e-3)[0]

    assert torch.autograd.gradcheck(loss, (SUPPORT.clone().requires_grad_(),), eps=1e-6, atol=1e-7)


def test_the_same_image_twice_and_its_opposite_have_no_nan() -> None:
    x = torch.stack(
        (SUPPORT[0], SUPPORT[0], -SUPPORT[0], torch.zeros(5, dtype=torch.float64))
    ).requires_grad_()
    kernel = relu_ntk(x, depth=3)
    (gradient,) = torch.autograd.grad(kernel.sum(), x)
    assert kernel.isfinite().all()
    assert gradient.isfinite().all()
    torch.testing.assert_close(kernel[0, 1], kernel[0, 0], rtol=1e-7, atol=0)


# -- bad input -------------------------------------------------------------------------------------

MAPS = torch.zeros(1, 1, 1, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_distance(torch.zeros(2, 3), torch.zeros(2, 3)), r"\[G, n, D\]"),
        (lambda: mean_distance(torch.zeros(2, 0, 3), torch.zeros(2, 1, 3)), "hold an image"),
        (lambda: mean_distance(torch.zeros(2, 1, 3), torch.zeros(1, 1, 3)), "same groups"),
        (
            lambda: attention_distance(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2), 0),
            "positive, got 0",
        ),
        (lambda: gradient_distance([torch.zeros(2, 2)], [torch.zeros(2, 3)]), "tensors 0"),
        (lambda: gradient_distance([], []), "as many"),
        (lambda: gradient_distance([torch.zeros(1, 1)], [torch.zeros(1, 1)], "l1"), "'l1'"),  # type: ignore[arg-type]
        (lambda: trajectory_distance(torch.zeros(2), torch.zeros(2), torch.zeros(3)), "one shape"),
        (lambda: relu_ntk(torch.zeros(2, 3, dtype=torch.float16)), "float32 or float64"),
        (lambda: relu_ntk(torch.zeros(2, 3), torch.zeros(2, 4)), "one width"),
        (lambda: relu_ntk(torch.zeros(2, 3), depth=-1), "depth"),
        (
            lambda: kernel_ridge_loss(
                torch.eye(2), torch.zeros(3, 2), torch.zeros(2, 1), torch.zeros(3, 1), ridge=0
            ),
            "ridge",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
