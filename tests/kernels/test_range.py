"""Features of any scale that float32 holds: cosines, Vendi scores and distances are those of float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastdd_kernels import cosine, distance, neighbours, vendi

SCALES = (1.0, 1e19, 3e37, 1e-24, 1e-30)


def features(rows: int, scale: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 16, generator=generator, dtype=torch.float32) * scale


@pytest.mark.parametrize("scale", SCALES)
def test_cosines_and_vendi_scores_of_any_scale(scale: float) -> None:
    x, y = features(20, scale), features(12, scale, 1)
    wanted = cosine.cosine_sum_reference(x.double(), y.double())
    got = cosine.pairwise_cosine_similarity(x, y)
    torch.testing.assert_close(got.double().sum(), wanted, rtol=1e-5, atol=0)
    alone = cosine.cosine_sum_reference(x.double(), exclude_diagonal=True) / (20 * 19)
    torch.testing.assert_close(cosine.intra_class_cosine(x).double(), alone, rtol=1e-5, atol=0)
    for q in (1.0, 2.0):
        got, wanted = vendi.vendi_score(x, q), vendi.vendi_score_reference(x.double(), q)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_distances_of_any_scale(scale: float) -> None:
    x, y = features(20, scale), features(12, scale, 1)
    if scale < 1e37:  # the sum itself is representable
        wanted = distance.distance_sum_reference(x.double()[None], y.double()[None])
        got = distance.distance_sum(x[None], y[None])
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=0)
    pairs = distance.pairwise_euclidean_distance(x, y).double() / scale
    torch.testing.assert_close(
        pairs, torch.cdist(x.double(), y.double()) / scale, rtol=1e-4, atol=1e-5, check_dtype=False
    )


@pytest.mark.parametrize("scale", SCALES)
def test_coverage_of_any_scale(scale: float) -> None:
    x, y = features(40, scale), features(12, scale, 1)
    wanted = neighbours.prdc_reference(x, y, 3)
    assert 0 < float(wanted.coverage) < 1
    assert neighbours.prdc(x, y, 3) == wanted
    assert neighbours.coverage(x, y, 3) == wanted.coverage
    radii = neighbours.knn_radii(x, 3)
    torch.testing.assert_close(radii, neighbours.knn_radii_reference(x, 3), rtol=1e-12, atol=0)
    assert neighbours.coverage(x, y, 3, real_radii=radii) == wanted.coverage


def test_rows_of_ordinary_scale_keep_their_bytes() -> None:
    x = features(20, 1.0) - 0.5
    square = (x * x).sum(-1, keepdim=True)
    assert torch.equal(cosine.unit_rows(cosine.rows_in_range(x)), x * square.rsqrt())
    assert float(distance.distance_factor(x, x)) == 1


def test_rows_of_different_scales_in_one_set() -> None:
    x = features(6, 1.0) * torch.tensor([1.0, 1e19, 1e-24, 0, 1e30, 1e-30])[:, None]
    units = cosine.unit_rows(cosine.rows_in_range(x))
    torch.testing.assert_close(units.norm(dim=1), torch.tensor([1.0, 1, 1, 0, 1, 1]), rtol=1e-5, atol=0)
    kinds = [0, 1, 2, 4, 5]
    whole = vendi.vendi_score_reference(x[kinds])
    assert float(vendi.vendi_score(x)) > float(whole)  # the zero row is one more kind
