"""Every kernel test runs with poisoned memory, and on each implementation there is: PyTorch's and Triton's.

Without a GPU the Triton kernels run in Triton's interpreter on CPU tensors; tests/conftest.py switches it on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Memory that torch.empty returns is full of NaN, so that what a kernel forgets to write cannot pass."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["torch", "triton"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where the inputs of a test go, so that the implementation of this parameter serves them."""
    if request.param == "torch":
        return torch.device("cpu")
    found: torch.device = request.getfixturevalue("triton_device")
    return found
