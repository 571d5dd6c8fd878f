"""What devices do in a second: bytes, operations and launches, of GPUs from their data sheets.

No kernel reaches a data sheet, so a GPU is priced at a share of it. The shares are assumptions: 83 % of the
bandwidth is what streaming kernels reach on an H100, 66 % of the tensor cores what cuDNN's convolutions of
a ResNet reach in bf16, and 75 % of the float32 rate what cuBLAS reaches. No GPU was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .counting import Launch

BANDWIDTH_SHARE, BF16_SHARE, FP32_SHARE = 0.83, 0.66, 0.75
"""what is reached of a data sheet's bytes a second, and of its operations a second by type of the operands"""
SHORTEST_KERNEL = 2.2e-6
"""seconds of the shortest kernel of a GPU"""
LAUNCH = 7e-6
"""seconds that a host takes to launch a kernel of a GPU from Python"""
PAIR_SHARE = 0.17
"""what fastdd's kernel of pairs reaches of the bf16 rate: it takes six such products for one of float32"""


class DataSheet(NamedTuple):
    """What a GPU's maker says of it.

    Attributes:
        bandwidth: bytes a second of its memory.
        bf16: operations a second of bf16 products on tensor cores, dense.
        fp32: operations a second of float32 without tensor cores.
        memory: bytes of its memory.
    """

    bandwidth: float
    bf16: float
    fp32: float
    memory: float
    source: str


GPUS = {
    "h200": DataSheet(4.8e12, 989e12, 67e12, 141e9, "NVIDIA H200 data sheet, SXM"),
    "h100": DataSheet(3.35e12, 989e12, 67e12, 80e9, "NVIDIA H100 data sheet, SXM"),
    "b200": DataSheet(8.0e12, 2250e12, 75e12, 180e9, "NVIDIA HGX B200 data sheet, a GPU of eight"),
    "a100": DataSheet(2.039e12, 312e12, 19.5e12, 80e9, "NVIDIA A100 data sheet, SXM 80 GB"),
    "a100-40gb": DataSheet(1.555e12, 312e12, 19.5e12, 40e9, "NVIDIA A100 data sheet, SXM 40 GB"),
    "l40s": DataSheet(0.864e12, 362e12, 91.6e12, 48e9, "NVIDIA L40S data sheet"),
    "a10": DataSheet(0.6e12, 125e12, 31.2e12, 24e9, "NVIDIA A10 data sheet"),
    "rtx4090": DataSheet(1.008e12, 165e12, 82.6e12, 24e9, "NVIDIA Ada GPU architecture paper"),
}


class Seconds(NamedTuple):
    """Where the time of a repetition goes; only the total of a GPU's host can be hidden behind the rest.

    Attributes:
        arithmetic: seconds of kernels that are bound by their operations.
        traffic: seconds of kernels that are bound by the bytes that they move.
        launches: seconds of kernels that are too short for either.
        host: seconds that the host takes for all launches.
    """

    arithmetic: float
    traffic: float
    launches: float
    host: float

    @property
    def device(self) -> float:
        """Seconds of the kernels."""
        return self.arithmetic + self.traffic + self.launches


class Prices(Protocol):
    """A device with prices."""

    @property
    def name(self) -> str:
        """Its name, as ``fastdd estimate --gpu`` takes it."""

    @property
    def memory(self) -> float:
        """Bytes of its memory."""

    @property
    def source(self) -> str:
        """Where its prices come from, in words."""

    def seconds(self, launches: Iterable[Launch], *, compiled: bool = False) -> Seconds:
        """Where the time of launches goes."""

    def total(self, seconds: Seconds, *, captured: bool = False) -> float:
        """Seconds that pass; ``captured``: a CUDA graph launches the kernels."""


@dataclass(frozen=True)
class GPU:
    """A GPU as kernels like these find it.

    Attributes:
        name: its key in ``GPUS``.
        bandwidth: bytes read and written a second.
        peaks: type of the operands, or name of a Triton kernel -> operations a second.
        memory: bytes.
        source: where the figures come from.
    """

    name: str
    bandwidth: float
    peaks: Mapping[str, float]
    memory: float
    source: str

    @staticmethod
    def of(name: str) -> GPU:
        """A GPU of the table."""
        sheet = GPUS[name]
        bf16 = BF16_SHARE * sheet.bf16
        peaks = {"bfloat16": bf16, "float32": FP32_SHARE * sheet.fp32, "_pair_dot_kernel": PAIR_SHARE * bf16}
        source = (
            f"{sheet.source}: {sheet.bandwidth / 1e12:g} TB/s, {sheet.bf16 / 1e12:g} TFLOP/s in bf16 and "
            f"{sheet.fp32 / 1e12:g} in fp32, of which {BANDWIDTH_SHARE:.0%}, {BF16_SHARE:.0%} and "
            f"{FP32_SHARE:.0%} are assumed to be reached"
        )
        return GPU(name, BANDWIDTH_SHARE * sheet.bandwidth, peaks, sheet.memory, source)

    def seconds_of(self, launch: Launch) -> float:
        """The time of a kernel: what bounds it most."""
        return max(launch.bytes / self.bandwidth, self._arithmetic(launch), SHORTEST_KERNEL)

    def _arithmetic(self, launch: Launch) -> float:
        peak = self.peaks.get(launch.name) or self.peaks.get(launch.dtype, self.peaks["float32"])
        return launch.flops / peak

    def seconds(self, launches: Iterable[Launch], *, compiled: bool = False) -> Seconds:
        """Where the time of launches goes; ``compiled`` is not counted on a GPU."""
        arithmetic = traffic = short = host = 0.0
        for launch in launches:
            host += LAUNCH
            operations, moved = self._arithmetic(launch), launch.bytes / self.bandwidth
            if max(operations, moved) <= SHORTEST_KERNEL:
                short += SHORTEST_KERNEL
            elif operations > moved:
                arithmetic += operations
            else:
                traffic += moved
        return Seconds(arithmetic, traffic, short, host)

    def total(self, seconds: Seconds, *, captured: bool = False) -> float:
        """Kernels and host overlap; where the host is slower, the GPU waits for it."""
        return seconds.device if captured else max(seconds.device, seconds.host)
