"""Peak memory of one call: how much more than before it is alive at its worst moment, results included.

On a GPU: PyTorch's allocator, to the byte. On Linux: the resident set, whose high-water mark is reset through
``/proc/self/clear_refs``. That is good to about 1 MB, and shows pages, not requests: what is allocated and
never touched does not count, and what a library keeps for later (thread pools, packing buffers) counts the
first time only. So measure a second call, never the first. Elsewhere there is no such mark to reset, and
nothing is measured.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def _status(field: str) -> float:
    """A line of /proc/self/status, in MB."""
    for line in (_PROCESS / "status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no {field} in {_PROCESS / 'status'}")


def _cuda_peak(call: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def peak_mb(call: Callable[[], object], device: torch.device) -> float | None:
    """Peak of one call over what was alive before it, in MB; None where it cannot be measured."""
    gc.collect()
    if device.type == "cuda":
        return _cuda_peak(call, device)
    # Freed memory that the allocator still holds would hide as much of the call's own.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
        result = call()
        peak = _status("VmHWM") - before
    except OSError:
        return None
    del result
    return max(peak, 0.0)
