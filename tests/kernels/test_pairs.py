"""The sweep over pairs: sums and gradients of both orders against the definition, on each implementation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from kernel_checks import EPS32, leaf, randn
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import dispatch, pair_tile
from fastdd_kernels import pairs as module
from fastdd_kernels.pairs import Kind, pair_sums, pair_sums_reference

SHAPES = [(1, 1, 1, 1), (3, 7, 2, 33), (2, 33, 130, 7), (1, 10, 140, 40), (2, 1, 6, 17)]  # G, n, m, D


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 rows by the 16 columns that are the least."""
    monkeypatch.setattr(module, "_PAIRS", 64)


def gradients(sums: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(sums, inputs, randn(*sums.shape, seed=9, dtype=torch.float32).to(sums))


@pytest.mark.parametrize("kind", ["distance", "absolute"])
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("G", "n", "m", "D"), SHAPES)
def test_sums_and_gradients(
    G: int, n: int, m: int, D: int, weighted: bool, exclude: bool, kind: Kind, device: torch.device
) -> None:
    x, y = randn(G, n, D), randn(G, m, D, seed=1)
    weight = randn(G, m, seed=3) if weighted else None
    reference = leaf(x.float().double()), leaf(y.float().double())
    truth = pair_sums_reference(
        *reference, None if weight is None else weight.float().double(), kind, exclude
    )
    ours = leaf(x.float().to(device)), leaf(y.float().to(device))
    single = None if weight is None else weight.float().to(device)
    sums = pair_sums(*ours, y_weight=single, kind=kind, exclude_diagonal=exclude)
    size = D**0.5 * m
    torch.testing.assert_close(sums.double().cpu(), truth, rtol=0, atol=8 * EPS32 * size)
    for a, b in zip(gradients(sums, *ours), gradients(truth, *reference), strict=True):
        # A gradient is a sum of n or m vectors; those of near pairs have the error of d^2 times s / d^2.
        torch.testing.assert_close(a.double().cpu(), b, rtol=0, atol=64 * EPS32 * max(n, m) * max(1, 4 / D))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["distance", "absolute"])
@pytest.mark.parametrize("exclude", [False, True])
def test_blocks_are_put_together(kind: Kind, exclude: bool) -> None:
    x, y, weight = leaf(randn(3, 9, 5)), leaf(randn(3, 40, 5, seed=1)), randn(3, 40, seed=2)
    assert len(list(module._blocks(x, y))) == 3 * 3 * 3
    sums = pair_sums(x, y, y_weight=weight, kind=kind, exclude_diagonal=exclude)
    truth = pair_sums_reference(x, y, weight, kind, exclude_diagonal=exclude)
    torch.testing.assert_close(sums, truth, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(sums, x, y), gradients(truth, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["distance", "absolute"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 2000), (200, 3, 5, 4), (2, 3000, 70, 3)])
def test_blocks_cover_every_pair_once(
    shape: tuple[int, ...], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAIRS", 4096)
    monkeypatch.setattr(module, "_CACHED", 1000)
    G, n, m, D = shape
    seen = torch.zeros(G, n, m)
    for groups, rows, columns in module._blocks(torch.empty(G, n, D), torch.empty(G, m, D)):
        part = seen[groups, rows, columns]
        part += 1
        assert part.numel() <= max(4096, 16 * 256)
    assert (seen == 1).all()


def test_one_group_on_a_cpu_is_put_together_from_large_blocks() -> None:
    x, y = leaf(randn(1, 1100, 3)), leaf(randn(1, 4100, 3, seed=1))
    blocks = list(module._blocks(x, y))
    assert len(blocks) == 2 * 3
    assert all(columns.start % 16 == 0 for _, _, columns in blocks)
    sums, truth = pair_sums(x, y), torch.cdist(x, y).sum(2)
    torch.testing.assert_close(sums, truth, rtol=1e-12, atol=0)
    for a, b in zip(gradients(sums, x, y), gradients(truth, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_only_groups_with_near_pairs_take_a_product_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = randn(5, 4, 64, dtype=torch.float32), randn(5, 30, 64, seed=1, dtype=torch.float32)
    x[3, 2] = y[3, 7] + 1e-4
    exact, groups = pair_tile.exact_product, []

    def counted(a: Tensor, b: Tensor, precision: str) -> Tensor:
        groups.append(len(a))
        return exact(a, b, precision)

    monkeypatch.setattr(pair_tile, "exact_product", counted)
    sums = pair_sums(x, y)
    assert groups == [1]
    truth = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").sum(2)
    torch.testing.assert_close(sums.double(), truth, rtol=1e-5, atol=0)


def test_near_pairs_are_exact_and_twins_coincide(device: torch.device) -> None:
    y = randn(1, 60, 300, dtype=torch.float32)
    x = torch.cat((y[:, :5], y[:, :5] * (1 + 1e-3), randn(1, 5, 300, seed=1, dtype=torch.float32)), 1)
    a = leaf(x.to(device))
    sums = pair_sums(a, y.to(device))
    (grad,) = torch.autograd.grad(sums.sum(), a)
    difference = x.double().unsqueeze(2) - y.double().unsqueeze(1)
    distance = difference.norm(dim=-1)
    size = x.double().square().sum(-1).unsqueeze(2) + y.double().square().sum(-1).unsqueeze(1)
    bound = torch.minimum((5e-7 * size).sqrt(), 5e-7 * size / distance).nan_to_num(0).sum(-1)
    assert ((sums.double().cpu() - distance.sum(-1)).abs() <= bound + 60 * 25 * EPS32).all()
    apart = distance > 1e-6
    truth = torch.where(apart.unsqueeze(-1), difference / distance.unsqueeze(-1), 0.0).sum(2)
    # 1e-3 apart, d^2 = 3e-4 of 600: known to a few percent at worst, and only that one vector of 60
    torch.testing.assert_close(grad.double().cpu()[:, :5], truth[:, :5], rtol=0, atol=1e-4)
    torch.testing.assert_close(grad.double().cpu()[:, 10:], truth[:, 10:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["distance", "absolute"])
def test_strides_nan_and_empty_sides(kind: Kind, device: torch.device) -> None:
    x = randn(6, 3, 9, dtype=torch.float32).to(device).transpose(0, 1)[..., ::2]
    y = randn(3, 1, 5, seed=1, dtype=torch.float32).to(device).expand(3, 40, 5)
    expected = pair_sums(x.contiguous(), y.contiguous(), kind=kind)
    torch.testing.assert_close(pair_sums(x, y, kind=kind), expected)
    broken = x.clone()
    broken[1, 2, 3] = torch.nan
    assert pair_sums(broken, y, kind=kind).isnan().nonzero().tolist() == [[1, 2]]
    for a, b in ((x[:, :0], y), (x, y[:, :0]), (x[:0], y[:0])):
        a = leaf(a)
        sums = pair_sums(a, b, kind=kind)
        assert sums.shape == a.shape[:2]
        assert not sums.any()
        assert not torch.autograd.grad(sums.sum(), a)[0].any()


@pytest.mark.parametrize("kind", ["distance", "absolute"])
@pytest.mark.parametrize("exclude", [False, True])
def test_two_runs_are_bitwise_equal(kind: Kind, exclude: bool, device: torch.device) -> None:
    x, y = (leaf(randn(2, n, 40, seed=n, dtype=torch.float32).to(device)) for n in (5, 150))
    runs = []
    for _ in range(2):
        sums = pair_sums(x, y, kind=kind, exclude_diagonal=exclude)
        runs.append((sums, *gradients(sums, x, y)))
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["distance", "absolute"])
@pytest.mark.parametrize("exclude", [False, True])
def test_derivatives_of_both_orders(kind: Kind, exclude: bool) -> None:
    x, y, weight = leaf(randn(2, 5, 4)), leaf(randn(2, 20, 4, seed=1)), randn(2, 20, seed=2).abs()

    def sums(a: Tensor, b: Tensor) -> Tensor:
        return pair_sums(a, b, y_weight=weight, kind=kind, exclude_diagonal=exclude)

    assert torch.autograd.gradcheck(sums, (x, y))
    assert torch.autograd.gradgradcheck(sums, (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda a: pair_sums(a, a, kind=kind, exclude_diagonal=True), (x,))


def test_second_order_keeps_to_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAIRS", 1024)
    sizes: list[int] = []
    x, y = leaf(randn(1, 64, 3)), leaf(randn(1, 300, 3, seed=1))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
        (grad,) = torch.autograd.grad(pair_sums(x, y).sum(), x, create_graph=True)
        grad.square().sum().backward()
    assert x.grad is not None
    assert max(sizes) <= 2 * 1024  # never 64 * 300


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_once_for_any_number_of_rows(backend: str, device: torch.device) -> None:
    torch._dynamo.reset()  # or what other tests made variable is variable from the start
    counter = CompileCounterWithBackend(backend)

    def plain(x: Tensor, y: Tensor) -> Tensor:
        absolute = pair_sums(x, y.cos(), kind="absolute")
        return pair_sums(x.sin(), y, exclude_diagonal=True).sum() + absolute.square().sum()

    loss = torch.compile(plain, backend=counter, fullgraph=True)
    for n, m in ((3, 8), (4, 9), (5, 11), (7, 13)):
        x, y = (leaf(randn(2, k, 6, seed=k, dtype=torch.float32).to(device)) for k in (n, m))
        eager, compiled = plain(x, y), loss(x, y)
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=0)
        for a, b in zip(
            torch.autograd.grad(compiled, (x, y)), torch.autograd.grad(eager, (x, y)), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=64 * EPS32 * m)
    assert counter.frame_count <= 2  # the second makes the numbers of rows variables


@pytest.mark.parametrize(("need_x", "need_y"), [(True, False), (True, True), (False, False)])
def test_operator_is_well_formed(need_x: bool, need_y: bool, device: torch.device) -> None:
    x = randn(2, 4, 8, dtype=torch.float32).to(device).requires_grad_(need_x)
    y = randn(2, 5, 8, seed=1, dtype=torch.float32).to(device).requires_grad_(need_y)
    weight = torch.rand(2, 5, device=device)
    square = y.detach().square().sum(2)
    torch.library.opcheck(module._pair_sums_op, (x, y, square, weight, "distance", True, "high", need_x))


def test_rounding_to_tf32_keeps_nan(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's own NaN has all bits set: half of the last place more would make -0 of it."""
    if dispatch.HAS_TRITON:
        monkeypatch.setattr("fastdd_kernels.gpu.pairs.dot_precision", lambda precision: "tf32")
    x, y = randn(1, 2, 8, dtype=torch.float32), randn(1, 5, 8, seed=1, dtype=torch.float32)
    x.view(torch.int32)[0, 0, 3] = 0x7FFFFFFF
    sums = pair_sums(x.to(device), y.to(device), kind="absolute", precision="fast")[0]
    assert sums.isnan().tolist() == [True, False]


def test_tile_table_has_one_for_every_number_of_rows() -> None:
    triton_pairs = pytest.importorskip("fastdd_kernels.gpu.pairs")
    sizes = sorted(triton_pairs.TILES)
    assert all(small < large for small, large in pairwise(sizes))
    assert [triton_pairs.tiles(n, 64)["BLOCK_N"] for n in (1, 16, 17, 33, 5000)] == [16, 16, 32, 64, 128]
