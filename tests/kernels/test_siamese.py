"""Siamese augmentation against PyTorch's own sampling, and against the values of the released operations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastdd_kernels import siamese_augment, siamese_draws
from fastdd_kernels.siamese import (
    COLUMNS,
    IDENTITY,
    OPERATIONS,
    Operation,
    columns_of,
    siamese_augment_reference,
)


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a n + b) over the numbers n of the entries, float64."""
    return torch.sin(a * torch.arange(math.prod(shape), dtype=torch.float64) + b).view(shape)


def row(**values: float) -> Tensor:
    """One row of parameters: the identity but for some columns."""
    parameters = torch.tensor([IDENTITY], dtype=torch.float64)
    for name, value in values.items():
        parameters[0, COLUMNS.index(name)] = value
    return parameters


def drawn(operation: Operation, *u: float, side: int = 8) -> Tensor:
    """The row that an operation makes of uniform numbers."""
    numbers = torch.tensor([[*u, 0.0, 0.0][:3]], dtype=torch.float64)
    return row(**{name: float(value) for name, value in columns_of(operation, numbers, side, side).items()})


# (parameters, (sum, sum of squares, y[0, 0, 2, 3], y[1, 2, 6, 1])) of the released DiffAugment, both images
# alike
RELEASED = {
    "brightness": (row(brightness=0.3 - 0.5), (-71.7738229, 204.5009948, 0.4793047, -1.1916549)),
    "saturation": (row(saturation=0.6), (5.0261771, 89.9504785, 0.3007084, -0.6353252)),
    "contrast": (row(contrast=0.8), (5.0261771, 122.3620461, 0.5467035, -0.7913482)),
    "color": (drawn("color", 0.3, 0.6, 0.9), (-71.7738229, 524.3077770, 1.0095242, -1.8416992)),
    "crop": (row(down=1, right=-1), (0.6353037, 144.5455197, -0.1939844, 0.7770234)),
    "cutout": (drawn("cutout", 3.5 / 9, 7.5 / 9), (5.4458036, 152.6722034, 0.6793047, -0.9916549)),
    "flip": (drawn("flip", 0.4), (5.0261771, 191.1514656, 0.8987081, 0.1493622)),
    "scale": (drawn("scale", 0.25, 0.8), (4.5381936, 74.8473330, 0.4036169, -0.3707757)),
    "rotate": (drawn("rotate", 0.8), (2.6421254, 53.2054402, 0.6382164, -0.1357299)),
}


@pytest.mark.parametrize("name", RELEASED)
def test_each_operation_has_the_released_values(name: str) -> None:
    parameters, expected = RELEASED[name]
    y = siamese_augment(wave(2, 3, 8, 8, a=0.37), parameters)
    found = (y.sum(), y.square().sum(), y[0, 0, 2, 3], y[1, 2, 6, 1])
    assert torch.stack(found).tolist() == pytest.approx(expected, abs=5e-7)


def random_rows(count: int, height: int, width: int, seed: int = 0, together: bool = False) -> Tensor:
    return siamese_draws(
        count, height, width, together=together, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize(
    ("N", "groups", "C", "H", "W"), [(6, 6, 3, 8, 8), (12, 3, 1, 7, 12), (4, 1, 3, 32, 32), (1, 1, 2, 1, 1)]
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_values_and_gradients_are_those_of_grid_sample(
    N: int, groups: int, C: int, H: int, W: int, layout: str
) -> None:
    parameters = random_rows(groups, H, W, seed=N + H)
    x = torch.randn(N, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "strided":
        x = x.repeat_interleave(2, 3)[..., ::2]
    upstream = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    outcome = []
    for function in (siamese_augment, siamese_augment_reference):
        leaf = x.detach().clone().requires_grad_()
        y = function(leaf, parameters)
        outcome.append((y.detach(), *torch.autograd.grad(y, leaf, upstream)))
    for ours, theirs in zip(*outcome, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_many_draws_of_each_operation_agree_with_the_reference(operation: Operation) -> None:
    parameters = siamese_draws(40, 9, 9, [operation], generator=torch.Generator().manual_seed(3))
    x = torch.randn(
        40, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    ).requires_grad_()
    ours, theirs = siamese_augment(x, parameters), siamese_augment_reference(x, parameters)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    (of_ours,), (of_theirs,) = (torch.autograd.grad(y.square().sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(of_ours, of_theirs, rtol=0, atol=1e-11)


def test_the_strongest_zoom_and_rotation_together_lose_no_gradient() -> None:
    for angle in (15.0, -15.0):
        parameters = row(
            scale_x=1 / 1.2, scale_y=1 / 1.2, angle=math.radians(angle), down=2, right=-3, flip=1
        )
        x = torch.randn(
            1, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
        ).requires_grad_()
        upstream = torch.randn(1, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
        ours, theirs = (
            torch.autograd.grad(f(x, parameters), x, upstream)[0]
            for f in (siamese_augment, siamese_augment_reference)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_second_derivatives() -> None:
    parameters = random_rows(2, 5, 5, seed=7, together=True)
    x = torch.randn(
        2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(8)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: siamese_augment(x, parameters), (x,))
    assert torch.autograd.gradgradcheck(lambda x: siamese_augment(x, parameters), (x,))


@pytest.mark.parametrize("side", [5, 7, 28, 32])
def test_identity_shift_and_flip_are_exact(side: int) -> None:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(9))
    assert torch.equal(siamese_augment(x, row()), x)
    assert torch.equal(siamese_augment(x, row(flip=1)), x.flip(3))
    shifted = siamese_augment(x, row(down=1, right=-2))
    assert torch.equal(shifted[:, :, :-1, 2:], x[:, :, 1:, :-2])
    assert not shifted[:, :, -1].any()
    assert not shifted[:, :, :, :2].any()


def test_the_same_bits_each_time() -> None:
    x = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(10)).requires_grad_()
    parameters = random_rows(10, 32, 32)
    results = [torch.autograd.grad(siamese_augment(x, parameters).square().sum(), x)[0] for _ in range(3)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_group_is_augmented_as_its_images_alone() -> None:
    parameters = random_rows(3, 8, 8, seed=11)
    x = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(12))
    each = siamese_augment(x, parameters.repeat_interleave(4, 0))
    assert torch.equal(siamese_augment(x, parameters), each)


def test_half_precision_stays_within_its_roundings() -> None:
    parameters = random_rows(4, 16, 16, seed=13)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(14)).bfloat16()
    y = siamese_augment(x, parameters)
    assert y.dtype == torch.bfloat16
    expected = siamese_augment_reference(x.double(), parameters)
    assert (y.double() - expected).abs().max() <= 8 * torch.finfo(torch.bfloat16).eps * expected.abs().max()


def test_draws() -> None:
    rows = random_rows(600, 32, 32)
    changed = {
        "color": rows[:, 2] != 1,
        "crop": (rows[:, 3:5] != 0).any(1),
        "scale": rows[:, 6] != 1,
        "rotate": rows[:, 8] != 0,
        "cutout": rows[:, 11] > rows[:, 9],
        "flip": rows[:, 5] != 0,
    }
    counts = torch.stack(list(changed.values())).sum(0)
    assert counts.max() == 1  # one operation an image at most
    assert all(int(seen.sum()) > 40 for name, seen in changed.items() if name != "flip")
    assert rows[:, 3:5].abs().max() == 4
    assert (rows[:, 11] - rows[:, 9]).max() == 16
    both = random_rows(50, 32, 32, together=True)
    assert bool((both[:, 11] > both[:, 9]).all())
    assert bool((both[:, 2] != 1).all())
    again = siamese_draws(600, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rows, again)
    few = siamese_draws(600, 32, 32, ["color", "cutout"], generator=torch.Generator().manual_seed(0))
    assert not few[:, 3:9].sub(torch.tensor(IDENTITY[3:9])).any()


def test_no_images() -> None:
    assert siamese_augment(torch.empty(0, 3, 4, 4), random_rows(0, 4, 4)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(("together", "H", "W"), [(False, 8, 8), (True, 7, 10)])
def test_the_gathers_of_a_compiled_step_give_the_same_values_and_gradients(
    together: bool, H: int, W: int
) -> None:
    generator = torch.Generator().manual_seed(16)
    if together:
        parameters = siamese_draws(
            12, H, W, ["color", "crop", "cutout", "flip"], together=True, generator=generator
        )
        parameters[:, 6:9] = siamese_draws(12, H, W, ["scale"], generator=generator)[:, 6:9]
    else:
        parameters = siamese_draws(12, H, W, generator=generator)
    x = torch.randn(24, 3, H, W, dtype=torch.float64, generator=generator).requires_grad_()
    compiled = torch.compile(siamese_augment, fullgraph=True, backend="eager")
    outcome = []
    for function in (compiled, siamese_augment_reference):
        y = function(x, parameters)
        outcome.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for ours, theirs in zip(*outcome, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("x", "parameters", "message"),
    [
        (torch.zeros(3, 4, 4), row(), r"\[N, C, H, W\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), row(), "floating-point"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 12), r"\[G, 13\]"),
        (torch.zeros(3, 3, 4, 4), row().expand(2, -1), "3 images.*2 rows"),
        (torch.zeros(2, 3, 4, 4), row(scale_x=0.5), "spreads a pixel over 2"),
    ],
)
def test_bad_input(x: Tensor, parameters: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        siamese_augment(x, parameters)


def test_bad_draws() -> None:
    with pytest.raises(ValueError, match="'colour'"):
        siamese_draws(1, 4, 4, ["colour"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got none"):
        siamese_draws(1, 4, 4, [])
