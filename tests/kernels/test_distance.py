"""Distance matrix and distance sums against the written-out definition and torchmetrics."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import TF32_ERROR, leaf, point_sets, randn
from torch import Tensor
from torchmetrics.functional.pairwise import pairwise_euclidean_distance as torchmetrics_distance

from fastdd_kernels import pair_tile, pairs, product
from fastdd_kernels.cosine import Reduction
from fastdd_kernels.distance import distance_sum, distance_sum_reference, pairwise_euclidean_distance

SHAPES = [
    (1, 1, 1, 1),
    (1, 4, 4, 5),
    (3, 7, 2, 33),
    (2, 3, 50, 4),
    (1, 40, 50, 3),
    (4, 1, 6, 17),
]  # G, n, m, D


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 rows by the 16 columns that are the least, so that even small inputs need several."""
    monkeypatch.setattr(pairs, "_PAIRS", 64)


# Not among them: one set with its diagonal kept, where torchmetrics takes the root of rounding noise.
@pytest.mark.parametrize(
    ("n", "m", "zero_diagonal"),
    [(5, None, None), (5, None, True)]
    + [(n, m, keep) for n, m in [(5, 3), (3, 5), (4, 4), (1, 1)] for keep in (None, True, False)],
)
@pytest.mark.parametrize("reduction", [None, "none", "mean", "sum"])
def test_matrix_is_torchmetrics(
    n: int, m: int | None, reduction: Reduction, zero_diagonal: bool | None
) -> None:
    x, y = leaf(randn(n, 6)), None if m is None else leaf(randn(m, 6, seed=1))
    ours = pairwise_euclidean_distance(x, y, reduction, zero_diagonal)
    theirs = torchmetrics_distance(x, y, reduction, zero_diagonal)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    inputs = [x] if y is None else [x, y]
    upstream = randn(*ours.shape, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        # Its own mask leaves 0 * inf behind on a diagonal that was not cut: only ours is finite.
        assert a.isfinite().all()
        torch.testing.assert_close(a, torch.where(b.isfinite(), b, a), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("G", "n", "m", "D"), SHAPES)
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_sum_and_gradient(G: int, n: int, m: int, D: int, exclude: bool, weighted: bool) -> None:
    x, y = leaf(randn(G, n, D)), leaf(randn(G, m, D, seed=1))
    weight = randn(G, m, seed=3).abs() if weighted else None
    ours = distance_sum(x, y, exclude_diagonal_pairs=exclude, y_weight=weight)
    reference = distance_sum_reference(x, y, exclude, weight)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)
    upstream = randn(G, seed=2)
    for a, b in zip(
        torch.autograd.grad(ours, (x, y), upstream),
        torch.autograd.grad(reference, (x, y), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("small_chunks")
def test_sum_within_one_set() -> None:
    x = leaf(randn(2, 40, 5))
    ours = distance_sum(x)
    apart = ~torch.eye(40, dtype=torch.bool)
    reference = torch.stack([(rows[:, None] - rows[None])[apart].norm(dim=1).sum() for rows in x])
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    upstream = randn(2, seed=2)
    (a,), (b,) = (torch.autograd.grad(value, x, upstream) for value in (ours, reference))
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def clouds(D: int) -> dict[str, Tensor]:
    tight = randn(1, D, seed=4).abs() * 2 + 0.1 * randn(60, D)
    outlier = torch.cat((randn(59, D), 1000 * torch.ones(1, D, dtype=torch.float64)))
    return {"relu": randn(60, D).relu(), "tight": tight, "shifted": 10 + randn(60, D), "outlier": outlier}


@pytest.mark.parametrize("D", [3, 64, 2048])
@pytest.mark.parametrize("kind", ["relu", "tight", "shifted", "outlier"])
def test_float32_error_contract(D: int, kind: str) -> None:
    x = clouds(D)[kind].float()
    # Twins: rows that repeat others exactly, and rows a little beside them.
    x = torch.cat((x, x[:5], x[:5] * (1 + 1e-6)))
    truth = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    size = (x - x.mean(0)).double().square().sum(1)
    bound = 5e-7 * (size[:, None] + size[None])
    ours = pairwise_euclidean_distance(x).double().square()
    assert ((ours - truth).abs() <= bound).all()
    # d^2 within the bound makes each distance, and so their sum, at worst sqrt(bound) wrong.
    total = distance_sum(x[None], x[None].clone()).double().item()
    worst = torch.minimum(bound.sqrt(), bound / truth.sqrt()).nan_to_num(0).sum().item()
    assert abs(total - truth.sqrt().sum().item()) <= worst


@pytest.mark.parametrize("near", [0, 3, 40])
def test_only_rows_with_near_pairs_take_a_product_in_float64(
    near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One group on a CPU: a float32 product serves the far pairs, and each pair has the bound of its own."""
    x, y = randn(40, 64, dtype=torch.float32), randn(60, 64, seed=1, dtype=torch.float32)
    x[:near] = y[:near] + 1e-4 * x[:near]
    exact, sizes = pair_tile.exact_product, []

    def counted(a: Tensor, b: Tensor, precision: str) -> Tensor:
        sizes.append(len(a))
        return exact(a, b, precision)

    monkeypatch.setattr(pair_tile, "exact_product", counted)
    found = pairwise_euclidean_distance(x, y).double().square()
    total = distance_sum(x[None], y[None]).double()
    assert sizes == ([near, near] if near else [])
    truth = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    center = y.double().mean(0)
    bound = (x - center).square().sum(1)[:, None] + (y - center).square().sum(1)
    assert ((found - truth.square()).abs() <= 5e-7 * bound).all()
    torch.testing.assert_close(total[0], truth.sum(), rtol=5e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coincident_points_pull_nowhere(dtype: torch.dtype) -> None:
    y = randn(1, 9, 300, dtype=dtype) + 3
    x = leaf(torch.cat((y[:, :3], torch.zeros_like(y[:, :1])), 1))
    (grad,) = torch.autograd.grad(distance_sum(x, y).sum(), x)
    far = leaf(x.detach().double())
    others = [[j for j in range(9) if j != i] for i in range(3)] + [list(range(9))]
    expected = sum((far[0, i] - y[0, js].double()).norm(dim=1).sum() for i, js in enumerate(others))
    (truth,) = torch.autograd.grad(expected, far)
    tolerance = 20 * torch.finfo(dtype).eps * 9
    torch.testing.assert_close(grad.double(), truth, rtol=0, atol=tolerance)
    same = leaf(y[:, :1].expand(1, 6, 300))
    value = distance_sum(same)
    assert value.item() == 0
    assert (torch.autograd.grad(value.sum(), same)[0] == 0).all()
    (grad,) = torch.autograd.grad(pairwise_euclidean_distance(same[0], zero_diagonal=False).sum(), same)
    assert (grad == 0).all()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("exclude", [False, True])
def test_second_derivative(exclude: bool) -> None:
    x, y, weight = leaf(randn(2, 3, 4)), leaf(randn(2, 20, 4, seed=1)), randn(2, 20, seed=2).abs()

    def total(a: Tensor, b: Tensor) -> Tensor:
        return distance_sum(a, b, exclude_diagonal_pairs=exclude, y_weight=weight)

    assert torch.autograd.gradgradcheck(total, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(distance_sum, (x,))
    assert torch.autograd.gradgradcheck(pairwise_euclidean_distance, (x[0], y[0]), fast_mode=True)
    torch.testing.assert_close(
        torch.func.grad(lambda a: total(a, y).sum())(x), torch.autograd.grad(total(x, y).sum(), x)[0]
    )


def test_nothing_of_size_n_by_m_is_kept() -> None:
    n = m = 300
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    x, y = leaf(randn(1, n, 3)), randn(1, m, 3, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        distance_sum(x, y)
    assert kept
    assert sum(kept) <= 4 * (n + m) * 3


@pytest.mark.usefixtures("small_chunks")
def test_views_padding_and_empty_sides() -> None:
    x, y = randn(6, 3, 9).transpose(0, 1)[..., ::2], randn(3, 1, 5, seed=1).expand(3, 40, 5)
    torch.testing.assert_close(distance_sum(x, y), distance_sum(x.contiguous(), y.contiguous()))
    padded = torch.cat((y, 1e6 * torch.ones_like(y)), 1)
    weight = torch.ones(3, 80).masked_fill(torch.arange(80) >= 40, 0)
    torch.testing.assert_close(distance_sum(x, padded, y_weight=weight), distance_sum(x, y))
    for a, b in ((x[:, :0], y), (x, y[:, :0])):
        a = leaf(a)
        value = distance_sum(a, b)
        assert (value == 0).all()
        assert (torch.autograd.grad(value.sum(), a)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_in_float32_out(dtype: torch.dtype) -> None:
    x, y = leaf(randn(2, 3, 8, dtype=dtype)), randn(2, 4, 8, seed=1, dtype=dtype)
    out = distance_sum(x, y)
    assert out.dtype == pairwise_euclidean_distance(x[0], y[0]).dtype == torch.float32
    torch.testing.assert_close(out, distance_sum(x.float(), y.float()), rtol=0, atol=0)
    assert torch.autograd.grad(out.sum(), x)[0].dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(distance_sum(x.float(), y.float()), out, rtol=0, atol=0)


def test_nan_is_not_hidden() -> None:
    x, y = randn(1, 3, 4), randn(1, 5, 4, seed=1)
    x[0, 1, 2] = torch.nan
    assert distance_sum(x, y).isnan().all()
    assert pairwise_euclidean_distance(x[0], y[0])[1].isnan().all()


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_in_one_graph(backend: str) -> None:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        both = distance_sum(x.sin(), y, exclude_diagonal_pairs=True) + 0.5 * distance_sum(x)
        return both.sum() + pairwise_euclidean_distance(x[0], y[0], "mean").sum()

    x, y = leaf(randn(2, 4, 8, dtype=torch.float32)), leaf(randn(2, 5, 8, seed=1, dtype=torch.float32))
    eager, compiled = loss(x, y), torch.compile(loss, fullgraph=True, backend=backend)(x, y)
    torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=0)
    for a, b in zip(torch.autograd.grad(compiled, (x, y)), torch.autograd.grad(eager, (x, y)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_bad_input_is_named() -> None:
    x = randn(2, 3, 4)
    with pytest.raises(ValueError, match=r"x must be \[G, n, D\], got \(3, 4\)"):
        distance_sum(x[0])
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\)"):
        distance_sum(x, x[..., :3])
    with pytest.raises(ValueError, match=r"y_weight must be \(2, 3\)"):
        distance_sum(x, y_weight=x[..., 0, :2])
    with pytest.raises(ValueError, match="'low'"):
        distance_sum(x, precision="low")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        distance_sum(x, x.long())
    with pytest.raises(ValueError, match="'max'"):
        pairwise_euclidean_distance(x[0], reduction="max")  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [33, 512, 2048])
@pytest.mark.parametrize("kind", ["relu", "tight", "shifted"])
def test_the_stated_error_of_fast_distances_is_that_of_operands_in_tf32(kind: str, dim: int) -> None:
    """What the tensor cores of a GPU would give, whose sums are exact beside that rounding."""
    x = point_sets(dim)[kind].float()
    x = (x - x.mean(0)).double()
    rounded = product._parts(x.float(), "tf32")[0].double()
    size = x.square().sum(1)
    scale = size[:, None] + size
    error = (scale - 2 * rounded @ rounded.T - torch.cdist(x, x).square()).abs() / scale
    assert float(error.max()) < TF32_ERROR
    if dim == 33:
        assert float(error.max()) > 1e-4
