"""The covariance regularizer in Gram and in covariance form, and where rows have no variance."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import EPS32, assert_within, leaf, randn, with_gradient
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import covariance as c

# (groups, rows, features): Gram form (n < D), covariance form (n >= D), one feature, no group
SHAPES = [(3, 7, 33), (2, 33, 7), (2, 8, 8), (2, 33, 130), (2, 6, 1), (0, 3, 5)]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
@pytest.mark.parametrize("shape", SHAPES)
def test_regularizer_equals_the_definition(shape: tuple[int, int, int], eps: float, unbiased: bool) -> None:
    x = 2 + 0.8 * randn(*shape)  # deviations on both sides of the hinge
    options = (0.2, 4.0, eps, unbiased)
    truth = with_gradient(lambda x: (c.covariance_regularizer_reference(x, *options),), x)
    exact = with_gradient(lambda x: (c.covariance_regularizer(x, *options),), x)
    for a, b in zip(exact, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    # float32: within twice the error of PyTorch on the definition, and a few roundings
    plain = with_gradient(lambda x: (c.covariance_regularizer_reference(x, *options),), x.float())
    single = with_gradient(lambda x: (c.covariance_regularizer(x, *options),), x.float())
    for a, b, p in zip(single, truth, plain, strict=True):
        scale = float(b.abs().max()) if b.numel() else 0.0
        budget = 2 * float((p - b).abs().max()) + 16 * EPS32 * scale if b.numel() else 0.0
        torch.testing.assert_close(a.double(), b, rtol=0, atol=budget)


@pytest.mark.parametrize("shape", SHAPES)
def test_terms_add_up_to_the_regularizer(shape: tuple[int, int, int]) -> None:
    x = randn(*shape)
    parts = 0.3 * c.variance_hinge(x, 0.01, True) + 5 * c.off_diagonal_covariance(x, True)
    torch.testing.assert_close(c.covariance_regularizer(x, 0.3, 5.0, 0.01, unbiased=True), parts)


@pytest.mark.parametrize("copies", [1, 3])
def test_golden_example(copies: int) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]], dtype=torch.float64).repeat(copies, 1)[None]
    torch.testing.assert_close(c.variance_hinge(x, eps=0.0).item(), 0.0917517, rtol=0, atol=5e-8)
    torch.testing.assert_close(c.variance_hinge(x).item(), 0.0917211, rtol=0, atol=5e-8)
    torch.testing.assert_close(c.off_diagonal_covariance(x).item(), 1.7777778, rtol=0, atol=5e-8)


def test_golden_example_in_gram_form() -> None:
    """Zero features change no norm, and make n < D."""
    x = torch.tensor([[1.0, 2.0, 0, 0], [3.0, 6.0, 0, 0], [2.0, 4.0, 0, 0]])[None]
    off_diagonal = c.off_diagonal_covariance(x).item() * 12 / 2
    torch.testing.assert_close(off_diagonal, 1.7777778, rtol=1e-6, atol=0)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
@pytest.mark.parametrize("rows", ["equal", "zero"])
@pytest.mark.parametrize("shape", [(2, 1, 5), (2, 4, 5), (2, 6, 5)])
def test_rows_without_variance_give_the_constant_hinge_and_no_gradient(
    shape: tuple[int, int, int], rows: str, eps: float, unbiased: bool
) -> None:
    x = leaf((randn(2, 1, 5) if rows == "equal" else torch.zeros(2, 1, 5).double()).expand(shape))
    hinge = c.variance_hinge(x, eps, unbiased)
    torch.testing.assert_close(hinge, torch.full_like(hinge, 1 - eps**0.5), rtol=1e-12, atol=0)
    loss = hinge.sum() + c.off_diagonal_covariance(x, unbiased).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    assert first.detach().abs().max() < 1e-12
    assert bool(torch.isfinite(torch.autograd.grad(first.sum(), x)[0]).all())
    assert c.off_diagonal_covariance(x, unbiased).detach().abs().max() < 1e-30


@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_one_row_gives_exactly_no_gradient(eps: float) -> None:
    x = leaf(1000 * randn(3, 1, 33).float())
    (gradient,) = torch.autograd.grad(c.covariance_regularizer(x, eps=eps).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_zero_rows_among_others() -> None:
    x = randn(2, 6, 9)
    x[:, 3:] = 0
    x[:, :, 4] = 0
    loss = with_gradient(lambda x: (c.covariance_regularizer(x, eps=0.0),), x)
    assert all(bool(torch.isfinite(t).all()) for t in loss)
    truth = c.covariance_regularizer_reference(x, eps=0.0)
    torch.testing.assert_close(loss[0], truth)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3)])
def test_double_backward(shape: tuple[int, int, int]) -> None:
    x = leaf(randn(*shape))
    assert torch.autograd.gradcheck(c.covariance_regularizer, x)
    assert torch.autograd.gradgradcheck(c.covariance_regularizer, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 6, 20), (2, 20, 6)])
def test_half_features_are_reduced_in_float32_even_under_autocast(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x = randn(*shape, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        regularizer = c.covariance_regularizer(x)
    assert regularizer.dtype is torch.float32
    assert_within([regularizer], [c.covariance_regularizer_reference(x.double())], roundings=16)


def test_strided_rows_and_stride_zero_gradients() -> None:
    x = randn(4, 3, 18)[..., ::2].transpose(0, 1)  # [3, 4, 9]
    assert not x.is_contiguous()
    results = []
    for function in (c.covariance_regularizer, c.covariance_regularizer_reference):
        leaf = x.detach().requires_grad_()
        loss = function(leaf).sum()  # its gradient is one number, expanded
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("few", [True, False])
def test_another_number_of_rows_is_no_recompilation(few: bool) -> None:
    dim = 33 if few else 5
    torch._dynamo.reset()  # forget what varied in other tests
    counter = CompileCounterWithBackend("aot_eager")

    def step(x: Tensor) -> tuple[Tensor]:
        return (c.covariance_regularizer(x, unbiased=True),)

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for n in (10, 12, 7, 20, 31):  # the second shows that n varies
        x = randn(2, n, dim)
        for a, b in zip(with_gradient(compiled, x), with_gradient(step, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 2


def test_bad_input_is_named() -> None:
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"features\[None\].*\(3, 4\)"):
        c.variance_hinge(x[0])
    with pytest.raises(ValueError, match=r"floating-point.*int64"):
        c.off_diagonal_covariance(x.long())
    with pytest.raises(ValueError, match=r"n, D > 0.*\(2, 0, 4\)"):
        c.covariance_regularizer(x[:, :0])
    for function in (c.variance_hinge, c.covariance_regularizer):
        with pytest.raises(ValueError, match=r"eps must be at least 0, got -1"):
            function(x, eps=-1)
