"""What a run costs before it is started: time and memory of each stage, and what it stores.

The real code of each stage runs on a device without values (fake_device.py), and what it asks for has the
prices of a device: those of a GPU's data sheet (devices.py), or what was measured of this processor
(processor.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch

from ..config import CONTROL, FULL, Recipe
from ..errors import InputError
from ..evaluate.full_set import bytes_of_set
from ..recover.resources import GPU_SHARE
from ..runtime.memory import BUDGET, processors
from ..runtime.user_code import reason
from .devices import GPU, GPUS, Prices
from .processor import Processor, assumed_seconds_to_decode, seconds_to_decode
from .storage import storage
from .subject import Subject
from .work import Traced, Work, traced
from .works import works_of

COMPILER_SECONDS = 50.0
"""of torch.compile for a graph of a ResNet-18 with all its taps on a CPU"""
CORES = 16
"""processor cores beside a GPU that decode images"""


@dataclass(frozen=True)
class Part:
    """A part of a stage.

    Attributes:
        seconds: how long it takes the process that has most of it.
        bound: what most of it goes to: arithmetic, memory traffic, launches, decoding or compiling.
        images: images that it handles, over all processes.
        bytes_moved: bytes that its kernels read and write, over all processes; 0 for what has none.
        operations: their multiplications and additions, likewise.
    """

    name: str
    seconds: float
    bound: str
    images: float
    bytes_moved: float = 0.0
    operations: float = 0.0


@dataclass(frozen=True)
class StageEstimate:
    """A stage of a run.

    Attributes:
        stage: the name under which a run notes its seconds.
        seconds: how long it takes; decoding runs beside a GPU.
        memory: the most bytes that its tensors take on the device at once.
        parts: what it consists of.
        why: why it could not be counted; empty: it was.
    """

    stage: str
    seconds: float
    memory: float
    parts: Sequence[Part]
    why: str = ""

    @property
    def bound(self) -> str:
        """What most of its time goes to."""
        return max(self.parts, key=lambda part: part.seconds).bound if self.parts else ""


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        device: the device, ``cpu`` or one of ``devices.GPUS``.
        stages: the stages that take time, in order.
        storage: what is stored -> bytes.
        computed, measured: what was computed from what, and what was measured, in words.
        notes: what does not fit, and what is not counted.
    """

    recipe: str
    device: str
    count: int
    stages: Sequence[StageEstimate]
    storage: dict[str, int]
    computed: str
    measured: str
    notes: Sequence[str] = field(default=())

    @property
    def seconds(self) -> float:
        """How long all stages take that were counted."""
        return sum(stage.seconds for stage in self.stages)


def estimate(
    recipe: Recipe,
    device: str = "cpu",
    *,
    count: int = 1,
    cores: int = CORES,
    sizes: dict[str, int] | None = None,
    stages: Sequence[str] = (),
    known: dict[str, Traced | str] | None = None,
) -> Estimate:
    """Estimate a run.

    Args:
        device: ``cpu`` for this machine, or one of ``devices.GPUS``.
        count: processes, each with such a device, that share the run.
        cores: processor cores beside each GPU that decode images.
        sizes: ``classes``, ``train`` and ``test`` images in place of those of the recipe's data.
        stages: first words of the stages that are wanted, such as ``recover``; none: all.
        known: works that were counted before, for the same recipe but for ``ipc``; others are added. None:
            there are none.

    Raises:
        InputError: the device is unknown, or the sizes of the data are.
    """
    if device != "cpu" and device not in GPUS:
        raise InputError(f"there are no figures of the device {device!r}; known: cpu, {', '.join(GPUS)}")
    subject = Subject.of(recipe, sizes, "cpu" if device == "cpu" else "cuda")
    if device == "cpu":
        prices: Processor | GPU = Processor()
        each, cores = seconds_to_decode(subject.sizes), min(processors(), torch.get_num_threads())
    else:
        prices, each = GPU.of(device), assumed_seconds_to_decode(subject.sizes)
    found = _stages(subject, prices, count, wanted=stages, known={} if known is None else known)
    decoded = [_with_decoding(stage, subject, prices, each / cores, count) for stage in found]
    left_out = [stage.stage for stage in decoded if _is_left_out(subject, stage.stage, prices)]
    decoded = [stage for stage in decoded if stage.stage not in left_out]
    notes = [f"{stage} is left out: its images do not fit into memory" for stage in left_out]
    notes += [
        f"{stage.stage} needs {stage.memory / 1e9:.0f} GB, and {device} has {prices.memory / 1e9:.0f} GB; "
        "choose a smaller batch"
        for stage in decoded
        if stage.memory > prices.memory and device != "cpu"
    ]
    notes += [f"{stage.stage} is not counted: {stage.why}" for stage in decoded if stage.why]
    if count > 1 and any(stage.stage.startswith("squeeze") for stage in decoded):
        notes.append("the time in which devices exchange the gradients of a teacher is not counted")
    computed = (
        f"times and memory from what the code asks for on {subject.sizes.source}, storage from the shapes of "
        "its files"
    )
    told = prices.source
    if device != "cpu":
        computed += f"; {device}: {told}"
    measured = (
        f"{told}; {1e3 * each:.2g} ms to decode an image" if device == "cpu" else "nothing on such a device"
    )
    return Estimate(recipe.name, device, count, decoded, storage(subject), computed, measured, tuple(notes))


def _stages(
    subject: Subject,
    prices: Processor | GPU,
    count: int,
    *,
    wanted: Sequence[str],
    known: dict[str, Traced | str],
) -> list[StageEstimate]:
    """The stages without decoding."""
    kind = "cpu" if isinstance(prices, Processor) else "cuda"
    works = [
        work
        for work in works_of(subject, torch.device(kind), count)
        if not wanted or work.stage.split()[0].partition("-")[0] in wanted
    ]
    for number, work in enumerate(works):
        key = work.alike or f"{work.stage} {work.part}"
        if key not in known:
            known[key] = _counted(work, kind)
        found = known[key]
        if not isinstance(found, str) and kind == "cuda" and work.stage.startswith("recover"):
            works[number], known[key] = _fitting(subject, work, found, prices.memory, count)
    if isinstance(prices, Processor):
        launches = [launch for each in known.values() if isinstance(each, Traced) for launch in each.launches]
        prices.learn(launches)
    stages = []
    for stage, group in groupby(works, key=lambda work: work.stage):
        parts, memory, why = list[Part](), 0.0, ""
        for work in group:
            each = known[work.alike or f"{work.stage} {work.part}"]
            if isinstance(each, str):
                why = each
                continue
            memory = max(memory, each.peak)
            parts += _parts(work, each, prices, count)
        stages.append(StageEstimate(stage, sum(part.seconds for part in parts), memory, parts, why))
    return stages


def _counted(work: Work, kind: str) -> Traced | str:
    """What a work asks for, or why that cannot be counted."""
    try:
        return traced(work, "cpu" if kind == "cpu" else "cuda")
    except InputError:
        raise
    except Exception as error:  # code that reads values cannot run without any
        return f"its code needs values ({reason(error)[:100]})"


def _fitting(
    subject: Subject, work: Work, found: Traced, memory: float, count: int
) -> tuple[Work, Traced | str]:
    """A work of recover in units that fit into the memory of a device."""
    config = subject.recipe.recover
    if config.unit_images != "auto" or found.peak <= GPU_SHARE * memory:
        return work, found
    fits = max(1, int(work.images * GPU_SHARE * memory / found.peak))
    smaller = config.model_copy(update={"unit_images": fits})
    recipe = subject.recipe.model_copy(update={"recover": smaller})
    again = works_of(replace(subject, recipe=recipe), torch.device("cuda"), count)
    (changed,) = (each for each in again if each.stage == work.stage)
    return changed, _counted(changed, "cuda")


def _parts(work: Work, found: Traced, prices: Prices, count: int) -> list[Part]:
    seconds = prices.seconds(found.launches, compiled=work.compiled)
    times = work.times * work.share(count)
    total = prices.total(seconds, captured=work.captured) / work.repeats
    kinds = {
        "arithmetic": seconds.arithmetic,
        "memory traffic": seconds.traffic,
        "launches": seconds.launches,
    }
    bound = max(kinds, key=lambda kind: kinds[kind])
    if not work.captured and seconds.host > seconds.device:
        bound = "launches"
    parts = [
        Part(
            work.part,
            times * total,
            bound,
            images=work.images * work.times,
            bytes_moved=found.bytes * work.times,
            operations=found.flops * work.times,
        )
    ]
    if work.compiled:
        parts.append(Part("compiling", COMPILER_SECONDS * work.graphs, "compiling", images=0))
    return parts


def _with_decoding(
    stage: StageEstimate, subject: Subject, prices: Prices, each: float, count: int
) -> StageEstimate:
    """A stage with the decoding of the images that it reads.

    Args:
        each: seconds of an image.
    """
    images, held = decoded_images(subject, stage.stage, count, memory=prices.memory)
    stage = replace(stage, memory=stage.memory + held)
    if not images:
        return stage
    part = Part("decoding", each * images, "decoding", images=images)
    beside = prices.name != "cpu"
    seconds = max(stage.seconds, part.seconds) if beside else stage.seconds + part.seconds
    return replace(stage, seconds=seconds, parts=[*stage.parts, part])


def decoded_images(subject: Subject, stage: str, count: int, *, memory: float) -> tuple[int, int]:
    """How many images a stage decodes, and the bytes of decoded ones that it holds on its device.

    Args:
        stage: its name, such as ``bank``. What those after it decode is few and does not count.
        count: processes that share the stage.
        memory: bytes of the device.
    """
    sizes, name = subject.sizes, stage.split()[0]
    if name.startswith("bank"):
        return -(-sizes.train // count), 0
    if name in ("label", "students"):
        tested = bytes_of_set(sizes.test, sizes.shape) if name == "students" else 0
        return 0, _bytes_learned(subject, stage) + tested
    if not name.startswith("squeeze"):
        return 0, 0
    config, held, tested = (
        subject.teachers[name.removeprefix("squeeze").removeprefix("-")],
        bytes_of_set(sizes.train, sizes.shape),
        bytes_of_set(sizes.test, sizes.shape),
    )
    if config.weights is not None:
        return sizes.test, 0
    resident = config.scale is None and held <= BUDGET * memory
    images = (1 if resident else config.epochs) * sizes.train + sizes.test
    return -(-images // count), tested + (held if resident else 0)


def _is_left_out(subject: Subject, stage: str, prices: Processor | GPU) -> bool:
    """Whether a run leaves the students of a stage out, which would learn the whole training set, for lack of
    memory."""
    if stage.split()[0] != "students" or stage.split()[-1] != FULL:
        return False
    usable = prices.memory if isinstance(prices, Processor) else BUDGET * prices.memory
    tested = BUDGET * bytes_of_set(subject.sizes.test, subject.sizes.shape)
    return subject.recipe.metrics.full_set == "auto" and _bytes_learned(subject, stage) + tested > usable


def _bytes_learned(subject: Subject, stage: str) -> int:
    """Bytes of the set that a stage of labels or students holds."""
    student, learned, sizes = " ".join(stage.split()[1:-1]), stage.split()[-1], subject.sizes
    if learned == FULL:
        shown = subject.protocol(CONTROL, student).images_seen
        return bytes_of_set(min(sizes.train, shown), sizes.shape)
    formation = subject.arms[learned].formation
    per_file = 1 if formation is None else formation.images
    return bytes_of_set(subject.seen(learned) * sizes.classes, sizes.shape, per_file)
