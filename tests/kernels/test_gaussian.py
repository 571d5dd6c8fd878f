"""Gaussian alignment in Gram and in covariance form, with dense, packed and low-rank targets."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from kernel_checks import EPS32, leaf, randn, with_gradient
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import gaussian as g
from fastdd_kernels.covariance import covariance_reference, covariance_regularizer
from fastdd_kernels.symmetric import (
    Covariance,
    LowRankCovariance,
    dense_covariance,
    low_rank_covariance,
    pack_symmetric,
    unpack_symmetric,
)

# (groups, rows, features): Gram form (n < D), covariance form (n >= D), one row, one feature, no group
SHAPES = [(1, 2, 5), (3, 7, 33), (2, 33, 7), (2, 8, 8), (2, 33, 130), (4, 1, 7), (2, 6, 1), (0, 3, 5)]
FORMS = ["dense", "packed", "low_rank", "diagonal", "factor"]


def real_side(groups: int, dim: int, form: str = "dense") -> tuple[Tensor, Covariance]:
    """Class means [G, D] and class covariances, full-rank ones but in the low-rank forms."""
    root = randn(groups, dim, dim + 3, seed=1)
    mean, cov = randn(groups, dim, seed=2), root @ root.mT / (dim + 3)
    if form == "dense":
        return mean, cov
    if form == "packed":
        return mean, pack_symmetric(cov)
    low_rank, _ = low_rank_covariance(cov, 0 if form == "diagonal" else (dim + 1) // 2)
    return mean, low_rank._replace(diagonal=None) if form == "factor" else low_rank


def in_float32(cov: Covariance) -> Covariance:
    if isinstance(cov, Tensor):
        return cov.float()
    return LowRankCovariance(cov.factor.float(), None if cov.diagonal is None else cov.diagonal.float())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("normalize", get_args(g.Normalize))
@pytest.mark.parametrize("shape", SHAPES)
def test_alignment_equals_the_definition(
    shape: tuple[int, int, int], normalize: g.Normalize, unbiased: bool, form: str
) -> None:
    x = 2 + randn(*shape)
    mean, cov = real_side(shape[0], shape[2], form)
    options = (50.0, normalize, unbiased)
    truth = with_gradient(lambda x: (g.gaussian_alignment_reference(x, mean, cov, *options),), x)
    exact = with_gradient(lambda x: (g.gaussian_alignment(x, mean, cov, *options),), x)
    for a, b in zip(exact, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    # float32: values in terms of the parts that their difference is made of; gradients within twice the error
    # of PyTorch on the definition, and a few roundings
    mean32, cov32 = mean.float(), in_float32(cov)
    single = with_gradient(lambda x: (g.gaussian_alignment(x, mean32, cov32, *options),), x.float())
    plain = with_gradient(lambda x: (g.gaussian_alignment_reference(x, mean32, cov32, *options),), x.float())
    parts = [t.square().sum((1, 2)) for t in (dense_covariance(cov), covariance_reference(x, unbiased))]
    assert bool(((single[0] - truth[0]).abs() <= 16 * EPS32 * (50 * sum(parts) + truth[0])).all())
    if x.numel():
        budget = 2 * (plain[1] - truth[1]).abs().max() + 16 * EPS32 * truth[1].abs().max()
        assert float((single[1] - truth[1]).abs().max()) <= float(budget)


def covariance_alignment(
    x: torch.Tensor, class_cov: g.Covariance, square: torch.Tensor | None = None
) -> torch.Tensor:
    """The second term alone: of rows that have the class's mean the first is zero."""
    return g.gaussian_alignment(x, x.detach().mean(1), class_cov, gamma=1.0, class_cov_square=square)


@pytest.mark.parametrize("copies", [1, 3])
def test_golden_example(copies: int) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]], dtype=torch.float64).repeat(copies, 1)[None]
    y = torch.tensor([[1.0, 1.0], [2.0, 3.0], [0.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    mean, cov = y.mean(0)[None], torch.cov(y.T, correction=0)[None]
    torch.testing.assert_close(g.gaussian_alignment(x, mean, cov, gamma=0.0), torch.tensor([5.0]).double())
    rows = LowRankCovariance((y - mean).mT[None] / 2)
    for form in (cov, pack_symmetric(cov), rows, low_rank_covariance(cov, 2)[0]):
        torch.testing.assert_close(covariance_alignment(x, form).item(), 7.0694444, rtol=0, atol=5e-8)
        torch.testing.assert_close(g.gaussian_alignment(x, mean, form).item(), 358.4722222, rtol=0, atol=5e-8)


def test_golden_example_in_gram_form() -> None:
    """Zero features change no norm, and make n < D."""
    x = torch.tensor([[1.0, 2.0, 0, 0], [3.0, 6.0, 0, 0], [2.0, 4.0, 0, 0]])[None]
    cov = torch.zeros(1, 4, 4)
    cov[0, :2, :2] = torch.tensor([[0.5, 0.25], [0.25, 0.5]])
    for form in (cov, pack_symmetric(cov), low_rank_covariance(cov, 2)[0]):
        torch.testing.assert_close(covariance_alignment(x, form).item(), 7.0694444, rtol=1e-6, atol=0)


def test_alignment_of_the_class_with_itself_is_zero_to_rounding() -> None:
    x = randn(2, 12, 40).float()
    cov = covariance_reference(x.double()).float()
    loss = covariance_alignment(x, cov)
    assert bool((loss.abs() <= 16 * EPS32 * cov.square().sum((1, 2))).all())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 4, 40])
def test_rows_without_variance_have_the_gradient_of_their_mean_alone(rows: int, form: str) -> None:
    """One row, duplicates, and zero rows: a constant covariance term, no NaN in either derivative."""
    _, cov = real_side(2, 9, form)
    for value in (randn(2, 1, 9), torch.zeros(2, 1, 9).double()):
        x = leaf(value.expand(2, rows, 9))
        loss = covariance_alignment(x, cov)
        torch.testing.assert_close(loss, dense_covariance(cov).square().sum((1, 2)))
        (first,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
        assert first.detach().abs().max() < 1e-12
        assert bool(torch.isfinite(torch.autograd.grad(first.sum(), x)[0]).all())


def test_known_square_norm_is_used() -> None:
    x, (mean, cov) = randn(3, 4, 9), real_side(3, 9)
    square = dense_covariance(cov).square().sum((1, 2))
    expected = g.gaussian_alignment(x, mean, cov)
    torch.testing.assert_close(g.gaussian_alignment(x, mean, cov, class_cov_square=square), expected)
    shifted = covariance_alignment(x, cov, square + 1) - covariance_alignment(x, cov)
    torch.testing.assert_close(shifted, torch.ones(3).double())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3)])
def test_double_backward(shape: tuple[int, int, int], form: str) -> None:
    x = leaf(randn(*shape))
    mean, cov = real_side(shape[0], shape[2], form)
    assert torch.autograd.gradcheck(lambda x: g.gaussian_alignment(x, mean, cov), x)
    assert torch.autograd.gradgradcheck(lambda x: g.gaussian_alignment(x, mean, cov), x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 6, 20), (2, 20, 6)])
def test_half_features_are_reduced_in_float32_even_under_autocast(
    shape: tuple[int, int, int], dtype: torch.dtype, form: str
) -> None:
    x = randn(*shape, dtype=dtype)
    mean, cov = real_side(shape[0], shape[2], form)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = g.gaussian_alignment(x, mean.float(), in_float32(cov))
    assert loss.dtype is torch.float32
    truth = g.gaussian_alignment_reference(x.double(), mean, cov)
    torch.testing.assert_close(loss.double(), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("form", ["dense", "packed", "low_rank"])
@pytest.mark.parametrize("shape", [(2, 4, 9), (2, 9, 4)])
def test_gradient_keeps_float32_when_taken_under_autocast(
    shape: tuple[int, int, int], form: str, compiled: bool
) -> None:
    mean, cov = real_side(shape[0], shape[2], form)
    mean, cov = mean.float(), in_float32(cov)

    def step(x: Tensor) -> tuple[Tensor]:
        return (g.gaussian_alignment(x, mean, cov) + covariance_regularizer(x),)

    x = randn(*shape).float()
    expected = with_gradient(step, x)[1]
    run = torch.compile(step, backend="aot_eager", fullgraph=True) if compiled else step
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient = with_gradient(run, x)[1]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=16 * EPS32 * float(expected.abs().max()))


def test_strided_features_and_half_storage_of_the_class() -> None:
    x = randn(4, 3, 9).transpose(0, 1)  # [3, 4, 9]
    mean, cov = real_side(3, 9, "packed")
    assert isinstance(cov, Tensor)
    stored = cov.bfloat16()
    expected = g.gaussian_alignment_reference(x, mean, unpack_symmetric(stored.double()))
    torch.testing.assert_close(g.gaussian_alignment(x, mean, stored), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(3, 4, 9), (3, 9, 4)])
def test_stride_zero_gradients(shape: tuple[int, int, int], form: str) -> None:
    mean, cov = real_side(shape[0], shape[2], form)
    results = []
    for function in (g.gaussian_alignment, g.gaussian_alignment_reference):
        x = leaf(randn(*shape))
        function(x, mean, cov).sum().backward()  # the gradient of the sum is one number, expanded
        results.append(x.grad)
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("form", ["dense", "packed", "low_rank"])
@pytest.mark.parametrize("dim", [33, 5])
def test_compiles_as_one_graph_for_any_number_of_rows(dim: int, form: str) -> None:
    mean, cov = real_side(2, dim, form)
    module = g.GaussianAlignment(mean, cov, unbiased=True)
    torch._dynamo.reset()  # forget what varied in other tests
    counter = CompileCounterWithBackend("aot_eager")

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        return g.gaussian_alignment(x, mean, cov), module(x)

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for n in (10, 12, 7, 20, 31):  # the second shows that n varies; all of them are less than D, or none
        x = randn(2, n, dim)
        for a, b in zip(with_gradient(compiled, x), with_gradient(step, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert counter.frame_count == 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 7, 3)])
def test_module_is_the_function_with_targets_that_stay(shape: tuple[int, int, int], form: str) -> None:
    mean, cov = real_side(shape[0], shape[2], form)
    module = g.GaussianAlignment(mean, cov, 7.0, "dim", unbiased=True)
    x = randn(*shape)
    expected = with_gradient(
        lambda x: (g.gaussian_alignment(x, mean, cov, 7.0, normalize="dim", unbiased=True),), x
    )
    for a, b in zip(with_gradient(lambda x: (module(x),), x), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not module.state_dict()
    assert not list(module.parameters())
    assert all(t.dtype is torch.float32 for t in module.float().buffers())
    torch.testing.assert_close(module(x.float()).double(), expected[0], rtol=1e-5, atol=1e-5)
    assert ("low rank" in repr(module)) is not isinstance(cov, Tensor)


def test_module_computes_the_norm_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = g.GaussianAlignment(*real_side(2, 5))
    monkeypatch.setattr(g, "square_norm", lambda *_: pytest.fail("computed again"))
    module(randn(2, 3, 5))


def test_bad_input_is_named() -> None:
    x, mean, cov = torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match=r"features\[None\].*\(3, 4\)"):
        g.gaussian_alignment(x[0], mean, cov)
    with pytest.raises(ValueError, match=r"class_mean must be \(2, 4\).*\(1, 4\)"):
        g.gaussian_alignment(x, mean[:1], cov)
    with pytest.raises(ValueError, match=r"class_mean must be \(2, 4\).*\(2, 3\)"):
        g.gaussian_alignment(x, mean[:, :3], cov)
    for class_cov in (cov[:, 0], cov[:1], cov[:, :3]):
        with pytest.raises(ValueError, match=r"class_cov must be \[2, 4, 4\] or packed \[2, 10\], got \("):
            g.gaussian_alignment(x, mean, class_cov)
    with pytest.raises(ValueError, match=r"class_cov.factor must be \[2, 4, r\], got \(2, 3, 4\)"):
        g.gaussian_alignment(x, mean, LowRankCovariance(cov[:, :3]))
    with pytest.raises(ValueError, match=r"class_cov.diagonal must be \[2, 4\], got \(2, 3\)"):
        g.gaussian_alignment(x, mean, LowRankCovariance(cov, mean[:, :3]))
    with pytest.raises(ValueError, match=r"class_cov_square must be \[2\]"):
        g.gaussian_alignment(x, mean, cov, class_cov_square=torch.zeros(1))
    with pytest.raises(ValueError, match=r"normalize must be .*'rows'"):
        g.gaussian_alignment(x, mean, cov, normalize="rows")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"class_mean must be \[G, D\], got \(4,\)"):
        g.GaussianAlignment(mean[0], cov)
    with pytest.raises(ValueError, match=r"class_cov must be \[2, 4, 4\].*\(2, 3, 4\)"):
        g.GaussianAlignment(mean, cov[:, :3])
