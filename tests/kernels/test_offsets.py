"""Offsets beyond 2^31: rows so far apart that 32-bit arithmetic would wrap, in memory hardly touched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernel_checks import randn
from torch import Tensor

from fastdd_kernels import ClassGaussian, frozen_batch_norm, resample, spatial_moments
from fastdd_kernels.pairs import pair_sums

FAR = 2**29 + 64  # numbers from one row to the next: a stride is small, five rows of it are not
ROWS = 5


@pytest.fixture
def spread(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], Tensor]:
    """The same rows [5, ...] that far apart; of their gigabytes only the pages written are taken."""
    if device.type == "cuda":
        pytest.skip("a GPU has no memory that is taken page by page")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)

    def place(rows: Tensor) -> Tensor:
        memory = torch.empty((ROWS - 1) * FAR + 4096, dtype=rows.dtype)
        view = memory.as_strided(rows.shape, (FAR, *torch.empty(rows.shape[1:]).stride()))
        return view.copy_(rows)

    return place


def test_images_channels_and_pixels(spread: Callable[[Tensor], Tensor]) -> None:
    rows = randn(ROWS, 6, dtype=torch.float16)
    far, ones = spread(rows), torch.ones(6)
    views = (
        (far.view(ROWS, 6, 1, 1), rows.view(ROWS, 6, 1, 1)),
        (far.mT[None, ..., None], rows.mT[None, ..., None]),
    )
    for view, plain in (*views, (far.view(1, ROWS, 2, 3), rows.view(1, ROWS, 2, 3))):
        for a, b in zip(spatial_moments(view), spatial_moments(plain), strict=True):
            torch.testing.assert_close(a, b)
    view, plain = views[0]
    for a, b in zip(frozen_batch_norm(view, *[ones] * 4), frozen_batch_norm(plain, *[ones] * 4), strict=True):
        torch.testing.assert_close(a, b)


def test_resampled_images(spread: Callable[[Tensor], Tensor]) -> None:
    rows, draw = randn(ROWS, 6, dtype=torch.float16), torch.tensor([[1, 0, 1, 0, 0, 2, 2]])
    far = spread(rows)
    for shape in ((ROWS, 1, 2, 3), (1, ROWS, 2, 3)):
        torch.testing.assert_close(resample(far.view(shape), draw), resample(rows.view(shape), draw))


def test_accumulate(spread: Callable[[Tensor], Tensor]) -> None:
    rows, labels = randn(ROWS, 7, dtype=torch.float16), torch.zeros(ROWS, dtype=torch.int64)
    near, far = ClassGaussian(1, 7), ClassGaussian(1, 7)
    near.update(rows, labels)
    far.update(spread(rows), labels)
    torch.testing.assert_close(far.covariance(0), near.covariance(0))


def test_pairs(spread: Callable[[Tensor], Tensor]) -> None:
    x, y = randn(1, ROWS, 6, dtype=torch.float32), randn(1, 9, 6, seed=1, dtype=torch.float32)
    far = spread(x[0]).unsqueeze(0)
    torch.testing.assert_close(pair_sums(far, y), pair_sums(x, y))
    torch.testing.assert_close(pair_sums(y, far), pair_sums(y, x))
