"""Cosine matrix and closed-form cosine sums against the written-out definition and torchmetrics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.pairwise import pairwise_cosine_similarity as torchmetrics_cosine

from fastdd_kernels.cosine import (
    Reduction,
    cosine_sum,
    cosine_sum_reference,
    intra_class_cosine,
    pairwise_cosine_similarity,
    unit_rows,
)

EPS32 = torch.finfo(torch.float32).eps
SHAPES = [(1, 1, 1, 1), (1, 4, 4, 5), (3, 7, 2, 33), (2, 3, 9, 4), (4, 1, 6, 17)]  # G, n, m, D


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


@pytest.mark.parametrize(("n", "m"), [(5, None), (5, 3), (3, 5), (4, 4), (1, 1)])
@pytest.mark.parametrize("reduction", [None, "none", "mean", "sum"])
@pytest.mark.parametrize("zero_diagonal", [None, True, False])
def test_matrix_is_torchmetrics(
    n: int, m: int | None, reduction: Reduction, zero_diagonal: bool | None
) -> None:
    x, y = leaf(randn(n, 6)), None if m is None else leaf(randn(m, 6, seed=1))
    ours = pairwise_cosine_similarity(x, y, reduction, zero_diagonal)
    theirs = torchmetrics_cosine(x, y, reduction, zero_diagonal)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14 * (m or n))
    inputs = [x] if y is None else [x, y]
    upstream = randn(*ours.shape, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13 * (m or n))


@pytest.mark.parametrize(("G", "n", "m", "D"), SHAPES)
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_sum_and_gradient(G: int, n: int, m: int, D: int, exclude: bool, own: bool) -> None:
    x = leaf(randn(G, n, D))
    y = None if own else leaf(randn(G, m, D, seed=1))
    ours = cosine_sum(x, y, exclude_diagonal=exclude)
    reference = cosine_sum_reference(x, y, exclude)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-14 * n * max(n, m))
    inputs = [x] if y is None else [x, y]
    upstream = randn(G, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(reference, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12 * max(n, m))


def test_float32_error_stays_in_rounding() -> None:
    x, y = randn(3, 40, 512), randn(3, 900, 512, seed=1) + 1
    ours = cosine_sum(x.float(), y.float()).double()
    # Every cosine may be off by a few units in the last place, and there are n m of them.
    budget = 4 * EPS32 * 40 * 900
    assert (ours - cosine_sum_reference(x.float().double(), y.float().double())).abs().max() < budget
    alike = cosine_sum(y.float(), exclude_diagonal=True).double()
    expected = cosine_sum_reference(y.float().double(), exclude_diagonal=True)
    assert (alike - expected).abs().max() < 4 * EPS32 * 900 * 900


def test_precomputed_unit_sum() -> None:
    x, y = randn(2, 3, 8), randn(2, 5, 8, seed=1)
    padded = torch.cat((y, torch.zeros(2, 4, 8, dtype=y.dtype)), 1)
    fixed = unit_rows(padded).sum(1)
    torch.testing.assert_close(cosine_sum(x, y_unit_sum=fixed), cosine_sum(x, y), rtol=1e-13, atol=1e-13)


def test_zero_rows_are_zero_with_zero_gradient() -> None:
    x, y = randn(1, 5, 6), randn(1, 4, 6, seed=1)
    x[0, [1, 4]], y[0, 0] = 0, 0
    x = leaf(x)
    kept = [0, 2, 3]
    for exclude in (False, True):
        total = cosine_sum(x, exclude_diagonal=exclude)
        expected = cosine_sum_reference(x[:, kept], exclude_diagonal=exclude)
        torch.testing.assert_close(total, expected, rtol=0, atol=1e-13)
        (grad,) = torch.autograd.grad(total, x)
        assert grad.isfinite().all()
        assert (grad[0, [1, 4]] == 0).all()
        assert (grad[0, kept] != 0).any()
    matrix = pairwise_cosine_similarity(x[0], y[0])
    assert (matrix[[1, 4]] == 0).all()
    assert (matrix[:, 0] == 0).all()
    (grad,) = torch.autograd.grad(matrix.sum(), x)
    assert grad.isfinite().all()
    assert (grad[0, [1, 4]] == 0).all()


def test_second_derivative() -> None:
    x, y = leaf(randn(2, 3, 4)), leaf(randn(2, 5, 4, seed=1))
    assert torch.autograd.gradgradcheck(lambda a, b: cosine_sum(a, b, exclude_diagonal=True), (x, y))
    assert torch.autograd.gradgradcheck(pairwise_cosine_similarity, (x[0],))


def test_views_and_empty_sides() -> None:
    x, y = randn(6, 3, 9).transpose(0, 1)[..., ::2], randn(3, 1, 5, seed=1).expand(3, 4, 5)
    torch.testing.assert_close(
        cosine_sum(x, y), cosine_sum(x.contiguous(), y.contiguous()), rtol=0, atol=1e-13
    )
    assert (cosine_sum(x[:, :0], y) == 0).all()
    assert (cosine_sum(x, y[:, :0], exclude_diagonal=True) == 0).all()
    assert pairwise_cosine_similarity(x[0], y[0, :0]).shape == (6, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_in_float32_out(dtype: torch.dtype) -> None:
    x = leaf(randn(2, 3, 8, dtype=dtype))
    out = cosine_sum(x)
    assert out.dtype == torch.float32
    assert pairwise_cosine_similarity(x[0]).dtype == torch.float32
    torch.testing.assert_close(out, cosine_sum(x.float()), rtol=0, atol=0)
    assert torch.autograd.grad(out.sum(), x)[0].dtype == dtype


def test_autocast_does_not_reach_in() -> None:
    x = randn(6, 64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = pairwise_cosine_similarity(x)
    torch.testing.assert_close(inside, pairwise_cosine_similarity(x), rtol=0, atol=0)


def test_nan_is_not_hidden() -> None:
    x = randn(1, 3, 4)
    x[0, 1, 2] = torch.nan
    assert cosine_sum(x).isnan().all()
    assert pairwise_cosine_similarity(x[0])[0, 1].isnan()


def test_intra_class_cosine_golden() -> None:
    rows = torch.tensor([[1.0, 2, 2], [2, 1, 2]], dtype=torch.float64)
    torch.testing.assert_close(intra_class_cosine(rows), torch.tensor(8 / 9, dtype=torch.float64))
    assert intra_class_cosine(torch.ones(50, 3)).item() == pytest.approx(1, abs=4 * EPS32)


def test_compiles_in_one_graph() -> None:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        sums = cosine_sum(x, exclude_diagonal=True) - cosine_sum(x, y, exclude_diagonal=True)
        return sums.sum() + pairwise_cosine_similarity(x[0], y[0], "mean").sum() + intra_class_cosine(x[1])

    x, y = leaf(randn(2, 4, 8, dtype=torch.float32)), randn(2, 5, 8, seed=1, dtype=torch.float32)
    eager, compiled = loss(x, y), torch.compile(loss, fullgraph=True, backend="aot_eager")(x, y)
    torch.testing.assert_close(compiled, eager, rtol=0, atol=1e-5)
    expected, grad = (torch.autograd.grad(value, x)[0] for value in (eager, compiled))
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-6)


def test_bad_input_is_named() -> None:
    x = randn(2, 3, 4)
    with pytest.raises(ValueError, match=r"x must be \[G, n, D\], got \(3, 4\)"):
        cosine_sum(x[0])
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\)"):
        cosine_sum(x, x[..., :3])
    with pytest.raises(ValueError, match="y_unit_sum stands in"):
        cosine_sum(x, x, y_unit_sum=x[:, 0])
    with pytest.raises(ValueError, match=r"y_unit_sum must be \(2, 4\)"):
        cosine_sum(x, y_unit_sum=x[:, 0, :3])
    with pytest.raises(ValueError, match="'max'"):
        pairwise_cosine_similarity(x[0], reduction="max")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        cosine_sum(x.long())
    with pytest.raises(ValueError, match="at least 2 rows"):
        intra_class_cosine(x[0, :1])
