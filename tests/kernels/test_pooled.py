"""Means over positions: PyTorch's bits, with a gradient that is small until it is added."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import activation, leaf, with_gradient
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastdd_kernels import pooled_mean
from fastdd_kernels.pooled import pooled_mean_reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_values_and_gradients_are_pytorchs_to_the_bit(layout: str, dtype: torch.dtype) -> None:
    x = activation(3, 5, 7, 6, layout=layout).to(dtype)
    for axes in ((2, 3), (1,), (-1, 1)):
        actual = with_gradient(lambda x, axes=axes: (pooled_mean(x, axes), x.square()), x)
        plain = with_gradient(lambda x, axes=axes: (x.mean(axes, dtype=torch.float32), x.square()), x)
        assert [t.dtype for t in actual] == [torch.float32, dtype, dtype]
        for a, b in zip(actual, plain, strict=True):
            assert torch.equal(a, b)


def test_float64_equals_the_definition_in_derivatives_of_both_orders() -> None:
    x = leaf(activation(2, 3, 4, 2))
    assert torch.equal(pooled_mean(x, (2, 3)), pooled_mean_reference(x, (2, 3)))
    assert torch.autograd.gradcheck(lambda x: pooled_mean(x, (2, 3)), x)
    assert torch.autograd.gradgradcheck(lambda x: pooled_mean(x, (2, 3)).square(), x)


class FullSize(TorchDispatchMode):
    """Notes the dtypes of all results of a size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.dtypes = size, set[torch.dtype]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.untyped_storage().nbytes() >= self.size * result.itemsize:
            self.dtypes.add(result.dtype)
        return result


def test_no_gradient_of_full_size_is_written_in_float32() -> None:
    x = leaf(activation(3, 5, 8, 8).bfloat16())
    value = pooled_mean(x, (2, 3)).square().sum() + (2 * x).sum().float()
    with FullSize(x.numel()) as seen:
        value.backward()
    assert torch.float32 not in seen.dtypes


def test_it_compiles_to_the_plain_form() -> None:
    compiled = torch.compile(lambda x: pooled_mean(x, (2, 3)), fullgraph=True, backend="aot_eager")
    x = activation(2, 3, 4, 4).float()
    for a, b in zip(
        with_gradient(lambda x: (compiled(x),), x),
        with_gradient(lambda x: (pooled_mean(x, (2, 3)),), x),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("axes", [(), (4,), (2, 2), (2, -2)])
def test_bad_axes_are_named(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"distinct axes.*\(2, 3, 4, 4\).*\["):
        pooled_mean(torch.zeros(2, 3, 4, 4), axes)
