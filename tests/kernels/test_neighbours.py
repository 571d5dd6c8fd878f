"""Radii, coverage, density, precision and recall: golden values, the definition, the prdc package."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdd_kernels import nearest as module
from fastdd_kernels.nearest import knn_radii, knn_radii_reference
from fastdd_kernels.neighbours import coverage, density, prdc, prdc_reference, precision, recall

X = torch.tensor([0.0, 1, 3, 7]).unsqueeze(1)
Y = torch.tensor([0.5, 6.5]).unsqueeze(1)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(n: int, seed: int = 0) -> Tensor:
    """Few integer points: many exact ties and duplicates, far from the origin."""
    return torch.randint(0, 4, (n, 3), generator=torch.Generator().manual_seed(seed)).float() + 100


@pytest.fixture(params=[7, 1024])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TILE", request.param)


@pytest.mark.usefixtures("tile")
def test_golden() -> None:
    assert knn_radii(X, 1).tolist() == [1, 1, 2, 4]
    assert knn_radii(X, 2).tolist() == [3, 2, 3, 6]
    assert coverage(X, Y, k=1).item() == 0.75
    assert coverage(X, Y, k=2).item() == 1.0


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_points_agree_with_the_definition(k: int, dtype: torch.dtype) -> None:
    real, synthetic = points(dtype)
    ours = {name: value.item() for name, value in prdc(real, synthetic, k)._asdict().items()}
    assert ours == {
        name: value.item() for name, value in prdc_reference(real, synthetic, k)._asdict().items()
    }
    assert coverage(real, synthetic, k).item() == pytest.approx(
        ours["coverage"], abs=1e-12
    )  # by counting, no radii
    torch.testing.assert_close(knn_radii(real, k), knn_radii_reference(real, k), rtol=1e-14, atol=0)


def points(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (5 + randn(61, 6)).to(dtype), (5.3 + 0.8 * randn(23, 6, seed=1)).to(dtype)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_points_agree_with_the_package(k: int, dtype: torch.dtype) -> None:
    package = pytest.importorskip("prdc")
    real, synthetic = points(dtype)
    ours = {name: value.item() for name, value in prdc(real, synthetic, k)._asdict().items()}
    assert ours == pytest.approx(package.compute_prdc(real.numpy(), synthetic.numpy(), k), abs=1e-12)


@pytest.mark.usefixtures("tile")
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_and_duplicates_are_exact(k: int, dtype: torch.dtype) -> None:
    real, synthetic = grid(150).to(dtype), grid(40, seed=1).to(dtype)
    radii = knn_radii(real, k)
    assert (radii == knn_radii_reference(real, k)).all()
    assert (radii == 0).any()  # or the grid is too sparse to test anything
    assert prdc(real, synthetic, k) == prdc_reference(real, synthetic, k)
    assert coverage(real, synthetic, k) == prdc_reference(real, synthetic, k).coverage


def test_a_radius_of_zero_covers_nothing() -> None:
    twins = randn(1, 40).expand(6, 40) + 10
    assert (knn_radii(twins, 5) == 0).all()
    assert coverage(twins, twins[:1], k=5).item() == 0
    assert coverage(twins, twins[:1] + 1, k=5).item() == 0
    assert coverage(twins, twins[:1], k=5, real_radii=torch.full((6,), 1e-6)).item() == 1


def test_a_subset_of_the_real_points_as_control() -> None:
    # Its distances to the real set *are* radii: rounding would decide the strict comparison.
    real = 20 + randn(300, 64).relu()
    subset = real[::10]
    assert prdc(real, subset, 3) == prdc_reference(real, subset, 3)


@pytest.mark.usefixtures("tile")
def test_nearly_equal_points_in_a_wide_cloud() -> None:
    cloud = randn(60, 32)
    # Differences of 1e-5 in a cloud of norm 1e3: far below the rounding of the expanded square.
    real = torch.cat((1e3 * cloud, 1 + 1e-5 * torch.arange(50.0).unsqueeze(1).expand(50, 32)))
    torch.testing.assert_close(knn_radii(real, 5), knn_radii_reference(real, 5), rtol=1e-13, atol=0)
    synthetic = real[60:] + 3e-6
    assert prdc(real, synthetic, 5) == prdc_reference(real, synthetic, 5)


def test_single_metrics_are_those_of_the_joint_sweep() -> None:
    real, synthetic = randn(40, 5), randn(15, 5, seed=1)
    joint = prdc(real, synthetic, 4)
    assert precision(real, synthetic, 4) == joint.precision
    assert recall(real, synthetic, 4) == joint.recall
    assert density(real, synthetic, 4) == joint.density
    assert coverage(real, synthetic, 4) == joint.coverage
    known = prdc(real, synthetic, 4, real_radii=knn_radii(real, 4), synthetic_radii=knn_radii(synthetic, 4))
    assert known == joint


def test_smallest_sets_halves_and_views() -> None:
    assert knn_radii(randn(4, 3), 3).shape == (4,)  # n = k + 1
    assert coverage(randn(4, 3), randn(1, 3, seed=1), k=3).ndim == 0  # one synthetic point is enough
    x = randn(30, 8).half()
    assert (knn_radii(x, 2) == knn_radii(x.float(), 2)).all()
    wide = randn(30, 16)
    assert (knn_radii(wide[:, ::2], 2) == knn_radii(wide[:, ::2].contiguous(), 2)).all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="k = 5 and n = 5 rows"):
        knn_radii(randn(5, 2), 5)
    with pytest.raises(ValueError, match="k = 0"):
        knn_radii(randn(5, 2), 0)
    with pytest.raises(ValueError, match="k = 5 and n = 3 rows"):
        prdc(randn(9, 2), randn(3, 2), 5)
    with pytest.raises(ValueError, match=r"synthetic must be \[n, D\] with n > 0"):
        coverage(randn(9, 2), randn(0, 2))
    with pytest.raises(ValueError, match=r"got \(4, 3\)"):
        coverage(randn(9, 2), randn(4, 3))
    with pytest.raises(ValueError, match=r"real .* holds NaN"):
        coverage(randn(9, 2) * torch.nan, randn(4, 2))
    with pytest.raises(ValueError, match=r"radii of real must be \[9\], got \(4,\)"):
        coverage(randn(9, 2), randn(4, 2), real_radii=torch.ones(4))
    with pytest.raises(TypeError, match="int64"):
        knn_radii(randn(9, 2).long(), 1)


def test_a_gpu_gets_larger_tiles() -> None:
    with FakeTensorMode():
        on_cpu, on_gpu = (torch.empty(20_000, 3, device=device) for device in ("cpu", "cuda"))
        assert len(list(module.slices(on_cpu))) == 20
        assert [tile.stop for tile in module.slices(on_gpu, 100)] == [8292, 16484, 24676]


def test_many_equal_rows_are_looked_at_for_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    x[:200] = x[0].clone()
    whole, candidates, search = knn_radii(x, 3), [], module._search

    def noted(mine: module.Rows, other: module.Rows, keep: int, own: Tensor | None) -> module._Nearest:
        candidates.append(len(mine.square) * keep)
        return search(mine, other, keep, own)

    monkeypatch.setattr(module, "_search", noted)
    monkeypatch.setattr(module, "_KEPT", 1000)
    assert torch.equal(knn_radii(x, 3), whole)
    assert max(candidates) <= 1000


MEMORY = """
import torch
from fastdd_kernels import knn_radii
x = torch.randn(2000, 256, generator=torch.Generator().manual_seed(0))
x[:1000] = x[0].clone()
knn_radii(x[:300], 5)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
def megabytes(name):
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(name)).split()[1]) / 1e3
before = megabytes("VmRSS")
knn_radii(x, 5)
print(megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system tells no such peak")
def test_gathered_rows_leave_no_holes_in_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300  # with a result of its own for each part it was over 3000
