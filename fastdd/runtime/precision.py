"""Arithmetic of the networks: float32, or bfloat16 autocast where the hardware multiplies it.

Images, optimizers, statistics and losses stay in float32 either way.
"""

from __future__ import annotations

from typing import Literal

import torch


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32: on a CUDA GPU since Ampere, or an x86 CPU with AMX or AVX512-BF16.

    Any other CPU emulates bf16, slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def autocast(device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> torch.autocast:
    """The autocast context of a precision; ``auto`` is bf16 where it is fast."""
    enabled = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
