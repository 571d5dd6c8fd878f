"""SharedBatchNorm beside torch's BatchNorm, for which a process alone is all processes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastdd.teachers.shared_batch_norm import SharedBatchNorm

KINDS: list[dict[str, object]] = [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum over one process changes nothing."""
    monkeypatch.setattr(dist, "all_reduce", lambda values, group: None)


def images_of(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    images, upstream = (
        2 * torch.randn(shape, dtype=torch.float64) + 3,
        torch.randn(shape, dtype=torch.float64),
    )
    return images.to(dtype), upstream.to(dtype)


def steps(module: nn.Module, norm: nn.Module, images: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers after two steps, in float64."""
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    module.train()(images)
    out = module(images)
    out.backward(upstream)
    assert out.dtype == images.dtype
    assert out.stride() == images.stride()
    found = {"out": out.detach(), "images": images.grad}
    found |= {name: weights.grad for name, weights in norm.named_parameters()}
    found |= dict(norm.named_buffers())
    return {name: value.double() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm1d, (5, 3)), (nn.BatchNorm2d, (7, 3, 5, 4)), (nn.BatchNorm3d, (2, 3, 1, 2, 3))],
)
def test_it_is_batch_norm(layer: type[nn.Module], shape: tuple[int, ...], kind: dict[str, object]) -> None:
    norm = layer(3, **kind).double()
    for weights in norm.parameters():
        nn.init.uniform_(weights, 0.5, 1.5)
    other = copy.deepcopy(norm)
    given = images_of(shape, torch.float64)
    wanted = steps(norm, norm, *given)
    found = steps(SharedBatchNorm(other, None), other, *given)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)
    images = given[0]
    torch.testing.assert_close(SharedBatchNorm(other, None).eval()(images), norm.eval()(images))


@pytest.mark.parametrize(
    ("dtype", "layout"),
    list(itertools.product((torch.float32, torch.bfloat16), (torch.contiguous_format, torch.channels_last))),
)
def test_it_rounds_no_more_than_batch_norm(dtype: torch.dtype, layout: torch.memory_format) -> None:
    images, upstream = images_of((6, 4, 5, 3), dtype)
    images, upstream = images.contiguous(memory_format=layout), upstream.contiguous(memory_format=layout)
    exact, theirs, ours = nn.BatchNorm2d(4).double(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    wanted = steps(exact, exact, images.double(), upstream.double())
    budget = steps(theirs, theirs, images, upstream)
    found = steps(SharedBatchNorm(ours, None), ours, images, upstream)
    for name, value in wanted.items():
        error, allowed = ((each[name] - value).abs().max() for each in (found, budget))
        assert error <= 2 * allowed + torch.finfo(dtype).eps * value.abs().max(), name


def test_the_statistics_of_values_far_from_zero_keep_their_digits() -> None:
    images = (1000 + torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(1))).requires_grad_()
    norm, exact = nn.BatchNorm2d(2, momentum=1.0), nn.BatchNorm2d(2, momentum=1.0).double()
    SharedBatchNorm(norm, None).train()(images)
    exact.train()(images.double())
    torch.testing.assert_close(norm.running_var.double(), exact.running_var, rtol=1e-5, atol=0)
