"""What the processor of this machine does in a second, measured in a second or two.

An operator of PyTorch on a CPU is far from one ceiling: a convolution of three channels reaches a fifth of
what one of 64 does, and a result for which memory is mapped anew is written at a fifth of the copy rate. So
the operators that a trace holds are measured themselves, the expensive ones first, on tensors of their sizes;
convolutions on as few images as show their rate. What is left when time is up has the rate of its kind.

Times are of the process, over its threads, so that other programs on the machine do not count; they are what
an idle machine would take.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.io import encode_jpeg

from ..data.decode import decode, fit
from ..runtime.console import counted
from ..runtime.memory import memory_budget
from .counting import Argument, Call, Launch, TensorSpec
from .devices import Seconds
from .fake_device import fake_device
from .subject import Sizes

MEASURING_SECONDS = 4.0
"""processor seconds after which no further operator is measured"""
ENOUGH_FLOPS = 1e9
"""operations of a convolution that show its rate"""
SMALL = 1 << 18
"""bytes below which an operator costs its launch and no more"""
COMPILED_SHARE = 0.4
"""what an operator that is no product or convolution takes inside a graph of torch.compile, where it is fused
with others: with all statistics of a ResNet-18 on, measured on this kind of machine"""
IMAGES_OF = {"aten::convolution": (0,), "aten::convolution_backward": (0, 1)}
"""operator -> its arguments that have one row an image"""


class Processor:
    """This machine's processor.

    Args:
        budget: processor seconds for measuring.

    Attributes:
        name: ``cpu``.
        memory: bytes that may be used now.
        threads: threads that operators run on.
        copy_rate: bytes a second that a copy reads and writes.
        launch: seconds of a call of an operator that computes next to nothing, with its part of the graph.
        measured: what was measured, a call -> seconds.
    """

    name = "cpu"

    def __init__(self, budget: float = MEASURING_SECONDS) -> None:
        self.left = budget
        self.memory = float(memory_budget())
        self.threads = torch.get_num_threads()
        self.copy_rate = self._copy_rate()
        self.launch = self._launch()
        self.measured: dict[Call, float | None] = {}
        self._known: dict[Call, float | None] = {}  # of convolutions of few images
        self._rates: dict[tuple[str, bool], list[tuple[float, float]]] = {}

    @property
    def source(self) -> str:
        """Where its prices come from."""
        operators = sum(value is not None for value in self.measured.values())
        return (
            f"on this machine with {counted(self.threads, 'thread')}: {self.copy_rate / 1e9:.1f} GB/s "
            f"of a copy, {1e6 * self.launch:.0f} us a call, and {operators} operators of the trace"
        )

    # -- prices -------------------------------------------------------------------------------------

    def learn(self, launches: Iterable[Launch]) -> None:
        """Measure the operators among launches that are not known yet, as long as time is left."""
        worth: Counter[Call] = Counter()
        first: dict[Call, Launch] = {}
        for launch in launches:
            if launch.call is not None and _is_large(launch) and launch.call not in self.measured:
                worth[launch.call] += round(1e9 * (launch.flops / 1e11 + launch.bytes / self.copy_rate))
                first.setdefault(launch.call, launch)
        for call, _ in worth.most_common():
            if self.left <= 0:
                return
            begin, launch = time.process_time(), first[call]
            seconds = self.measured[call] = self._seconds_of(call, launch.flops)
            if seconds:
                work = launch.flops or launch.bytes
                self._rates.setdefault(_kind(launch), []).append((work, seconds))
            self.left -= time.process_time() - begin

    def seconds(self, launches: Iterable[Launch], *, compiled: bool = False) -> Seconds:
        """Where the time of launches goes."""
        arithmetic = traffic = short = 0.0
        for launch in launches:
            if not _is_large(launch):
                short += 0.0 if compiled else self.launch
                continue
            known = None if launch.call is None else self.measured.get(launch.call)
            took = (launch.flops or launch.bytes) / self._rate(launch) if known is None else known
            if launch.flops:
                arithmetic += took
            else:
                traffic += COMPILED_SHARE * took if compiled else took
        return Seconds(arithmetic, traffic, short, host=0.0)

    def _rate(self, launch: Launch) -> float:
        """Operations, or bytes, a second of an operator that was not measured: what others of its kind reach
        together, else that of a copy."""
        alike = self._rates.get(_kind(launch), [])
        if not alike:
            return 4 * self.copy_rate if launch.flops else self.copy_rate
        return sum(work for work, _ in alike) / sum(seconds for _, seconds in alike)

    def total(self, seconds: Seconds, *, captured: bool = False) -> float:
        """One after another."""
        return seconds.device

    # -- measuring ----------------------------------------------------------------------------------

    def _timed(self, call: Callable[[], object], least: float = 2e-3) -> float:
        """Seconds of a call: the best of a few times, of the process over its threads."""
        call()
        best, spent = float("inf"), 0.0
        for _ in range(3):
            begin = time.process_time()
            call()
            took = time.process_time() - begin
            best, spent = min(best, took), spent + took
            if spent > 10 * least:
                break
        return best / self.threads

    def _copy_rate(self) -> float:
        size = 1 << 26
        source = torch.zeros(size // 4)
        target = torch.zeros_like(source)
        return 2 * size / self._timed(lambda: target.copy_(source), 0.1)

    def _launch(self) -> float:
        """Seconds of a call of an operator in a forward and backward pass of next to nothing."""
        network = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(8)))

        def call() -> None:
            network(torch.zeros(2, 4, 2, 2)).sum().backward()

        with fake_device("cpu") as counts:
            fake = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) for _ in range(8)))
            before = len(counts.launches)
            fake(torch.zeros(2, 4, 2, 2)).sum().backward()
            number = len(counts.launches) - before
        call()
        return self.threads * self._timed(call, 0.05) / number

    def _seconds_of(self, call: Call, flops: int) -> float | None:
        """Seconds of a call on tensors of its sizes; None: it cannot be called on black images."""
        reduced, scale = _fewer_images(call, flops)
        if reduced not in self._known:
            self._known[reduced] = self._called(reduced)
        known = self._known[reduced]
        return None if known is None else scale * known

    def _called(self, call: Call) -> float | None:
        """Seconds of a call on zeros; None: it cannot be called on them."""
        try:
            arguments = [_tensor(each) for each in call.arguments]
            keywords = {name: _tensor(each) for name, each in call.keywords}
            with torch.no_grad():
                return self._timed(lambda: call.function(*arguments, **keywords))
        except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError):
            return None


def _kind(launch: Launch) -> tuple[str, bool]:
    """Operators of a kind reach about the same rate: those of a name, in bf16 or not."""
    return launch.name, launch.dtype == "bfloat16"


def _is_large(launch: Launch) -> bool:
    return launch.bytes > SMALL or launch.flops > SMALL


def _fewer_images(call: Call, flops: int) -> tuple[Call, float]:
    """A convolution of fewer images, and how often it fits into the whole; other operators stay as they
    are."""
    places = IMAGES_OF.get(call.function._schema.name, ())
    first = call.arguments[0] if call.arguments else None
    if not places or not isinstance(first, TensorSpec) or flops <= ENOUGH_FLOPS:
        return call, 1.0
    images = first.shape[0]
    fewer = max(1, round(images * ENOUGH_FLOPS / flops))
    arguments = list(call.arguments)
    for place in places:
        each = cast(TensorSpec, arguments[place])
        arguments[place] = each._replace(shape=(fewer, *each.shape[1:]))
    return call._replace(arguments=tuple(arguments)), images / fewer


def _tensor(argument: Argument) -> object:
    """An argument with tensors of zeros in place of those without values."""
    if isinstance(argument, TensorSpec):
        return _zeros(argument)
    if isinstance(argument, tuple):
        return [_tensor(each) for each in argument]
    return argument


def _zeros(spec: TensorSpec) -> Tensor:
    size = 1 + sum((side - 1) * stride for side, stride in zip(spec.shape, spec.stride, strict=True))
    return torch.zeros(max(size, 1), dtype=spec.dtype).as_strided(spec.shape, spec.stride)


SECONDS_AN_IMAGE, SECONDS_A_PIXEL = 40e-6, 8.5e-9
"""of one core of an EPYC with libjpeg-turbo, for an image and for each of its pixels, with the resize; see
fastdd/data/decode.py"""


def assumed_seconds_to_decode(sizes: Sizes) -> float:
    """Core seconds of an image on another machine."""
    return SECONDS_AN_IMAGE + SECONDS_A_PIXEL * sizes.stored


def seconds_to_decode(sizes: Sizes, seconds: float = 0.1) -> float:
    """Core seconds of an image on this machine: a JPEG file of as many pixels, 4:3 unless it is small."""
    side = round(math.sqrt(sizes.stored))
    small = sizes.stored <= 224 * 224
    height, width = (
        (side, side) if small else (round(side * math.sqrt(3) / 2), round(side * 2 / math.sqrt(3)))
    )
    rows = torch.linspace(0, 20, height)[:, None] + torch.linspace(0, 30, width)
    image = (127 + 90 * rows.sin()).to(torch.uint8).expand(3, -1, -1).contiguous()
    data = bytearray(encode_jpeg(image, 90).numpy().tobytes())
    number, begin = 0, time.process_time()
    while time.process_time() - begin < seconds or number < 2:
        fit(decode(data, 3), sizes.shape[1:])
        number += 1
    return (time.process_time() - begin) / number
