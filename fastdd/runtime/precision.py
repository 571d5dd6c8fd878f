"""Arithmetic of the networks: float32, TF32 or bfloat16 where the hardware multiplies it.

Images, optimizers, statistics and losses stay in float32 either way.

On a GPU, PyTorch rounds the operands of float32 convolutions to TF32, 10 bits of the fraction, unless it is
told otherwise, and the process that uses fastdd may allow that, or bfloat16, for products too. So
``float32_products`` says each time what they are, and leaves the switches as it found them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Literal, NamedTuple, Protocol, TypeVar

import torch

from ..errors import InputError

Precision = Literal["auto", "fp32", "tf32", "bf16"]
"""the values of ``precision`` in recipes (config/base.py, which is declared without torch)"""
T = TypeVar("T")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32: on a CUDA GPU since Ampere, or an x86 CPU with AMX or AVX512-BF16.

    Any other CPU emulates bf16, slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def has_tf32(device: torch.device) -> bool:
    """Whether the device multiplies TF32: an NVIDIA GPU since Ampere does."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device)[0] >= 8


def on_device(key: str, precision: Precision, device: torch.device) -> Precision:
    """The precision that a recipe's value means on a device: ``auto`` is bf16 where it is fast, else fp32.

    Args:
        key: the recipe's key that has the value, for the message.

    Raises:
        InputError: it is tf32, and the device has none.
    """
    if precision == "tf32" and not has_tf32(device):
        raise InputError(
            f"{key} is tf32, which NVIDIA GPUs since Ampere have and the device {device} has not; "
            f"set {key} to fp32 or auto"
        )
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    return precision


def is_bf16(device: torch.device, precision: Precision) -> bool:
    """Whether networks compute in bf16; ``auto`` does where it is fast."""
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(device, precision))


# -- the switches of torch --------------------------------------------------------------------------


class _Switches(NamedTuple):
    """What torch lets float32 products and convolutions be.

    Attributes:
        products: ``torch.get_float32_matmul_precision``: highest, high or medium.
        cudnn: ``torch.backends.cudnn.allow_tf32``.
        each: what each of ``_owners`` has in its ``fp32_precision``, which is the newer way to say the same;
            torch refuses to compile where both ways disagree.
    """

    products: str
    cudnn: bool
    each: tuple[str, ...]

    @staticmethod
    def read() -> _Switches:
        return _Switches(
            _known(torch.get_float32_matmul_precision, "highest"),
            _known(lambda: torch.backends.cudnn.allow_tf32, True),
            tuple(owner.fp32_precision for owner in _owners()),
        )

    def write(self) -> None:
        torch.set_float32_matmul_precision(self.products)
        torch.backends.cudnn.allow_tf32 = self.cudnn
        for owner, value in zip(_owners(), self.each, strict=True):
            owner.fp32_precision = value


class _Owner(Protocol):
    fp32_precision: str


def _owners() -> tuple[_Owner, ...]:
    names = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
    return tuple(attrgetter(name)(torch.backends) for name in names)


def _known(read: Callable[[], T], otherwise: T) -> T:
    """What torch says of an older switch; it raises where the newer ones were set to something else."""
    try:
        return read()
    except RuntimeError:
        return otherwise


_EXACT = _Switches("highest", False, ("ieee",) * 6)
_TF32 = _Switches("high", True, ("tf32", "tf32", "tf32", "ieee", "ieee", "ieee"))


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Products and convolutions of float32 are in TF32 on a GPU if the precision is tf32, else in float32.

    The process's own switches are put back at the end.
    """
    before, wanted = _Switches.read(), _TF32 if precision == "tf32" else _EXACT
    if before == wanted:
        yield
        return
    wanted.write()
    try:
        yield
    finally:
        before.write()
