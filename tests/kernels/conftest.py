"""Every kernel test runs with poisoned memory, and on each implementation there is: PyTorch's and Triton's.

Without a GPU the Triton kernels run in Triton's interpreter on CPU tensors; tests/conftest.py switches it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import pytest
import torch
from kernel_checks import interpreter_takes

from fastdd_kernels import dispatch


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that torch.empty returns is full of NaN, so that what a kernel forgets to write cannot pass."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["torch", "triton"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the inputs of a test go, so that the implementation of this parameter serves them."""
    if request.param == "triton":
        if not dispatch.HAS_TRITON:
            pytest.skip("Triton is not installed")
        if torch.cuda.is_available():
            return torch.device("cuda")
        versions = {name: version(name) for name in ("numpy", "triton")}
        if not interpreter_takes(**versions):
            pytest.skip(f"Triton's interpreter fails with these versions: {versions}")
        monkeypatch.setattr(dispatch, "interpret_on_cpu", True)
    return torch.device("cpu")
