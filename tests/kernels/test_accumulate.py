"""Streaming class statistics against the two-pass float64 definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastdd_kernels import accumulate as module
from fastdd_kernels.accumulate import ClassGaussian, class_gaussian_reference
from fastdd_kernels.symmetric import unpack_symmetric


def dataset(rows: int, dim: int, classes: int, distance: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated float32 features of deviation about 1 and a mean of ``distance``, with random labels."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(dim) + 0.3 * torch.randn(dim, dim, generator=generator)
    labels = torch.randint(classes, (rows,), generator=generator)
    features = torch.randn(rows, dim, generator=generator) @ mixing + distance + labels[:, None]
    return features, labels


def accumulated(
    features: Tensor, labels: Tensor, classes: int, batch: int, **options: object
) -> ClassGaussian:
    state = ClassGaussian(classes, features.shape[1], features.device, **options)  # type: ignore[arg-type]
    for start in range(0, len(labels), batch):
        state.update(features[start : start + batch], labels[start : start + batch])
    return state


def assert_equals_two_pass(state: ClassGaussian, features: Tensor, labels: Tensor, tolerance: float) -> None:
    """Means and covariances within tolerance of the class's largest deviation and variance."""
    for c in labels.unique().tolist():
        mean, covariance = class_gaussian_reference(features.cpu(), labels, c)
        variance = float(covariance.diagonal().max())
        assert state.count(c) == int((labels == c).sum())
        torch.testing.assert_close(
            state.mean(c).double().cpu(), mean, rtol=1e-7, atol=tolerance * variance**0.5
        )  # the returned mean is itself rounded
        torch.testing.assert_close(
            state.covariance(c).double().cpu(), covariance, rtol=0, atol=tolerance * variance
        )


@pytest.mark.parametrize("order", ["random", "sorted", "reversed"])
@pytest.mark.parametrize("distance", [0.0, 1e3])
@pytest.mark.parametrize("batch", [7, 64, 1000])
def test_equals_two_pass(batch: int, distance: float, order: str, device: torch.device) -> None:
    features, labels = dataset(300, 13, classes=4, distance=distance)
    if order != "random":
        index = labels.sort(descending=order == "reversed").indices
        features, labels = features[index], labels[index]
    state = accumulated(features.to(device), labels, classes=4, batch=batch)
    assert_equals_two_pass(state, features, labels, tolerance=1e-5)


@pytest.mark.parametrize("dim", [1, 7, 33, 130])
def test_odd_widths_and_batches_of_one_row(dim: int, device: torch.device) -> None:
    features, labels = dataset(40, dim, classes=3, distance=1e3)
    state = accumulated(features.to(device), labels, classes=3, batch=40)
    state.update(features[:1].to(device), labels[:1])
    assert_equals_two_pass(
        state, torch.cat((features, features[:1])), torch.cat((labels, labels[:1])), tolerance=1e-5
    )


@pytest.mark.parametrize("dim", [1, 63, 64, 65, 200])
def test_staircase_holds_the_lower_half_and_little_more(dim: int) -> None:
    rows = torch.randn(5, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stairs = torch.zeros(module.staircase_size(dim), dtype=torch.float64)
    module._add_product(stairs, rows)
    packed = stairs[module._triangle(dim, stairs.device)]
    torch.testing.assert_close(unpack_symmetric(packed), rows.T @ rows)
    assert len(stairs) <= dim * (dim + module.BAND) / 2 + module.BAND**2 / 2


def test_float64_sums_are_exact_to_float64() -> None:
    features, labels = dataset(200, 9, classes=3, distance=100.0)
    state = accumulated(features.double(), labels, classes=3, batch=32, dtype=torch.float64)
    assert state.covariance(0).dtype is torch.float64
    assert_equals_two_pass(state, features, labels, tolerance=1e-12)


def test_the_same_stream_gives_the_same_bits(device: torch.device) -> None:
    features, labels = dataset(128, 70, classes=2)
    features = features.to(device)
    first, again = (accumulated(features, labels, classes=2, batch=50) for _ in range(2))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("split", [0, 1, 50, 100])
def test_merge_equals_one_stream(split: int) -> None:
    features, labels = dataset(100, 8, classes=5, distance=1e3)
    left = accumulated(features[:split], labels[:split], classes=5, batch=16)
    right = accumulated(features[split:], labels[split:], classes=5, batch=16)
    before = {name: value.clone() for name, value in right.state_dict().items()}
    left.merge(right)
    assert_equals_two_pass(left, features, labels, tolerance=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in right.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_autocast_and_strides(dtype: torch.dtype, device: torch.device) -> None:
    features, labels = dataset(60, 10, classes=3)
    features = features.to(device, dtype).T.contiguous().T.requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        state = accumulated(features, labels.to(torch.int32), classes=3, batch=25)
    assert not state.covariance(0).requires_grad
    assert_equals_two_pass(state, features.detach(), labels, tolerance=1e-5)


def test_unbiased_packed_one_row_and_duplicates() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0], [5.0, 5.0], [9.0, 9.0], [9.0, 9.0]])
    state = accumulated(features, torch.tensor([0, 0, 0, 1, 2, 2]), classes=3, batch=6)
    biased = torch.tensor([[2 / 3, 4 / 3], [4 / 3, 8 / 3]])
    torch.testing.assert_close(state.covariance(0), biased)
    torch.testing.assert_close(state.covariance(0, unbiased=True), biased * 1.5)
    assert torch.equal(unpack_symmetric(state.covariance(0, packed=True)), state.covariance(0))
    assert state.mean(1).tolist() == [5.0, 5.0]
    assert not state.covariance(1).any()
    assert not state.covariance(2, unbiased=True).any()
    with pytest.raises(ValueError, match=r"class 1 has 1 rows.*two rows"):
        state.covariance(1, unbiased=True)


def test_empty_batch_and_class_that_never_comes() -> None:
    state = ClassGaussian(3, 4)
    state.update(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert state.counts.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="class 2 has 0 rows"):
        state.covariance(2)
    with pytest.raises(ValueError, match="class 2 has no rows"):
        state.mean(2)
    with pytest.raises(ValueError, match="label 3 is outside"):
        state.mean(3)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_is_named_and_nothing_is_added(label: int) -> None:
    state = ClassGaussian(3, 4)
    with pytest.raises(ValueError, match=f"label {label} is outside the 3 classes"):
        state.update(torch.ones(2, 4), torch.tensor([0, label]))
    assert state.counts.tolist() == [0, 0, 0]


def test_state_can_be_saved_and_loaded() -> None:
    features, labels = dataset(80, 5, classes=3)
    whole = accumulated(features, labels, classes=3, batch=20)
    part = accumulated(features[:40], labels[:40], classes=3, batch=20)
    resumed = ClassGaussian(3, 5)
    resumed.load_state_dict(part.state_dict())
    for start in (40, 60):
        resumed.update(features[start : start + 20], labels[start : start + 20])
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    with pytest.raises(ValueError, match="state must have the shapes"):
        ClassGaussian(3, 6).load_state_dict(part.state_dict())


def test_bad_input_is_named() -> None:
    state = ClassGaussian(3, 4)
    with pytest.raises(ValueError, match=r"\[B, 4\].*\(2, 5\)"):
        state.update(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"integers \[2\].*float32"):
        state.update(torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="3 classes of 4 features, got 3 of 5"):
        state.merge(ClassGaussian(3, 5))
    with pytest.raises(ValueError, match="must be positive, got 0 and 4"):
        ClassGaussian(0, 4)
    with pytest.raises(ValueError, match=r"float32 or torch.float64, got torch.bfloat16"):
        ClassGaussian(3, 4, dtype=torch.bfloat16)
