"""Frozen BatchNorm with the moments of its input: against PyTorch's own, fused, converted, compiled."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import activation, assert_within, leaf, randn, with_gradient
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from fastdd_kernels import FrozenBatchNorm2d, batch_norm_loss, batch_norm_loss_from_moments, frozen_batch_norm
from fastdd_kernels.batch_norm import frozen_batch_norm_reference

SHAPES = [(4, 9, 5, 3), (1, 130, 7, 7), (3, 33, 1, 1)]


def parameters(channels: int) -> tuple[Tensor, ...]:
    """weight of either sign, bias, running mean near the data's, running variance; [C] float64"""
    mean, var = torch.linspace(2, 4, channels).double(), torch.linspace(0.2, 3, channels).double()
    return (3 * var).cos(), mean.sin(), mean, var


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_definition(
    shape: tuple[int, ...], layout: str, affine: bool, relu: bool, device: torch.device
) -> None:
    x = activation(*shape, layout=layout)
    weight, bias, mean, var = parameters(shape[1])
    constants = (weight, bias, mean, var) if affine else (None, None, mean, var)
    truth = with_gradient(lambda x: frozen_batch_norm_reference(x, *constants, relu=relu), x)
    single = [None if c is None else c.float().to(device) for c in constants]
    actual = with_gradient(lambda x: frozen_batch_norm(x, *single, relu=relu), x.float().to(device))  # type: ignore[arg-type]
    assert_within(actual, truth, roundings=16)


def test_image_in_several_spans(device: torch.device) -> None:
    x = activation(2, 3, 66, 66, layout="channels_last")
    constants = parameters(3)
    truth = with_gradient(lambda x: frozen_batch_norm_reference(x, *constants, relu=True), x)
    single = [c.float().to(device) for c in constants]
    actual = with_gradient(lambda x: frozen_batch_norm(x, *single, relu=True), x.float().to(device))  # type: ignore[arg-type]
    assert_within(actual, truth, roundings=16)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_upstream_gradient_of_another_layout(layout: str, device: torch.device) -> None:
    x = activation(3, 5, 4, 6, layout=layout)
    constants = parameters(5)
    other = torch.contiguous_format if layout == "channels_last" else torch.channels_last
    upstreams = [
        randn(3, 5, 4, 6).contiguous(memory_format=other),
        randn(3, 5, 1, 1).expand(3, 5, 4, 6),
        randn(3, 5, 6, 4).mT,
    ]
    for upstream in upstreams:
        reference, ours = leaf(x), leaf(x.float().to(device))
        frozen_batch_norm_reference(reference, *constants)[0].backward(upstream)
        frozen_batch_norm(ours, *(c.float().to(device) for c in constants))[0].backward(
            upstream.float().to(device)
        )
        assert ours.grad is not None
        assert reference.grad is not None
        assert_within([ours.grad], [reference.grad], roundings=16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_keeps_its_dtype_and_layout(dtype: torch.dtype, device: torch.device) -> None:
    x = activation(2, 4, 6, 6, layout="channels_last").to(dtype)
    constants = parameters(4)
    truth = with_gradient(lambda x: frozen_batch_norm_reference(x, *constants, relu=True), x.double())
    single = [c.float().to(device) for c in constants]
    y, mean, mean_square = frozen_batch_norm(x.to(device), *single, relu=True)  # type: ignore[arg-type]
    assert y.dtype is dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert mean.dtype is mean_square.dtype is torch.float32
    actual = with_gradient(lambda x: frozen_batch_norm(x, *single, relu=True), x.to(device))  # type: ignore[arg-type]
    for a, b in zip(actual, truth, strict=True):
        size = float(b.abs().max())
        torch.testing.assert_close(a.double().cpu(), b, rtol=torch.finfo(dtype).eps, atol=1e-6 * size)


def test_derivatives_of_both_orders(device: torch.device) -> None:
    x = leaf(activation(2, 3, 3, 2).to(device))
    constants = tuple(c.to(device) for c in parameters(3))
    assert torch.autograd.gradcheck(lambda x: frozen_batch_norm(x, *constants, relu=True), x)
    assert torch.autograd.gradgradcheck(lambda x: frozen_batch_norm(x, *constants, relu=True), x)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_as_one_graph_whatever_the_number_of_images(backend: str, device: torch.device) -> None:
    ones = torch.ones(5, device=device)

    def step(x: Tensor) -> Tensor:
        y, mean, mean_square = frozen_batch_norm(x, ones, ones, ones, running_var=ones, relu=True)
        loss = batch_norm_loss_from_moments(mean, mean_square, ones, ones, groups=2)
        return loss.sum() + batch_norm_loss(y, ones, ones).sum()

    torch._dynamo.reset()  # or what other tests made variable is variable from the start
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for count in (4, 6, 8, 10):
        x = activation(count, 5, 6, 6).float().to(device)
        actual = with_gradient(lambda x: (compiled(x),), x)
        assert_within(actual, [t.double().cpu() for t in with_gradient(lambda x: (step(x),), x)], roundings=8)
    assert counter.frame_count <= 2  # the second makes the number of images a variable


def test_converted_network_is_the_same_network(device: torch.device) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.BatchNorm2d(5)
    )
    network(torch.randn(64, 3, 9, 9) * 3)  # statistics that are not the initial ones
    network.eval().requires_grad_(False)
    x = randn(4, 3, 9, 9, dtype=torch.float32)
    inputs: list[Tensor] = []
    for bn in (network[1], network[4]):
        bn.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    expected = network(x)
    statistics = [(bn.running_mean.clone(), bn.running_var.clone()) for bn in (network[1], network[4])]
    losses = [
        batch_norm_loss(*arguments) for arguments in zip(inputs, *zip(*statistics, strict=True), strict=True)
    ]
    layers = FrozenBatchNorm2d.convert(network)
    assert [network[1], network[4]] == layers
    with pytest.raises(RuntimeError, match="no forward pass"):
        layers[0].loss()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # the convolutions too are float32
        actual = network.to(device)(x.to(device)).cpu()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for layer, loss in zip(layers, losses, strict=True):
        torch.testing.assert_close(layer.loss().cpu(), loss, rtol=1e-5, atol=1e-6)
        assert layer.loss(groups=2).shape == (2,)
        assert not list(layer.parameters())  # frozen: all of it is buffers


def test_converted_network_compiles_as_one_graph() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval().requires_grad_(False)
    layers = FrozenBatchNorm2d.convert(network)

    def objective(x: Tensor) -> Tensor:
        return network(x).square().mean() + torch.stack([layer.loss().sum() for layer in layers]).sum()

    x = randn(2, 3, 6, 6, dtype=torch.float32)
    compiled = torch.compile(objective, backend="aot_eager", fullgraph=True)
    actual = with_gradient(lambda x: (compiled(x),), x)
    assert_within(actual, [t.double() for t in with_gradient(lambda x: (objective(x),), x)], roundings=16)


def test_bad_input_is_named() -> None:
    x, c = torch.zeros(4, 3, 2, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"weight must be \[3\]"):
        frozen_batch_norm(x, c[:1], c, c, running_var=c)
    with pytest.raises(ValueError, match="track_running_stats"):
        FrozenBatchNorm2d(nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"running_mean must be \[3\].*\(2,\)"):
        FrozenBatchNorm2d(nn.BatchNorm2d(2))(x)


def test_a_result_may_change_in_place_without_copies(device: torch.device) -> None:
    """As residual networks do: ``out += identity``, then a ReLU in place."""
    constants = [c.float().to(device) for c in parameters(5)]

    def block(x: Tensor, in_place: bool) -> Tensor:
        y = frozen_batch_norm(x, *constants)[0]  # type: ignore[arg-type]
        return y.add_(x).relu_() if in_place else (y + x).relu()

    for layout in ("contiguous", "channels_last", "strided"):
        x = activation(3, 5, 4, 6, layout=layout).float().to(device)
        actual, wanted = (with_gradient(lambda x, how=how: (block(x, how),), x) for how in (True, False))
        assert all(torch.equal(a, b) for a, b in zip(actual, wanted, strict=True))
        # In a view of an operator's result each such change would be a CopySlices, which copies its gradient.
        assert steps_of(block(leaf(x), True)) == {"ReluBackward0", "AddBackward0", "_MomentsBackward"}


def steps_of(result: Tensor) -> set[str]:
    """Names of the backward steps of a result, down to its leaves."""
    seen, left = set(), [result.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [following for following, _ in node.next_functions]
    return {node.name() for node in seen} - {"torch::autograd::AccumulateGrad"}
