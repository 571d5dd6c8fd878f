"""The float32 product under autocast, under the process-wide switches, and differentiated twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastdd_kernels import product as module
from fastdd_kernels.product import matmul, matmul_reference


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture(params=["tf32", "bf16"])
def reduced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Products as if the process allowed TF32 or bfloat16, on any processor: operands are rounded first."""
    kind: str = request.param
    plain = torch.matmul

    def rounded(x: Tensor) -> Tensor:
        return module._parts(x.contiguous(), kind)[0] if x.dtype == torch.float32 else x

    monkeypatch.setattr(module, "_reduced", lambda device: kind)
    monkeypatch.setattr(Tensor, "__matmul__", lambda a, b: plain(rounded(a), rounded(b)))
    return kind


@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (7, 33, 5), (64, 2048, 64), (0, 3, 2), (2, 0, 3)])
def test_high_is_float32_in_reduced_arithmetic(reduced: str, n: int, k: int, m: int) -> None:
    a, b = randn(n, k) + 3, randn(k, m, seed=1)
    size = a.double().abs() @ b.double().abs()
    error = (matmul(a, b).double() - matmul_reference(a, b)).abs()
    assert (error <= 4 * torch.finfo(torch.float32).eps * size * max(k, 1) ** 0.5).all()
    if k > 100:
        coarse = (matmul(a, b, "fast").double() - matmul_reference(a, b)).abs()
        assert float(coarse.max()) > 30 * float(error.max())  # the arithmetic is indeed reduced


def test_parts_add_up_and_are_kept_whole(reduced: str) -> None:
    x = randn(500) * torch.logspace(-20, 20, 500)
    parts = module._parts(x, reduced)
    assert torch.equal(sum(parts[1:], parts[0]), x)
    bits = {"tf32": 11, "bf16": 8}[reduced]
    for part in parts[:-1]:
        mantissa, _ = part.double().frexp()
        assert torch.equal(mantissa * 2**bits, (mantissa * 2**bits).round())


@pytest.fixture
def switches() -> Iterator[None]:
    yield
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.fp32_precision = "none"
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.usefixtures("switches")
def test_every_way_to_allow_reduced_arithmetic_is_seen() -> None:
    assert module._reduced("cuda") == module._reduced("cpu") == "ieee"
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert module._reduced("cuda") == "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    assert module._reduced("cpu") == "bf16"
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.fp32_precision = "tf32"
    assert module._reduced("cuda") == "tf32"


def test_autocast_touches_neither_forward_nor_backward() -> None:
    a, b, upstream = randn(5, 40).requires_grad_(), randn(40, 6, seed=1).requires_grad_(), randn(5, 6, seed=2)
    plain = [a @ b, *torch.autograd.grad(a @ b, (a, b), upstream)]
    with torch.autocast("cpu", torch.bfloat16):
        value = matmul(a, b)
        cast = [value, *torch.autograd.grad(value, (a, b), upstream)]
    for x, y in zip(cast, plain, strict=True):
        assert torch.equal(x, y)


def test_second_derivative_and_batches() -> None:
    a, b = (randn(2, 3, 4, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: matmul(a, b.mT), (a, b))
    assert torch.autograd.gradgradcheck(lambda a, b: matmul(a, b.mT), (a, b))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_one_graph(backend: str) -> None:
    a, b = randn(3, 4).requires_grad_(), randn(4, 5, seed=1)
    compiled = torch.compile(lambda a, b: matmul(a, b).square().sum(), fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(a, b), matmul(a, b).square().sum())
    torch.testing.assert_close(
        torch.autograd.grad(compiled(a, b), a), torch.autograd.grad(matmul(a, b).square().sum(), a)
    )


def test_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match="'low'"):
        module.check_precision("low")
