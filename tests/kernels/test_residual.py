"""The end of a residual block in one pass, against its definition in float64."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import activation, assert_within, leaf, randn
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels.residual import residual_moments, residual_moments_reference

SHAPES = [(4, 16, 8, 8), (2, 3, 5, 7), (1, 1, 1, 1), (3, 130, 3, 3), (2, 70, 9, 8)]


def constants(channels: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(randn(channels, seed=i).to(dtype) + (3 if i == 1 else 0) for i in (1, 2, 3))  # type: ignore[return-value]


def with_gradients(function: object, x: Tensor, residual: Tensor) -> list[Tensor]:
    """Outputs of function, and the gradients of both inputs for fixed upstream gradients."""
    x, residual = leaf(x), leaf(residual)
    outputs = function(x, residual)  # type: ignore[operator]
    upstream = [randn(*y.shape, seed=7 + i, dtype=torch.bfloat16).to(y) for i, y in enumerate(outputs)]
    return [*(y.detach() for y in outputs), *torch.autograd.grad(outputs, (x, residual), upstream)]


@pytest.mark.parametrize(
    "layouts", [("contiguous",) * 2, ("channels_last",) * 2, ("channels_last", "sliced")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(
    shape: tuple[int, ...], layouts: tuple[str, str], device: torch.device
) -> None:
    x, residual = activation(*shape, layout=layouts[0]), 2 - activation(*shape, layout=layouts[1])
    values = constants(shape[1])
    truth = with_gradients(lambda x, r: residual_moments_reference(x, r, *values), x, residual)
    single = [value.float().to(device) for value in values]
    actual = with_gradients(
        lambda x, r: residual_moments(x, r, *single), x.float().to(device), residual.float().to(device)
    )
    assert_within(actual, truth, roundings=32)


def test_image_in_several_spans(device: torch.device) -> None:
    x, residual = (activation(2, 3, 66, 66, layout="channels_last") - i for i in (0, 5))
    values = constants(3)
    truth = with_gradients(lambda x, r: residual_moments_reference(x, r, *values), x, residual)
    single = [value.float().to(device) for value in values]
    actual = with_gradients(
        lambda x, r: residual_moments(x, r, *single), x.float().to(device), residual.float().to(device)
    )
    assert_within(actual, truth, roundings=32)


@pytest.mark.slow
def test_derivatives_of_both_orders(device: torch.device) -> None:
    x, residual = (leaf(activation(2, 3, 3, 2).to(device) - i) for i in (0, 5))
    values = [value.to(device) for value in constants(3)]
    assert torch.autograd.gradcheck(lambda x, r: residual_moments(x, r, *values), (x, residual))
    assert torch.autograd.gradgradcheck(lambda x, r: residual_moments(x, r, *values), (x, residual))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_adds_before_it_rounds(dtype: torch.dtype, triton_device: torch.device) -> None:
    """A BatchNorm, a sum and a ReLU of their own would round to half precision twice."""
    x, residual = (activation(2, 4, 6, 6, layout="channels_last").to(dtype) - i for i in (0, 5))
    values = constants(4)
    truth = with_gradients(
        lambda x, r: residual_moments_reference(x, r, *values), x.double(), residual.double()
    )
    single = [value.float().to(triton_device) for value in values]
    actual = with_gradients(
        lambda x, r: residual_moments(x, r, *single), x.to(triton_device), residual.to(triton_device)
    )
    assert [tensor.dtype for tensor in actual] == [dtype, *[torch.float32] * 2, dtype, dtype]
    assert all(actual[i].is_contiguous(memory_format=torch.channels_last) for i in (0, 3, 4))
    for a, b in zip(actual, truth, strict=True):
        size = float(b.abs().max())
        torch.testing.assert_close(a.double().cpu(), b, rtol=torch.finfo(dtype).eps, atol=1e-6 * size)


def test_compiles_as_one_graph(device: torch.device) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    values = [value.float().to(device) for value in constants(5)]
    compiled = torch.compile(lambda x, r: residual_moments(x, r, *values), backend=counter, fullgraph=True)
    x, residual = (activation(4, 5, 6, 6).float().to(device) - i for i in (0, 5))
    plain = with_gradients(lambda x, r: residual_moments(x, r, *values), x, residual)
    assert_within(with_gradients(compiled, x, residual), [t.double().cpu() for t in plain], roundings=8)
    assert counter.frame_count == 1


def test_a_residual_of_another_shape_is_named() -> None:
    x, c = torch.zeros(2, 3, 4, 4), torch.zeros(3)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\), got \(2, 3, 1, 1\)"):
        residual_moments(x, x[..., :1, :1], c, c, c)
