"""Crop, flip and roll as one operator, against torchvision doing one after the other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from fastdd_kernels import dispatch
from fastdd_kernels.resample import random_resample, resample, resample_parameters, resample_reference

# (image, result): up, down, mixed, odd, equal
SIZES = [((5, 4), (11, 13)), ((20, 17), (6, 5)), ((7, 20), (13, 9)), ((9, 9), (9, 9)), ((1, 5), (3, 1))]


def images(count: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def draws(count: int, size: tuple[int, int], seed: int = 0, **options: object) -> Tensor:
    options = {"roll": (-5, 9), **options}
    generator = torch.Generator().manual_seed(seed)
    return resample_parameters(count, *size, generator=generator, **options)  # type: ignore[arg-type]


def torchvision_chain(x: Tensor, parameters: Tensor, size: tuple[int, int]) -> Tensor:
    results = []
    for part, row in zip(x.chunk(len(parameters)), parameters.tolist(), strict=True):
        flip, roll_y, roll_x, top, left, height, width = row
        y = tv.resized_crop(part, top, left, height, width, list(size), antialias=True)
        y = tv.horizontal_flip(y) if flip else y
        results.append(torch.roll(y, (roll_y, roll_x), (2, 3)))
    return torch.cat(results)


@pytest.mark.parametrize(("size", "out"), SIZES)
def test_equals_torchvision(size: tuple[int, int], out: tuple[int, int], device: torch.device) -> None:
    count = 3 if dispatch.interpret_on_cpu else 24  # Triton's interpreter is slow
    x, parameters = images(2 * count, size), draws(count, size)
    truth = torchvision_chain(x, parameters, out)
    torch.testing.assert_close(resample(x.to(device), parameters, out).cpu(), truth, rtol=0, atol=1e-13)
    torch.testing.assert_close(resample_reference(x, parameters, out), truth, rtol=0, atol=0)
    single = resample(x.float().to(device), parameters, out).cpu()
    assert single.dtype is torch.float32
    ours = float((single - truth).abs().max())
    theirs = float((torchvision_chain(x.float(), parameters, out) - truth).abs().max())
    assert ours <= max(theirs, 1e-6)  # at most torchvision's own rounding, or a few roundings of a pixel


@pytest.mark.parametrize("count", [1, 2, 6])
def test_consecutive_images_share_a_draw(count: int, device: torch.device) -> None:
    x = images(6, (6, 5)).to(device)
    parameters = draws(count, (6, 5))
    whole = resample(x, parameters, (4, 4))
    share = parameters.repeat_interleave(6 // count, dim=0)
    alone = torch.cat([resample(x[i : i + 1], share[i : i + 1], (4, 4)) for i in range(6)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize(("roll_y", "roll_x"), [(0, 0), (3, -2), (-1, 0), (100, -77)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_crop_pixels_are_moved_bitwise(
    dtype: torch.dtype, roll_y: int, roll_x: int, flip: int, device: torch.device
) -> None:
    x = images(4, (7, 10)).to(device, dtype).requires_grad_()
    y = resample(x, torch.tensor([[flip, roll_y, roll_x]]))
    moved = torch.roll(x.flip(3) if flip else x, (roll_y, roll_x), (2, 3))
    assert torch.equal(y, moved)
    upstream = images(4, (7, 10)).to(device, dtype)
    assert torch.equal(torch.autograd.grad(y, x, upstream)[0], torch.autograd.grad(moved, x, upstream)[0])
    whole = resample(x, torch.tensor([[flip, roll_y, roll_x, 0, 0, 7, 10]]))  # and so is a whole crop
    assert torch.equal(whole, moved)


def test_without_a_crop_each_group_moves_by_its_own_draw(device: torch.device) -> None:
    x = images(6, (5, 8)).to(device)
    parameters = torch.tensor([[0, 1, 2], [1, -1, 0], [1, 4, 11]])
    parts = [resample(part, row[None]) for part, row in zip(x.chunk(3), parameters, strict=True)]
    assert torch.equal(resample(x, parameters), torch.cat(parts))


def test_without_a_crop_a_new_size_resizes_the_whole_image(device: torch.device) -> None:
    x = images(2, (9, 12)).to(device)
    y = resample(x, torch.tensor([[0, 0, 0]]), (5, 20))
    torch.testing.assert_close(y, tv.resize(x, [5, 20], antialias=True), rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("scale", [None, (0.08, 1.0)])
def test_gradients(scale: tuple[float, float] | None, count: int, device: torch.device) -> None:
    x = images(2, (3, 2))[:, :1].to(device).requires_grad_()
    parameters = draws(count, (3, 2), scale=scale)
    out = (3, 2) if scale is None else (2, 3)
    assert torch.autograd.gradcheck(lambda x: resample(x, parameters, out), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: resample(x, parameters, out), x, fast_mode=True)


@pytest.mark.parametrize(("size", "out"), [((4, 5), (7, 6)), ((9, 8), (3, 5)), ((12, 33), (10, 35))])
def test_gradient_equals_torchvision_and_repeats_bitwise(
    size: tuple[int, int], out: tuple[int, int], device: torch.device
) -> None:
    """Crops in which a pixel counts in many rows, rows in which many pixels count, and several tiles."""
    parameters, upstream = draws(2, size, seed=3, scale=(0.2, 1.0)), images(2, out)
    x = images(2, size).requires_grad_()
    truth = torch.autograd.grad(torchvision_chain(x, parameters, out), x, upstream)[0]
    x = x.detach().to(device).requires_grad_()
    gradient = torch.autograd.grad(resample(x, parameters, out), x, upstream.to(device))[0]
    torch.testing.assert_close(gradient.cpu(), truth, rtol=0, atol=1e-12)
    single, upstream = x.detach().float().requires_grad_(), upstream.float().to(device)
    first, again = (
        torch.autograd.grad(resample(single, parameters, out), single, upstream)[0] for _ in range(2)
    )
    assert torch.equal(first, again)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_computed_in_float32(autocast: bool, device: torch.device) -> None:
    x = images(4, (20, 15)).bfloat16().to(device)
    parameters = draws(2, (20, 15))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
        y = resample(x, parameters, (16, 24))
        full = resample(x.float(), parameters, (16, 24))
    assert y.dtype is torch.bfloat16
    assert full.dtype is torch.float32
    truth = torchvision_chain(x.double().cpu(), parameters, (16, 24))
    rounding = 2**-7 if dispatch.interpret_on_cpu else 2**-8  # Triton's interpreter cuts off
    torch.testing.assert_close(y.double().cpu(), truth, rtol=rounding, atol=1e-6)
    torch.testing.assert_close(full.double().cpu(), truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradient_keeps_float32_when_taken_under_autocast(compiled: bool, device: torch.device) -> None:
    x, parameters = images(4, (9, 8)).float().to(device).requires_grad_(), draws(2, (9, 8)).to(device)
    upstream = images(4, (9, 8)).to(device)
    expected = torch.autograd.grad(resample(x, parameters), x, upstream.float())[0]
    run = torch.compile(resample, backend="aot_eager", fullgraph=True) if compiled else resample
    with torch.autocast(device.type, dtype=torch.bfloat16):
        gradient = torch.autograd.grad(run(x, parameters), x, upstream.float())[0]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_channels_last_and_strided_images(device: torch.device) -> None:
    x, upstream = images(4, (9, 12)).to(device), images(4, (7, 7)).to(device)
    parameters = draws(2, (9, 12))
    expected, gradient = both(x, parameters, upstream)
    for view in (x.to(memory_format=torch.channels_last), x.repeat_interleave(2, 3)[..., ::2]):
        for given in (upstream, upstream.to(memory_format=torch.channels_last), upstream.mT.contiguous().mT):
            y, found = both(view, parameters, given)
            assert torch.equal(y, expected)
            assert torch.equal(found, gradient)
        assert torch.equal(resample(view, parameters[:, :3]), resample(x, parameters[:, :3]))


def both(x: Tensor, parameters: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """What images become in the size of an upstream gradient, and their gradient."""
    x = x.detach().requires_grad_()
    y = resample(x, parameters, (upstream.shape[2], upstream.shape[3]))
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


def test_the_kernel_keeps_the_layout_both_ways(triton_device: torch.device) -> None:
    """Networks on a GPU want channels-last, and so does the optimizer: no copy from one to the other."""
    x = images(4, (9, 12)).float().to(triton_device, memory_format=torch.channels_last)
    for out in ((9, 12), (16, 5)):
        upstream = torch.ones(4, 3, *out, device=triton_device).to(memory_format=torch.channels_last)
        for parameters in (draws(2, (9, 12)), draws(2, (9, 12), scale=None)):
            y, gradient = both(x, parameters, upstream)
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_the_kernel_reads_no_pixel_that_does_not_count(triton_device: torch.device) -> None:
    x = images(2, (9, 12)).to(triton_device)
    x[:, :, :2], x[:, :, 7:], x[..., :3], x[..., 10:] = (float("nan"),) * 4
    y = resample(x, torch.tensor([[1, 3, -2, 2, 3, 5, 7]]), (8, 40))
    assert y.isfinite().all()


def test_the_kernel_reads_nothing_outside_the_image(triton_device: torch.device) -> None:
    """A crop that leaves the image, which no draw does, has zeros there and reads no other memory."""
    rows = torch.full((2, 3, 13, 12), float("nan"), dtype=torch.float64, device=triton_device)
    rows[:, :, 2:11] = images(2, (9, 12)).to(triton_device)
    x = rows[:, :, 2:11]  # what lies before and after it is NaN
    for top, height in ((-2, 9), (3, 8)):
        assert resample(x, torch.tensor([[0, 0, 0, top, 0, height, 12]]), (9, 12)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [3, 7])
def test_compiles_once_for_all_draws(columns: int, device: torch.device) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x, p: resample(x, p, (12, 12)), backend=counter, fullgraph=True)
    x = images(4, (12, 12)).to(device).requires_grad_()
    for seed in range(4):
        parameters = draws(2, (12, 12), seed)[:, :columns].to(device)
        y, expected = compiled(x, parameters), resample(x, parameters, (12, 12))
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-14)
        gradient = torch.autograd.grad(y.square().sum(), x)[0]
        torch.testing.assert_close(
            gradient, torch.autograd.grad(expected.square().sum(), x)[0], rtol=0, atol=1e-12
        )
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((20, 37), (0.3, 0.6), (0.5, 2.0)),
        ((31, 20), (0.9, 1.0), (3 / 4, 4 / 3)),  # most tries fail: the central crop is common
    ],
)
def test_crops_are_drawn_as_torchvision_draws_them(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    def statistics(crops: Tensor) -> tuple[Tensor, ...]:
        top, left, height, width = crops.unbind(1)
        aspect, area = (width / height).log(), (width * height).log()
        return (*crops.T, *crops.square().T, aspect, area, aspect.square(), aspect * area, top * left)

    count = 3000
    ours = draws(count, size, scale=scale, ratio=ratio)[:, 3:].double()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = torch.empty(1, *size)
        theirs = torch.tensor(
            [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)]
        ).double()
    top, left, height, width = ours.unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (top + height <= size[0]) & (left + width <= size[1])).all())
    for a, b in zip(statistics(ours), statistics(theirs), strict=True):
        error = ((a.var() + b.var()) / count).sqrt()
        assert abs(float(a.mean() - b.mean())) <= 4.5 * float(error)


@pytest.mark.parametrize(("height", "width"), [(60, 10), (10, 60)])
def test_image_too_slim_for_its_ratio_gets_the_central_crop_of_torchvision(height: int, width: int) -> None:
    expected = RandomResizedCrop.get_params(torch.empty(1, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    for row in draws(20, (height, width), scale=(1.0, 1.0))[:, 3:].tolist():
        assert tuple(row) == tuple(expected)


def test_flip_and_roll_are_drawn_evenly_and_apart() -> None:
    parameters = draws(4000, (8, 8), flip=0.25, roll=(-2, 3), scale=None)
    assert parameters.shape == (4000, 3)
    flip, roll_y, roll_x = parameters.unbind(1)
    assert abs(float(flip.double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    table = torch.zeros(5, 5).index_put((roll_y + 2, roll_x + 2), torch.ones(()), accumulate=True)
    assert bool(((table - 160).abs() < 5 * math.sqrt(160)).all())
    assert not draws(50, (8, 8), flip=0.0, roll=(0, 0), scale=None).any()
    assert bool((draws(50, (8, 8), flip=1.0, roll=(0, 0), scale=None)[:, 0] == 1).all())


def test_draws_repeat_with_their_generator() -> None:
    assert torch.equal(draws(5, (9, 9), seed=1), draws(5, (9, 9), seed=1))
    x = images(4, (9, 9))
    one, two = (random_resample(x, count=4, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == x.shape
    rolled = random_resample(x, scale=None, flip=0.0, roll=(3, 4))
    assert torch.equal(rolled, x.roll((3, 3), (2, 3)))


def test_no_images_give_no_images(device: torch.device) -> None:
    x = images(4, (6, 6))[:0].to(device)
    assert resample(x, draws(2, (6, 6)), (3, 4)).shape == (0, 3, 3, 4)
    assert resample(x, draws(2, (6, 6), scale=None)).shape == (0, 3, 6, 6)


def test_bad_input_is_named() -> None:
    x, parameters = images(4, (6, 6)), draws(2, (6, 6))
    with pytest.raises(ValueError, match=r"floating-point \[N, C, H, W\].*uint8"):
        resample(x.byte(), parameters)
    with pytest.raises(ValueError, match=r"\[count, 7\] or \[count, 3\].*\(2, 4\)"):
        resample(x, parameters[:, :4])
    with pytest.raises(ValueError, match="divide the 4 images, got 3"):
        resample(x, draws(3, (6, 6)))
    with pytest.raises(ValueError, match=r"size must be positive, got \(0, 3\)"):
        resample(x, parameters, (0, 3))
    with pytest.raises(ValueError, match=r"flip is a probability.*1.5"):
        draws(1, (6, 6), flip=1.5)
    with pytest.raises(ValueError, match=r"roll must be .*\(3, 1\)"):
        draws(1, (6, 6), roll=(3, 1))
    with pytest.raises(ValueError, match=r"scale must be .*\(0, 1\)"):
        draws(1, (6, 6), scale=(0, 1))
    with pytest.raises(ValueError, match=r"ratio must be .*\(2, 1\)"):
        draws(1, (6, 6), ratio=(2, 1))
