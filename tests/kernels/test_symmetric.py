"""Dense, packed and low-rank covariances: storage, what a loss computes, and what it does not allocate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_checks import EPS32, assert_within, leaf, randn, with_gradient
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastdd_kernels import symmetric as s

FORMS = ["dense", "packed", "bands", "low_rank", "low_rank_without_diagonal"]


def covariances(groups: int, dim: int) -> Tensor:
    """Full-rank covariances, float64 [G, D, D]."""
    root = randn(groups, dim, dim + 3, seed=1)
    return root @ root.mT / (dim + 3)


def stored(covariance: Tensor, form: str, monkeypatch: pytest.MonkeyPatch) -> s.Covariance:
    """The covariance in one of the forms; the low-rank ones are other matrices, of rank up to 3."""
    if form == "bands":
        monkeypatch.setattr(s, "_BAND", 1)  # one row after another, or a sixteenth of all
    if form in ("packed", "bands"):
        return s.pack_symmetric(covariance)
    if form == "dense":
        return covariance
    low_rank, _ = s.low_rank_covariance(covariance, min(3, covariance.shape[1]))
    return low_rank if form == "low_rank" else low_rank._replace(diagonal=None)


def in_float32(covariance: s.Covariance) -> s.Covariance:
    if isinstance(covariance, Tensor):
        return covariance.float()
    return s.LowRankCovariance(*(None if t is None else t.float() for t in covariance))  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [1, 2, 7, 33, 64])
def test_packing_is_the_row_major_lower_triangle_and_inverts(dim: int) -> None:
    cov = covariances(2, dim)
    packed = s.pack_symmetric(cov)
    rows = [cov[1, i, : i + 1] for i in range(dim)]
    assert torch.equal(packed[1], torch.cat(rows))
    symmetric = cov.tril() + cov.tril(-1).mT
    assert torch.equal(s.unpack_symmetric(packed), symmetric)
    assert torch.equal(s.unpack_symmetric(packed[1]), symmetric[1])
    assert torch.equal(s.pack_symmetric(cov.mT.unsqueeze(1))[:, 0], s.pack_symmetric(cov.mT))


def test_packing_is_differentiable() -> None:
    cov = leaf(covariances(2, 4))
    assert torch.autograd.gradcheck(lambda x: s.unpack_symmetric(s.pack_symmetric(x)), cov)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 1, 7), (3, 7, 33), (2, 33, 7), (2, 3, 1), (2, 10, 130), (0, 3, 5)])
def test_form_and_norm_equal_those_of_the_matrix_written_out(
    shape: tuple[int, int, int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cov = stored(covariances(shape[0], shape[2]), form, monkeypatch)
    dense, rows = s.dense_covariance(cov), randn(*shape)
    truth = with_gradient(lambda z: ((z.mT @ z * dense).sum((1, 2)),), rows)
    exact = with_gradient(lambda z: (s.quadratic_form(z, cov),), rows)
    for a, b in zip(exact, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    single = with_gradient(lambda z: (s.quadratic_form(z, in_float32(cov)),), rows.float())
    assert_within(single, truth, roundings=32)
    square = dense.square().sum((1, 2))
    torch.testing.assert_close(s.square_norm(cov), square, rtol=1e-13, atol=1e-14)
    assert_within([s.square_norm(in_float32(cov))], [square], roundings=16)


@pytest.mark.parametrize("form", FORMS)
def test_quadratic_form_is_twice_differentiable(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cov = stored(covariances(2, 5), form, monkeypatch)
    rows = leaf(randn(2, 3, 5))
    assert torch.autograd.gradcheck(lambda z: s.quadratic_form(z, cov), rows)
    assert torch.autograd.gradgradcheck(lambda z: s.quadratic_form(z, cov), rows)


@pytest.mark.parametrize("form", ["dense", "packed", "low_rank"])
def test_a_target_that_is_learned_gets_its_gradient(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cov = stored(covariances(2, 4), form, monkeypatch)
    parts = [leaf(t) for t in ([cov] if isinstance(cov, Tensor) else cov) if t is not None]

    def both(z: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        target = parts[0] if len(parts) == 1 else s.LowRankCovariance(*parts)
        return s.quadratic_form(z, target), s.square_norm(target)

    assert torch.autograd.gradcheck(both, (leaf(randn(2, 3, 4)), *parts))


class Largest(TorchDispatchMode):
    """The largest tensor made inside that does not share the memory of a given one."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given = {t.untyped_storage().data_ptr() for t in given}
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in self.given:
                self.numbers = max(self.numbers, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("form", ["dense", "bands", "low_rank"])
def test_no_square_matrix_is_made(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups, n, dim = 2, 4, 160
    cov = stored(covariances(groups, dim), form, monkeypatch)
    rows = leaf(randn(groups, n, dim))
    with Largest(*(t for t in ([cov] if isinstance(cov, Tensor) else cov) if t is not None)) as largest:
        (s.quadratic_form(rows, cov) + s.square_norm(cov)).sum().backward()
    assert largest.numbers <= groups * dim * dim / 10


@pytest.mark.parametrize("dim", [511, 1024])
def test_long_norms_keep_float32_precision(dim: int) -> None:
    cov = randn(1, dim, dim).float()
    cov = cov + cov.mT
    truth = cov.double().square().sum((1, 2))
    for form in (cov, s.pack_symmetric(cov)):
        assert_within([s.square_norm(form)], [truth], roundings=4)


def test_norm_takes_the_precision_asked_for() -> None:
    cov = covariances(2, 9).bfloat16()
    truth = s.dense_covariance(s.pack_symmetric(cov)).double().square().sum((1, 2))
    for form in (s.pack_symmetric(cov), s.dense_covariance(s.pack_symmetric(cov))):
        assert s.square_norm(form).dtype is torch.float32
        torch.testing.assert_close(s.square_norm(form, torch.float64), truth, rtol=1e-14, atol=0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 4, 7])
def test_low_rank_keeps_variances_and_reports_what_it_loses(rank: int, packed: bool) -> None:
    cov = covariances(3, 7)
    low_rank, lost = s.low_rank_covariance(s.pack_symmetric(cov) if packed else cov, rank)
    assert low_rank.factor.shape == (3, 7, rank)
    dense = s.dense_covariance(low_rank)
    torch.testing.assert_close(
        dense.diagonal(dim1=1, dim2=2), cov.diagonal(dim1=1, dim2=2), rtol=1e-12, atol=0
    )
    truth = (dense - cov).square().sum((1, 2)) / cov.square().sum((1, 2))
    torch.testing.assert_close(lost, truth, rtol=1e-9, atol=1e-25)
    if rank == 0:
        assert torch.equal(dense, torch.diag_embed(cov.diagonal(dim1=1, dim2=2)))
    if rank == 7:
        torch.testing.assert_close(dense, cov, rtol=1e-12, atol=1e-12)


def test_low_rank_of_few_rows_and_of_none() -> None:
    rows = randn(2, 4, 30)  # 4 centered rows span 3 dimensions
    rows = rows - rows.mean(1, keepdim=True)
    cov = rows.mT @ rows / 4
    by_hand = s.LowRankCovariance(rows.mT / 2)
    torch.testing.assert_close(s.dense_covariance(by_hand), cov)
    low_rank, lost = s.low_rank_covariance(cov.float(), 3)
    assert low_rank.factor.dtype is lost.dtype is torch.float32
    assert bool((lost < (30 * EPS32) ** 2).all())
    _, lost = s.low_rank_covariance(torch.zeros(2, 5, 5), 2)
    assert torch.equal(lost, torch.zeros(2))
    empty, lost = s.low_rank_covariance(torch.zeros(0, 5, 5), 2)
    assert empty.factor.shape == (0, 5, 2)
    assert lost.shape == (0,)


def test_low_rank_is_a_constant_in_float32_for_half_storage() -> None:
    cov = covariances(2, 6).bfloat16().requires_grad_()
    low_rank, lost = s.low_rank_covariance(cov, 2)
    assert not any(t.requires_grad or t.dtype != torch.float32 for t in (*low_rank, lost) if t is not None)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"D\(D\+1\)/2.*\(2, 4\)"):
        s.unpack_symmetric(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"\[\.\.\., D, D\].*\(2, 3, 4\)"):
        s.pack_symmetric(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"covariance must be \[G, D, D\].*\(2, 3, 4\)"):
        s.low_rank_covariance(torch.zeros(2, 3, 4), 1)
    with pytest.raises(ValueError, match=r"D\(D\+1\)/2.*\(4, 4\)"):
        s.low_rank_covariance(torch.zeros(4, 4), 1)
    with pytest.raises(ValueError, match=r"rank must be from 0 to 4.*got 5"):
        s.low_rank_covariance(torch.zeros(2, 4, 4), 5)
