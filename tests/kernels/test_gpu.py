"""What only a GPU can show: its arithmetic, capture in a CUDA graph, sizes beyond 2^31, no waiting.

The other kernel tests run on the GPU as well, where there is one (the "triton" parameter of the device
fixture).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernel_checks import EPS32, TF32_ERROR, activation, leaf, point_sets, randn
from torch import Tensor

from fastdd_kernels import (
    ClassGaussian,
    RealEmbeddings,
    batch_norm_loss,
    covariance_regularizer,
    dire_loss,
    frozen_batch_norm,
    gaussian_alignment,
    resample,
    resample_parameters,
    spatial_moments,
)
from fastdd_kernels.pairs import pair_sums
from fastdd_kernels.product import Precision
from fastdd_kernels.residual import residual_moments

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]


@pytest.mark.parametrize(("precision", "bound"), [("high", 5e-7), ("fast", TF32_ERROR)])
@pytest.mark.parametrize("dim", [33, 512, 2048])
@pytest.mark.parametrize("kind", ["relu", "tight", "shifted"])
def test_error_contract_of_squared_distances(kind: str, dim: int, precision: Precision, bound: float) -> None:
    x = point_sets(dim)[kind].float()
    x = torch.cat((x, x[:9], x[:9] * (1 + 1e-6)))
    centered = (x - x.mean(0)).cuda()
    one = torch.eye(len(x), device="cuda")
    # A weight of one for a single y: the sum is that one distance.
    columns = [
        pair_sums(centered[None], centered[None], y_weight=w[None], precision=precision)[0] for w in one
    ]
    sums = torch.stack(columns, 1)
    truth = torch.cdist(
        centered.double(), centered.double(), compute_mode="donot_use_mm_for_euclid_dist"
    ).square()
    size = centered.double().square().sum(1)
    assert ((sums.double().square() - truth).abs() <= bound * (size[:, None] + size)).all()


def steps() -> dict[str, Callable[[Tensor], Tensor]]:
    """Losses of an activation or of features [G, n, D], ready to be captured."""
    ones, row = torch.ones(16, device="cuda"), torch.ones(2, 64, device="cuda")
    covariance = torch.eye(64, device="cuda").expand(2, 64, 64)
    real = RealEmbeddings.prepare(randn(2, 50, 64, seed=3, dtype=torch.float32).cuda())
    draw = resample_parameters(1, 8, 8).cuda()

    def batch_norm(x: Tensor) -> Tensor:
        return (
            frozen_batch_norm(x, ones, ones, ones, running_var=ones, relu=True)[0].sum()
            + batch_norm_loss(x, ones, ones).sum()
        )

    def residual(x: Tensor) -> Tensor:
        return torch.stack([part.sum() for part in residual_moments(x, -x, ones, ones, ones)]).sum()

    return {
        "batch norm": batch_norm,
        "residual": residual,
        "resample": lambda x: resample(x, draw).square().sum(),
        "gaussian": lambda x: (gaussian_alignment(x, row, covariance) + covariance_regularizer(x)).sum(),
        "dire": lambda x: dire_loss(x, real),
    }


@pytest.mark.parametrize("name", ["batch norm", "residual", "resample", "gaussian", "dire"])
def test_captured_in_a_cuda_graph(name: str) -> None:
    step = steps()[name]
    x = activation(4, 16, 8, 8) if name in ("batch norm", "residual", "resample") else randn(2, 10, 64)
    x = leaf(x.float().cuda())

    def forward_backward() -> Tensor:
        x.grad = None
        loss = step(x)
        loss.backward()
        return loss.detach()

    expected = forward_backward()
    assert x.grad is not None
    gradient = x.grad.clone()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            forward_backward()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_backward()
    graph.replay()
    torch.testing.assert_close(captured, expected)
    torch.testing.assert_close(x.grad, gradient)


@pytest.mark.parametrize("name", ["batch norm", "residual", "resample", "gaussian", "dire"])
def test_nothing_waits_for_the_gpu(name: str) -> None:
    step = steps()[name]
    x = activation(4, 16, 8, 8) if name in ("batch norm", "residual", "resample") else randn(2, 10, 64)
    x = leaf(x.float().cuda())
    step(x).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(x).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_labels_on_the_cpu_cost_no_wait() -> None:
    state = ClassGaussian(3, 64, "cuda")
    features, labels = randn(20, 64, dtype=torch.float32).cuda(), torch.arange(20) % 3
    state.update(features, labels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        state.update(features, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_more_than_two_to_the_31_numbers() -> None:
    shape = (9, 64, 2048, 2048)  # 2.4e9 numbers
    free, _ = torch.cuda.mem_get_info()
    if free < 3 * 2 * 9 * 64 * 2048**2:
        pytest.skip(f"needs 15 GB of free GPU memory, has {free / 1e9:.0f}")
    torch.use_deterministic_algorithms(False)  # or filling the memory with NaN takes longer than the test
    x = torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_()
    mean, mean_square = spatial_moments(x)
    torch.testing.assert_close(mean[-1], x[-1].mean((1, 2), dtype=torch.float32), rtol=0, atol=1e-5)
    ones = torch.ones(64, device="cuda")
    y, *_ = frozen_batch_norm(x, ones, ones, 0 * ones, running_var=ones, relu=True)
    expected = torch.relu(x[-1, -1].float() * ones[0] * (1 + 1e-5) ** -0.5 + 1)
    torch.testing.assert_close(y[-1, -1].float(), expected, rtol=2**-8, atol=1e-6)
    assert mean_square[-1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_no_worse_than_pytorch_at_the_same_dtype(layout: str, dtype: torch.dtype) -> None:
    x = activation(8, 64, 32, 32, layout=layout).to(dtype).cuda()
    truth = x.double().mean((2, 3)), x.double().square().mean((2, 3))
    ours = spatial_moments(x)
    theirs = x.float().mean((2, 3)), x.float().square().mean((2, 3))
    for a, b, t in zip(ours, theirs, truth, strict=True):
        allowed = 2 * (b - t).abs().max() + 4 * EPS32 * t.abs().max()
        assert (a - t).abs().max() <= allowed
