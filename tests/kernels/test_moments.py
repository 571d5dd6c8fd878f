"""Spatial moments: values and gradients against the definition, in every layout, dtype and implementation."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import activation, assert_within, leaf, randn, with_gradient
from torch import Tensor

from fastdd_kernels import batch_moments, spatial_moments
from fastdd_kernels import moments as module
from fastdd_kernels.moments import spatial_moments_reference

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 3), (2, 130, 33, 1), (6, 17, 4, 9), (4, 64, 14, 14), (2, 7, 7, 7)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "sliced"])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_and_gradient_equal_the_definition(
    shape: tuple[int, ...], layout: str, device: torch.device
) -> None:
    x = activation(*shape, layout=layout)
    shift = torch.linspace(2.5, 3.5, shape[1], dtype=torch.float64)
    truth = with_gradient(lambda x: spatial_moments_reference(x, shift), x)
    actual = with_gradient(lambda x: spatial_moments(x, shift.float().to(device)), x.float().to(device))
    assert [a.dtype for a in actual] == [torch.float32] * 3
    assert_within(actual, truth, roundings=8)


@pytest.mark.parametrize(("layout", "side"), [("channels_last", 66), ("contiguous", 130)])
def test_an_image_too_large_for_one_program_is_put_together(
    layout: str, side: int, device: torch.device
) -> None:
    x = activation(2, 3, side, side, layout=layout)
    truth = with_gradient(lambda x: spatial_moments_reference(x, torch.full((3,), 3.0)), x)
    shift = torch.full((3,), 3.0, device=device)
    actual = with_gradient(lambda x: spatial_moments(x, shift), x.float().to(device))
    assert_within(actual, truth, roundings=8)


def test_blocks_of_images_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x = activation(7, 5, 4, 4).float()
    whole = with_gradient(spatial_moments, x)
    monkeypatch.setattr(module, "_BLOCK", 2 * 5 * 16)  # two images at a time, and one left over
    assert len(list(module._blocks(x.flatten(2)))) == 4
    for a, b in zip(with_gradient(spatial_moments, x), whole, strict=True):
        assert torch.equal(a, b)


def test_float64_stays_float64(device: torch.device) -> None:
    x = activation(3, 5, 7, 3)
    actual = with_gradient(spatial_moments, x.to(device))
    for a, b in zip(
        actual, with_gradient(lambda x: spatial_moments_reference(x, torch.zeros(5)), x), strict=True
    ):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_input_gives_float32_statistics_of_its_values(
    dtype: torch.dtype, layout: str, device: torch.device
) -> None:
    x = activation(4, 8, 14, 14, layout=layout).to(dtype)
    shift = torch.full((8,), 3.0)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        actual = with_gradient(lambda x: spatial_moments(x, shift.to(device)), x.to(device))
    truth = with_gradient(lambda x: spatial_moments_reference(x, shift.double()), x.double())
    assert_within(actual[:2], truth[:2], roundings=8)
    assert actual[2].dtype == dtype
    # One rounding to dtype; the interpreter cuts bfloat16 instead of rounding, so allow a whole place.
    torch.testing.assert_close(actual[2].double().cpu(), truth[2], rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_shift_keeps_the_variance_of_a_distant_mean(device: torch.device) -> None:
    x = 1000 + activation(4, 6, 8, 8)
    truth = x.float().double().var((0, 2, 3), correction=0)
    x, shift = x.float().to(device), torch.full((6,), 1003.0, device=device)
    variance = batch_moments(*spatial_moments(x, shift), shift)[1][0]
    assert_within([variance], [truth], roundings=200)  # the float32 mean alone costs eps * 1000 / deviation
    unshifted = batch_moments(*spatial_moments(x))[1][0].cpu()
    assert float((unshifted - truth).abs().max()) > 0.01  # what the shift is for


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_expanded_and_partial_upstream_gradients(layout: str, device: torch.device) -> None:
    x = activation(3, 5, 4, 4, layout=layout).float().to(device)
    for use in (0, 1):  # only one of the outputs is used, and summed: its gradient has stride 0
        ours, reference = leaf(x), leaf(x.double())
        spatial_moments(ours)[use].sum().backward()
        spatial_moments_reference(reference, torch.zeros(5, device=device))[use].sum().backward()
        assert ours.grad is not None
        assert reference.grad is not None
        assert_within([ours.grad], [reference.grad.cpu()], roundings=8)


def test_nan_and_infinity_stay_in_their_channel(device: torch.device) -> None:
    x = activation(2, 3, 5, 5).float().to(device)
    x[1, 2, 3, 3], x[0, 1, 0, 0] = torch.nan, torch.inf
    mean, mean_square = spatial_moments(x)
    bad = torch.tensor([[0, 1, 0], [0, 0, 1]], device=device).bool()
    assert torch.equal(~mean.isfinite(), bad)
    assert torch.equal(~mean_square.isfinite(), bad)


def test_derivatives_of_both_orders(device: torch.device) -> None:
    x = leaf(activation(2, 3, 3, 2).to(device))
    shift = randn(3).to(device)
    assert torch.autograd.gradcheck(lambda x: spatial_moments(x, shift), x)
    assert torch.autograd.gradgradcheck(lambda x: spatial_moments(x, shift), x)
    grad = torch.func.grad(lambda x: spatial_moments(x, shift)[1].sum())(x)
    torch.testing.assert_close(grad, 2 * (x - shift.view(-1, 1, 1)) / 6)


def test_two_runs_are_bitwise_equal(device: torch.device) -> None:
    x = activation(3, 20, 9, 9, layout="channels_last").float().to(device)
    for a, b in zip(with_gradient(spatial_moments, x), with_gradient(spatial_moments, x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_operators_are_well_formed(layout: str, normalize: bool, device: torch.device) -> None:
    x = activation(3, 4, 5, 5, layout=layout).float().to(device).requires_grad_()
    shift = torch.full((4,), 3.0, device=device)
    scale, bias = (shift.cos(), shift.sin()) if normalize else (None, None)
    torch.library.opcheck(module._moments_op, (x, shift, scale, bias, True))
    gradients = (torch.rand_like(x.detach()) if normalize else None, *(torch.rand(3, 4, device=device),) * 2)
    torch.library.opcheck(module._moments_backward_op, (x.detach(), shift, scale, bias, True, *gradients))


def test_no_images_have_no_moments(device: torch.device) -> None:
    x = torch.zeros(0, 3, 2, 2, device=device, requires_grad=True)
    mean, mean_square = spatial_moments(x)
    assert mean.shape == mean_square.shape == (0, 3)
    (mean.sum() + mean_square.sum()).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_shift_is_a_constant() -> None:
    x, shift = activation(2, 3, 2, 2), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert not any(moment.requires_grad for moment in spatial_moments(x, shift))


def test_bad_input_is_named() -> None:
    x, c = torch.zeros(4, 3, 2, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"\[N, C, H, W\].*\(4, 3\)"):
        spatial_moments(x[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"H, W > 0.*\(4, 3, 0, 2\)"):
        spatial_moments(x[:, :, :0])
    with pytest.raises(ValueError, match=r"shift must be \[3\].*\(2,\)"):
        spatial_moments(x, c[:2])


def test_nothing_but_x_and_small_tensors_is_kept() -> None:
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = leaf(activation(8, 16, 8, 8).float())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        spatial_moments(x)
    assert sum(t.numel() for t in kept if t.data_ptr() != x.data_ptr()) <= 4 * 16
