"""Products with banded matrices against the dense product: values and gradients of both orders."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import leaf, randn
from torch import Tensor

from fastdd_kernels import banded as module
from fastdd_kernels.banded import banded_product, banded_product_reference


def band(groups: int, size: int, extent: int, seed: int, width: int = 3) -> Tensor:
    """Random weights around a diagonal that begins at random and wraps round, and rows with none at all."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.zeros(groups, size, extent, dtype=torch.float64)
    for group in range(groups):
        shift = int(torch.randint(extent, (1,), generator=generator))
        for row in range(size):
            place = (row * extent // size + shift + torch.arange(width)) % extent
            matrix[group, row, place] = torch.rand(width, generator=generator, dtype=torch.float64) + 0.1
    matrix[:, size // 2 : size // 2 + 3] = 0
    return matrix


@pytest.mark.parametrize(
    ("G", "P", "size", "out"),
    [(1, 1, (1, 1), (1, 1)), (2, 20, (33, 7), (40, 130)), (3, 2, (90, 64), (70, 33))],
)
def test_equals_the_dense_product(G: int, P: int, size: tuple[int, int], out: tuple[int, int]) -> None:
    x, rows, columns = leaf(randn(G, P, *size)), band(G, out[0], size[0], 1), band(G, out[1], size[1], 2)
    ours, truth = banded_product(x, rows, columns), banded_product_reference(x, rows, columns)
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)
    upstream = randn(*truth.shape, seed=3)
    for layout in (upstream, upstream.mT.contiguous().mT, upstream[:, :, :1, :1].expand_as(upstream)):
        (a,), (b,) = (torch.autograd.grad(y, x, layout, retain_graph=True) for y in (ours, truth))
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_matrices_of_zeros_and_dense_ones() -> None:
    x = randn(1, 2, 40, 5)
    nothing, full = torch.zeros(1, 6, 40, dtype=torch.float64), randn(1, 70, 5, seed=4)
    assert not banded_product(x, nothing, full).any()
    full_rows = randn(1, 50, 40, seed=5)
    expected = banded_product_reference(x, full_rows, full)
    torch.testing.assert_close(banded_product(x, full_rows, full), expected, rtol=1e-12, atol=1e-12)


def test_derivatives_of_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2 * 9 * 7)  # two planes, and one that is left
    x, rows, columns = leaf(randn(2, 3, 6, 5)), band(2, 9, 6, 1, width=2), band(2, 7, 5, 2, width=2)
    assert torch.autograd.gradcheck(lambda x: banded_product(x, rows, columns), x)
    assert torch.autograd.gradgradcheck(lambda x: banded_product(x, rows, columns), x)
