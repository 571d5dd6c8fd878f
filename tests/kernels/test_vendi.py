"""Vendi score: golden values, the definition, the vendi-score package, bounds and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastdd_kernels import vendi as module
from fastdd_kernels.vendi import vendi_score, vendi_score_reference

S = torch.tensor([[1.0, 2, 2], [2, 1, 2]], dtype=torch.float64)
R = torch.tensor([[2.0, 2, 1], [0, 3, 4], [1, 0, 0], [3, 0, 4]], dtype=torch.float64)
ORDERS = (0.0, 0.5, 1.0, 2.0, 3.5, math.inf)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_golden() -> None:
    half = torch.tensor([[1, 0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    assert vendi_score(half).item() == pytest.approx(1.7547654, abs=6e-8)
    assert vendi_score(S).item() == pytest.approx(1.2393154, abs=6e-8)
    assert vendi_score(R).item() == pytest.approx(2.2834749, abs=6e-8)


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_are_reached_and_kept(q: float, dtype: torch.dtype) -> None:
    same, apart = torch.full((7, 5), 3.0, dtype=dtype), 2 * torch.eye(6, 9, dtype=dtype)
    assert vendi_score(same, q).item() == pytest.approx(1, abs=1e-6)
    assert vendi_score(apart, q).item() == pytest.approx(6, abs=1e-5)
    for x in (same, apart, randn(40, 3).to(dtype), randn(3, 40).to(dtype)):
        assert 1 <= vendi_score(x, q).item() <= x.shape[0]


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize(("n", "D"), [(1, 4), (5, 1), (12, 12), (7, 40), (90, 6)])
def test_definition(q: float, n: int, D: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 16)
    x = randn(n, D) + 0.2
    torch.testing.assert_close(vendi_score(x, q), vendi_score_reference(x, q), rtol=1e-11, atol=0)
    scaled = x * torch.arange(1, n + 1).unsqueeze(1)
    torch.testing.assert_close(vendi_score(scaled, q), vendi_score(x, q), rtol=1e-11, atol=0)


@pytest.mark.parametrize(("n", "D"), [(30, 8), (8, 30)])
def test_order_one_is_the_package(n: int, D: int) -> None:
    package = pytest.importorskip("vendi_score.vendi")
    x = randn(n, D)
    assert vendi_score(x).item() == pytest.approx(package.score_X(x.numpy()), rel=1e-10)


@pytest.mark.parametrize("q", [1.0, 1.5, math.inf])
@pytest.mark.parametrize(
    ("n", "D", "rank"), [(300, 270, 1), (300, 270, 10), (260, 400, 260), (600, 256, 256)]
)
def test_large_kernels_of_float32_rows_are_within_the_stated_error(
    q: float, n: int, D: int, rank: int
) -> None:
    x = (randn(n, rank) @ randn(rank, D, seed=1)).float()
    x[-20:] *= 1e-25  # rows whose squares float32 does not hold
    for rows in (x[:-20].contiguous(), x):
        score = vendi_score(rows, q)
        assert score.dtype == torch.float32
        assert score.item() == pytest.approx(vendi_score(rows.double(), q).item(), rel=1e-4)


def test_only_large_float32_rows_without_a_gradient_take_float32_eigenvalues() -> None:
    large, narrow = randn(300, 260).float(), randn(300, 200).float()
    for x in (large, narrow, large.double(), large.clone().requires_grad_()):
        for q in (0.5, 1.0):
            single = x is large and q == 1.0
            assert module._eigenvalues(x, q).dtype == (torch.float32 if single else torch.float64)


@pytest.mark.parametrize("q", [1.0, 2.0])
@pytest.mark.parametrize(("n", "D"), [(6, 9), (9, 4)])
def test_gradient(q: float, n: int, D: int) -> None:
    x = randn(n, D).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: vendi_score(a, q), (x,))


def test_zero_rows_are_one_kind() -> None:
    x = torch.cat((randn(5, 8), torch.zeros(3, 8, dtype=torch.float64)))
    stand_in = torch.nn.functional.pad(x, (0, 1))
    stand_in[5:, 8] = 1
    for q in ORDERS:
        torch.testing.assert_close(vendi_score(x, q), vendi_score_reference(stand_in, q), rtol=1e-11, atol=0)
    x = x.requires_grad_()
    (grad,) = torch.autograd.grad(vendi_score(x, 2), x)
    assert grad.isfinite().all()
    assert (grad[5:] == 0).all()
    assert (grad[:5] != 0).any()


def test_order_two_in_half_and_compiled() -> None:
    x = randn(6, 9).half().requires_grad_()
    eager = vendi_score(x, 2)
    assert eager.dtype == torch.float32
    compiled = torch.compile(lambda a: vendi_score(a, 2), fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=0)
    truth = vendi_score_reference(x.detach().double(), 2).item()
    assert eager.item() == pytest.approx(truth, rel=1e-6)
    ours, theirs = (torch.autograd.grad(value, x)[0] for value in (compiled, eager))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"at least one row, got x \(0, 4\)"):
        vendi_score(randn(0, 4))
    with pytest.raises(ValueError, match=r"x must be \[n, D\]"):
        vendi_score(randn(4))
    for q in (-1.0, math.nan):
        with pytest.raises(ValueError, match="q must be a number >= 0"):
            vendi_score(randn(3, 4), q)
    with pytest.raises(TypeError, match="int64"):
        vendi_score(randn(3, 4).long())


@pytest.mark.parametrize(("rows", "place"), [(40, "cpu"), (3000, "cuda")])
def test_small_matrices_of_a_gpu_give_their_eigenvalues_on_the_cpu(rows: int, place: str) -> None:
    class Eigenvalues(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if "eigh" in str(func):
                places.append(args[0].device.type)
            return func(*args, **(kwargs or {}))

    places: list[str] = []
    with FakeTensorMode(), Eigenvalues():
        assert vendi_score(torch.empty(rows, 4000, device="cuda")).device.type == "cuda"
    assert places == [place]
