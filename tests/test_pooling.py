"""Pooling in pairs: its numbers, its derivatives, and which networks get it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd.models import pooling
from fastdd.models.build import build, to_device
from fastdd.models.flat import FlatNetwork, flattened
from fastdd.models.pooling import WIDEST, PairwisePool, pool_in_pairs

CPU = torch.device("cpu")


def slopes_in_bf16(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits and the gradients of all weights, computed in bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    weights = list(network.parameters())
    return [logits.detach(), *torch.autograd.grad(logits.float().square().sum(), weights)]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 4), (7, 5)])
def test_pooling_in_pairs_is_torchs_average_pooling_with_first_and_second_derivatives(
    height: int, width: int
) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        ours = PairwisePool()(x.contiguous(memory_format=layout))
        torch.testing.assert_close(ours, F.avg_pool2d(x, 2), rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradcheck(PairwisePool(), x)
    assert torch.autograd.gradgradcheck(PairwisePool(), x)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (6, 10), (32, 32)])
def test_pooling_in_float32_is_as_near_as_torchs_own_and_is_not_cast(height: int, width: int) -> None:
    x = torch.randn(3, 5, height, width, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = PairwisePool()(x)
    assert pooled.dtype == torch.float32
    expected = F.avg_pool2d(x.detach().double(), 2)
    torch.testing.assert_close(pooled, expected.float(), rtol=0, atol=2e-7 * x.detach().abs().max().item())
    slopes = torch.randn_like(pooled)
    (found,) = torch.autograd.grad(pooled, x, slopes)
    assert torch.equal(found, 0.25 * slopes.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_layout_of_other_images_is_kept_unless_contiguous_ones_are_asked_for() -> None:
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert PairwisePool()(x).is_contiguous(memory_format=torch.channels_last)
    assert PairwisePool(contiguous=True)(x).is_contiguous()


@pytest.fixture(params=[True, False], ids=["bf16", "no-bf16"])
def has_bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is said to multiply bf16."""
    monkeypatch.setattr(pooling, "has_fast_bf16", lambda device: request.param)
    return bool(request.param)


def is_a_product(pool: PairwisePool, x: Tensor) -> bool:
    """Whether a pool of these images multiplies matrices."""
    with torch.profiler.profile() as profile:
        pool(x)
    return "aten::avg_pool2d" not in {event.name for event in profile.events()}


def test_wide_images_and_emulated_bf16_go_to_torchs_pool(has_bf16: bool) -> None:
    pool = PairwisePool()
    assert is_a_product(pool, torch.randn(1, 1, 2, WIDEST))
    assert not is_a_product(pool, torch.randn(1, 1, 2, WIDEST + 2))
    assert is_a_product(pool, torch.randn(1, 1, 2, 8).bfloat16()) == has_bf16


@pytest.mark.parametrize("side", [8, 4])
@pytest.mark.usefixtures("has_bf16")
def test_pooling_in_bf16_rounds_once(side: int) -> None:
    x = torch.randn(2, 3, side, side).bfloat16().requires_grad_()
    pooled, exact = PairwisePool()(x), F.avg_pool2d(x.detach().double(), 2)
    assert torch.equal(pooled, exact.bfloat16())
    slopes = torch.randn(2, 3, side // 2, side // 2).bfloat16()
    (found,) = torch.autograd.grad(pooled, x, slopes)
    expected = 0.25 * slopes.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(found, expected)


@pytest.mark.usefixtures("has_bf16")
def test_a_network_trains_with_the_same_bits_in_bf16() -> None:
    plain = to_device(build("convnet3", 4), CPU)
    paired = to_device(build("convnet3", 4), CPU)
    paired.load_state_dict(plain.state_dict())
    assert pool_in_pairs(paired, CPU) is paired
    assert [type(m) for m in paired.modules()].count(PairwisePool) == 3
    images = torch.randn(6, 3, 32, 32)
    for ours, theirs in zip(slopes_in_bf16(paired, images), slopes_in_bf16(plain, images), strict=True):
        assert torch.equal(ours, theirs)


def test_only_pools_of_two_pixels_are_replaced_and_only_where_images_are_contiguous() -> None:
    for network in (build("convnet3_bn", 4), build("resnet8", 4)):  # their images are in channels-last
        assert PairwisePool not in [type(m) for m in pool_in_pairs(network, CPU).modules()]
    others = [nn.AvgPool2d(3), nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2, padding=1), nn.MaxPool2d(2)]
    kept = pool_in_pairs(nn.Sequential(nn.GroupNorm(1, 3), *others), CPU)
    assert [type(m) for m in kept.children()] == [nn.GroupNorm, *map(type, others)]


def test_experts_that_are_trained_together_can_have_it() -> None:
    network = pool_in_pairs(build("convnet2", 4), CPU)
    weights = torch.stack([flattened(build("convnet2", 4)) for _ in range(3)])
    images, flat = torch.randn(3, 5, 3, 16, 16), FlatNetwork(network)
    together = torch.vmap(flat)(weights, images)
    alone = torch.stack([flat(w, x) for w, x in zip(weights, images, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


class OfAnotherKind(nn.Module):
    """A network that pools float32 images, a row of maps without channels, and a map in channels-last."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first, self.middle, self.last = nn.GroupNorm(1, 3), *(nn.AvgPool2d(2) for _ in "abc")
        self.convolution, self.linear = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(self.first(x)))
        x = self.middle(x.mean(1, keepdim=True).squeeze(1))[:, None].expand(-1, 3, -1, -1)
        x = self.convolution(self.last(x.contiguous(memory_format=torch.channels_last)))
        return self.linear(x.flatten(1) * self.first.kernel_size)


def test_any_network_keeps_its_numbers() -> None:
    plain, paired = OfAnotherKind(), OfAnotherKind()
    paired.load_state_dict(plain.state_dict())
    pool_in_pairs(paired, CPU)
    assert [type(m) for m in paired.modules()].count(PairwisePool) == 3
    images = torch.randn(6, 3, 16, 16)
    for ours, theirs in zip(slopes_in_bf16(paired, images), slopes_in_bf16(plain, images), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(paired(images), plain(images), rtol=1e-6, atol=1e-6)


def test_pools_with_hooks_or_a_forward_of_their_own_are_kept() -> None:
    hooked, changed = nn.AvgPool2d(2), nn.AvgPool2d(2)
    hooked.register_forward_hook(lambda module, given, found: found + 1)
    changed.forward = lambda input: input  # type: ignore[method-assign]
    network = pool_in_pairs(nn.Sequential(nn.GroupNorm(1, 3), hooked, changed), CPU)
    assert list(network.children())[1:] == [hooked, changed]


def test_pooling_in_bf16_follows_its_images_and_no_default_device() -> None:
    with torch.device("meta"):
        assert PairwisePool()(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16, device=CPU)).item() == 1
