"""Spatial moments, the BatchNorm loss built on them, and the frozen BatchNorm that yields them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import moments as m

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 3), (6, 17, 4, 9), (4, 64, 14, 14)]
EPS32 = torch.finfo(torch.float32).eps


def activation(*shape: int, layout: str = "contiguous") -> Tensor:
    """float64 values with a mean of 3 and, by channel, deviations from 0.5 to 2."""
    generator = torch.Generator().manual_seed(sum(shape))
    deviation = torch.linspace(0.5, 2.0, shape[1], dtype=torch.float64).view(1, -1, 1, 1)
    x = 3 + deviation * torch.randn(shape, generator=generator, dtype=torch.float64)
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "strided":
        return x.repeat_interleave(2, dim=3)[..., ::2]
    return x


def with_gradient(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> list[Tensor]:
    """Outputs of function and the gradient of x for fixed random upstream gradients."""
    x = x.detach().requires_grad_()
    outputs = function(x)
    generator = torch.Generator().manual_seed(7)
    upstream = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]
    return [*(y.detach() for y in outputs), *torch.autograd.grad(outputs, x, upstream)]


def assert_within(actual: list[Tensor], truth: list[Tensor], roundings: float) -> None:
    """Each tensor within so many float32 roundings of its own largest entry."""
    for a, b in zip(actual, truth, strict=True):
        scale = float(b.abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a.double(), b, rtol=0, atol=roundings * EPS32 * scale)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_and_gradient_equal_the_definition(shape: tuple[int, ...], layout: str) -> None:
    x = activation(*shape, layout=layout)
    shift = torch.linspace(2.5, 3.5, shape[1], dtype=torch.float64)
    truth = with_gradient(lambda x: m.spatial_moments_reference(x, shift), x)
    actual = with_gradient(lambda x: m.spatial_moments(x, shift.float()), x.float())
    assert [a.dtype for a in actual] == [torch.float32] * 3
    assert_within(actual, truth, roundings=8)


def test_float64_stays_float64() -> None:
    x = activation(3, 5, 7, 3)
    for a, b in zip(m.spatial_moments(x), m.spatial_moments_reference(x, torch.zeros(5)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_input_gives_float32_statistics_of_its_values(dtype: torch.dtype) -> None:
    x = activation(4, 8, 14, 14).to(dtype)
    shift = torch.full((8,), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = m.spatial_moments(x, shift)
    assert_within(list(actual), list(m.spatial_moments_reference(x.double(), shift.double())), roundings=8)


def test_shift_keeps_the_variance_of_a_distant_mean() -> None:
    x = 1000 + activation(4, 6, 8, 8)
    truth = x.float().double().var((0, 2, 3), correction=0)
    shift = torch.full((6,), 1003.0)
    variance = m.batch_moments(*m.spatial_moments(x.float(), shift), shift)[1][0]
    assert_within([variance], [truth], roundings=200)  # the float32 mean alone costs eps * 1000 / deviation
    unshifted = m.batch_moments(*m.spatial_moments(x.float()))[1][0]
    assert float((unshifted - truth).abs().max()) > 0.01  # what the shift is for


def test_batch_norm_loss_golden_value() -> None:
    x = torch.arange(16.0).reshape(2, 2, 2, 2)
    mean, var = torch.tensor([4.0, 8.0]), torch.tensor([20.0, 16.0])
    batch_mean, batch_var = m.batch_moments(*m.spatial_moments(x, mean), mean)
    assert batch_mean.tolist() == [[5.5, 9.5]]
    assert batch_var.tolist() == [[17.25, 17.25]]
    torch.testing.assert_close(m.batch_norm_loss(x, mean, var), torch.tensor([5.1420818]), rtol=2e-7, atol=0)


@pytest.mark.parametrize("class_wise", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_batch_norm_loss_and_gradient_equal_the_definition(groups: int, class_wise: bool) -> None:
    x = activation(6, 17, 4, 9)
    rows = (groups, 17) if class_wise else (17,)
    mean = 3 + 0.1 * torch.randn(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    var = 1 + mean.sin().square()
    truth = with_gradient(lambda x: (m.batch_norm_loss_reference(x, mean, var, groups),), x)
    actual = with_gradient(lambda x: (m.batch_norm_loss(x, mean.float(), var.float(), groups),), x.float())
    assert actual[0].shape == (groups,)
    assert_within(actual, truth, roundings=32)


def test_class_wise_targets_far_from_zero_lose_no_precision() -> None:
    x = 1000 + activation(4, 6, 8, 8)
    x = x.float().double()
    mean = torch.stack((x.mean((0, 2, 3)), x.mean((0, 2, 3)) + 0.5))
    var = torch.full((2, 6), 0.25).double()
    truth = m.batch_norm_loss_reference(x, mean, var, groups=2)
    actual = m.batch_norm_loss(x.float(), mean.float(), var.float(), groups=2)
    torch.testing.assert_close(actual.double(), truth, rtol=1e-4, atol=0)  # 1000 is known to 6e-5


def test_groups_are_batches_of_their_own() -> None:
    x = activation(6, 5, 4, 4)
    mean, var = torch.full((5,), 3.0), torch.ones(5)
    alone = torch.cat([m.batch_norm_loss(part, mean, var) for part in x.split(2)])
    torch.testing.assert_close(m.batch_norm_loss(x, mean, var, groups=3), alone, rtol=1e-13, atol=0)


def test_loss_at_its_target_has_zero_gradient_to_second_order() -> None:
    x = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(1, 1, 2, 2).requires_grad_()
    loss = m.batch_norm_loss(x, torch.zeros(1), torch.ones(1))
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert loss.item() == 0
    assert not first.any()
    assert not second.any()


def test_double_backward() -> None:
    x = activation(4, 3, 2, 3).requires_grad_()
    mean, var = torch.full((3,), 2.0).double(), torch.full((3,), 3.0).double()
    assert torch.autograd.gradcheck(lambda x: m.batch_norm_loss(x, mean, var, 2), x)
    assert torch.autograd.gradgradcheck(lambda x: m.batch_norm_loss(x, mean, var, 2), x)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_frozen_batch_norm_equals_the_definition(affine: bool, relu: bool) -> None:
    x = activation(4, 9, 5, 3, layout="channels_last")
    mean, var = torch.linspace(2, 4, 9).double(), torch.linspace(0.2, 3, 9).double()
    weight, bias = (var.cos(), mean.sin()) if affine else (None, None)
    truth = with_gradient(lambda x: m.frozen_batch_norm_reference(x, weight, bias, mean, var, relu=relu), x)
    w, b = (None, None) if weight is None or bias is None else (weight.float(), bias.float())
    actual = with_gradient(lambda x: m.frozen_batch_norm(x, w, b, mean.float(), var.float(), relu=relu), x.float())
    assert_within(actual, truth, roundings=16)


def test_frozen_batch_norm_keeps_the_half_dtype_and_layout_of_x() -> None:
    x = activation(2, 4, 6, 6, layout="channels_last").bfloat16()
    ones = torch.ones(4)
    y, mean, mean_square = m.frozen_batch_norm(x, ones, ones, ones, ones)
    assert y.dtype is torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert mean.dtype is mean_square.dtype is torch.float32
    exact = ones.double()
    truth = m.frozen_batch_norm_reference(x.double(), exact, exact, exact, exact)[0]
    torch.testing.assert_close(y.double(), truth, rtol=2**-8, atol=1e-6)


def test_compiles_as_one_graph() -> None:
    def step(x: Tensor) -> Tensor:
        y, mean, mean_square = m.frozen_batch_norm(x, ones, ones, ones, ones, relu=True)
        loss = m.batch_norm_loss_from_moments(mean, mean_square, ones, ones, groups=2)
        return loss.sum() + m.batch_norm_loss(y, ones, ones).sum()

    ones = torch.ones(5)
    x = activation(4, 5, 6, 6).float()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = with_gradient(lambda x: (torch.compile(step, backend=counter, fullgraph=True)(x),), x)
    assert counter.frame_count == 1
    assert_within(compiled, [t.double() for t in with_gradient(lambda x: (step(x),), x)], roundings=8)


def test_bad_input_is_named() -> None:
    x, c = torch.zeros(4, 3, 2, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"\[N, C, H, W\].*\(4, 3\)"):
        m.spatial_moments(x[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"H, W > 0.*\(4, 3, 0, 2\)"):
        m.spatial_moments(x[:, :, :0])
    with pytest.raises(ValueError, match=r"shift must be \[3\].*\(2,\)"):
        m.spatial_moments(x, c[:2])
    with pytest.raises(ValueError, match=r"divide the 4 images.*got 3"):
        m.batch_norm_loss(x, c, c, groups=3)
    with pytest.raises(ValueError, match=r"running_var must be \[3\].*\(2, 3\)"):
        m.batch_norm_loss(x, c, c.expand(2, 3), groups=4)
    with pytest.raises(ValueError, match="give the shift"):
        m.batch_norm_loss_from_moments(x[..., 0, 0], x[..., 0, 0], c.expand(2, 3), c, groups=2)
    with pytest.raises(ValueError, match="divide the 0 images"):
        m.batch_norm_loss(x[:0], c, c)
    with pytest.raises(ValueError, match=r"weight must be \[3\]"):
        m.frozen_batch_norm(x, c[:1], c, c, c)


def test_no_images_have_no_moments() -> None:
    mean, mean_square = m.spatial_moments(torch.zeros(0, 3, 2, 2))
    assert mean.shape == mean_square.shape == (0, 3)
