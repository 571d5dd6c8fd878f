"""Gaussian alignment and the covariance regulariser, in Gram and in covariance form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import gaussian as g

# (groups, rows, features): Gram form (n < D), covariance form (n >= D), one row, one feature, no group
SHAPES = [(1, 2, 5), (3, 10, 33), (2, 33, 10), (2, 8, 8), (4, 1, 7), (2, 6, 1), (0, 3, 5)]
EPS32 = torch.finfo(torch.float32).eps


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real_side(groups: int, dim: int) -> tuple[Tensor, Tensor]:
    """Class means [G, D] and full-rank class covariances [G, D, D]."""
    root = random(groups, dim, dim + 3, seed=1)
    return random(groups, dim, seed=2), root @ root.mT / (dim + 3)


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = function(x)
    upstream = random(*y.shape, seed=3).to(y)
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("normalize", ["none", "dim"])
@pytest.mark.parametrize("shape", SHAPES)
def test_alignment_equals_the_definition(
    shape: tuple[int, int, int], normalize: g.Normalize, unbiased: bool, packed: bool
) -> None:
    x = 2 + random(*shape)
    mean, cov = real_side(shape[0], shape[2])
    options = (50.0, normalize, unbiased)
    truth = value_and_gradient(lambda x: g.gaussian_alignment_reference(x, mean, cov, *options), x)
    given = g.pack_symmetric(cov) if packed else cov
    exact = value_and_gradient(lambda x: g.gaussian_alignment(x, mean, given, *options), x)
    for a, b in zip(exact, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    # float32: a few hundred sums of products, in terms of the parts that the difference is made of
    single = value_and_gradient(lambda x: g.gaussian_alignment(x, mean.float(), given.float(), *options), x.float())
    parts = 50 * (cov.square().sum((1, 2)) + g._covariance_reference(x, unbiased).square().sum((1, 2)))
    assert bool(((single[0] - truth[0]).abs() <= 16 * EPS32 * (parts + truth[0])).all())
    scale = float(truth[1].abs().max()) if x.numel() else 0.0
    torch.testing.assert_close(single[1].double(), truth[1], rtol=0, atol=64 * EPS32 * scale)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
@pytest.mark.parametrize("shape", [(3, 10, 33), (2, 33, 10), (2, 8, 8)])
def test_regularizer_equals_the_definition(shape: tuple[int, int, int], eps: float, unbiased: bool) -> None:
    x = 2 + 0.8 * random(*shape)  # deviations on both sides of the hinge
    truth = value_and_gradient(lambda x: g.covariance_regularizer_reference(x, eps=eps, unbiased=unbiased), x)
    exact = value_and_gradient(lambda x: g.covariance_regularizer(x, eps=eps, unbiased=unbiased), x)
    for a, b in zip(exact, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    single = value_and_gradient(lambda x: g.covariance_regularizer(x, eps=eps, unbiased=unbiased), x.float())
    for a, b in zip(single, truth, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=64 * EPS32 * float(b.abs().max()))


@pytest.mark.parametrize("copies", [1, 3])
def test_golden_example(copies: int) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]], dtype=torch.float64).repeat(copies, 1)[None]
    y = torch.tensor([[1.0, 1.0], [2.0, 3.0], [0.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    mean, cov = y.mean(0)[None], torch.cov(y.T, correction=0)[None]
    torch.testing.assert_close(g.mean_alignment(x, mean), torch.tensor([5.0]).double())
    torch.testing.assert_close(g.covariance_alignment(x, cov).item(), 7.0694444, rtol=0, atol=5e-8)
    torch.testing.assert_close(g.gaussian_alignment(x, mean, cov).item(), 358.4722222, rtol=0, atol=5e-8)
    torch.testing.assert_close(g.variance_hinge(x, eps=0.0).item(), 0.0917517, rtol=0, atol=5e-8)
    torch.testing.assert_close(g.variance_hinge(x).item(), 0.0917211, rtol=0, atol=5e-8)
    torch.testing.assert_close(g.off_diagonal_covariance(x).item(), 1.7777778, rtol=0, atol=5e-8)


def test_golden_example_in_gram_form() -> None:
    """Zero features change no norm, and make n < D."""
    x = torch.tensor([[1.0, 2.0, 0, 0], [3.0, 6.0, 0, 0], [2.0, 4.0, 0, 0]])[None]
    cov = torch.zeros(1, 4, 4)
    cov[0, :2, :2] = torch.tensor([[0.5, 0.25], [0.25, 0.5]])
    torch.testing.assert_close(g.covariance_alignment(x, cov).item(), 7.0694444, rtol=1e-6, atol=0)
    off_diagonal = g.off_diagonal_covariance(x).item() * 12 / 2
    torch.testing.assert_close(off_diagonal, 1.7777778, rtol=1e-6, atol=0)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
@pytest.mark.parametrize("shape", [(2, 1, 5), (2, 4, 5), (2, 6, 5)])
def test_features_without_variance_give_the_constant_hinge_and_no_gradient(
    shape: tuple[int, int, int], eps: float, unbiased: bool
) -> None:
    x = random(2, 1, 5).expand(shape).contiguous().requires_grad_()
    hinge = g.variance_hinge(x, eps, unbiased)
    torch.testing.assert_close(hinge, torch.full_like(hinge, 1 - eps**0.5), rtol=1e-12, atol=0)
    loss = hinge.sum() + g.off_diagonal_covariance(x, unbiased).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    assert first.detach().abs().max() < 1e-12
    assert bool(torch.isfinite(torch.autograd.grad(first.sum(), x)[0]).all())
    assert g.off_diagonal_covariance(x, unbiased).detach().abs().max() < 1e-30


def test_alignment_of_the_class_with_itself_is_zero_to_rounding() -> None:
    x = random(2, 12, 40).float()
    cov = g._covariance_reference(x.double(), False).float()
    loss = g.covariance_alignment(x, cov)
    assert bool((loss.abs() <= 16 * EPS32 * cov.square().sum((1, 2))).all())


def test_known_square_norm_is_used() -> None:
    x, (mean, cov) = random(3, 4, 9), real_side(3, 9)
    square = cov.square().sum((1, 2))
    expected = g.gaussian_alignment(x, mean, cov)
    torch.testing.assert_close(g.gaussian_alignment(x, mean, cov, class_cov_square=square), expected)
    shifted = g.covariance_alignment(x, cov, square + 1) - g.covariance_alignment(x, cov)
    torch.testing.assert_close(shifted, torch.ones(3).double())


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3)])
def test_double_backward(shape: tuple[int, int, int]) -> None:
    x = random(*shape).requires_grad_()
    mean, cov = real_side(shape[0], shape[2])

    def loss(x: Tensor) -> Tensor:
        return g.gaussian_alignment(x, mean, cov) + g.covariance_regularizer(x)

    assert torch.autograd.gradcheck(loss, x)
    assert torch.autograd.gradgradcheck(loss, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 6, 20), (2, 20, 6)])
def test_half_features_are_reduced_in_float32_even_under_autocast(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    x = random(*shape).to(dtype)
    mean, cov = real_side(shape[0], shape[2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = g.gaussian_alignment(x, mean.float(), cov.float())
        regularizer = g.covariance_regularizer(x)
    assert loss.dtype is regularizer.dtype is torch.float32
    truth = g.gaussian_alignment_reference(x.double(), mean, cov)
    torch.testing.assert_close(loss.double(), truth, rtol=1e-5, atol=0)
    truth = g.covariance_regularizer_reference(x.double())
    torch.testing.assert_close(regularizer.double(), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 9), (2, 9, 4)])
def test_gradient_keeps_float32_when_taken_under_autocast(shape: tuple[int, int, int], compiled: bool) -> None:
    mean, cov = (t.float() for t in real_side(shape[0], shape[2]))

    def step(x: Tensor) -> Tensor:
        return g.gaussian_alignment(x, mean, cov) + g.covariance_regularizer(x)

    x = random(*shape).float()
    expected = value_and_gradient(step, x)[1]
    run = torch.compile(step, backend="aot_eager", fullgraph=True) if compiled else step
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient = value_and_gradient(run, x)[1]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=16 * EPS32 * float(expected.abs().max()))


def test_strided_features_and_half_storage_of_the_class() -> None:
    x = random(4, 3, 9).transpose(0, 1)  # [3, 4, 9]
    mean, cov = real_side(3, 9)
    stored = g.pack_symmetric(cov).bfloat16()
    expected = g.gaussian_alignment_reference(x, mean, g.unpack_symmetric(stored.double()))
    torch.testing.assert_close(g.gaussian_alignment(x, mean, stored), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_packing_is_the_row_major_lower_triangle_and_inverts(dim: int) -> None:
    cov = real_side(2, dim)[1]
    packed = g.pack_symmetric(cov)
    rows = [cov[1, i, : i + 1] for i in range(dim)]
    assert torch.equal(packed[1], torch.cat(rows))
    assert torch.equal(g.unpack_symmetric(packed), torch.maximum(cov, cov).tril() + cov.tril(-1).mT)


@pytest.mark.parametrize("shape", [(2, 4, 9), (2, 9, 4)])
def test_compiles_as_one_graph(shape: tuple[int, int, int]) -> None:
    mean, cov = real_side(shape[0], shape[2])
    packed = g.pack_symmetric(cov)

    def step(x: Tensor) -> Tensor:
        return g.gaussian_alignment(x, mean, packed) + g.covariance_regularizer(x)

    x = random(*shape)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = value_and_gradient(torch.compile(step, backend=counter, fullgraph=True), x)
    assert counter.frame_count == 1
    for a, b in zip(compiled, value_and_gradient(step, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_bad_input_is_named() -> None:
    x, mean, cov = torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=r"features\[None\].*\(3, 4\)"):
        g.variance_hinge(x[0])
    with pytest.raises(ValueError, match=r"n, D > 0.*\(2, 0, 4\)"):
        g.covariance_regularizer(x[:, :0])
    with pytest.raises(ValueError, match=r"class_mean must be \(2, 4\).*\(1, 4\)"):
        g.gaussian_alignment(x, mean[:1], cov)
    with pytest.raises(ValueError, match=r"class_cov must be \[2, 4, 4\] or packed \[2, 10\].*\(2, 4\)"):
        g.gaussian_alignment(x, mean, cov[:, 0])
    with pytest.raises(ValueError, match=r"class_cov_square must be \[2\]"):
        g.gaussian_alignment(x, mean, cov, class_cov_square=torch.zeros(1))
    with pytest.raises(ValueError, match=r"normalize must be .*'rows'"):
        g.gaussian_alignment(x, mean, cov, normalize="rows")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"eps must be at least 0, got -1"):
        g.variance_hinge(x, eps=-1)
    with pytest.raises(ValueError, match=r"D\(D\+1\)/2.*\(2, 4\)"):
        g.unpack_symmetric(mean)
    with pytest.raises(ValueError, match=r"\[\.\.\., D, D\].*\(2, 3, 4\)"):
        g.pack_symmetric(x)
