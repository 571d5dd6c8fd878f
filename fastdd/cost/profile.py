"""Where the time of a stage goes: a few repetitions of its real code under PyTorch's profiler.

Functions of each part are marked while it looks, and what an operator takes belongs to the innermost mark
around it. Images are black and weights random, which take as long as any. Steps are not compiled, since a
compiled step has no parts.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import torch
from torch.autograd.profiler_util import EventList, FunctionEvent
from torch.profiler import ProfilerActivity, record_function

from ..config import Recipe
from ..errors import InputError, suggestion
from ..recover.terms.base import term_class
from .processor import seconds_to_decode
from .subject import Subject
from .work import EnoughError, Steps, Work
from .works import works_of

AUGMENT, FORWARD, STATISTICS = "augment", "forward", "statistics"
TERMS, BACKWARD, OPTIMIZER, HOST = "terms", "backward", "optimizer", "host"
TEACHER = "teacher's forward"
PARTS = (AUGMENT, FORWARD, TEACHER, STATISTICS, TERMS, BACKWARD, OPTIMIZER, HOST)
"""what a repetition consists of; host is what passes between operators, and those of no other part"""
MARKED = {
    "fastdd.recover.objective:augmented": AUGMENT,
    "fastdd.recover.matching.features:siamese_augment": AUGMENT,
    "fastdd.recover.matching.gradients:siamese_augment": AUGMENT,
    "fastdd.recover.matching.inner:siamese_augment": AUGMENT,
    "fastdd.recover.matching.trajectory:siamese_augment": AUGMENT,
    "fastdd.experts.training:siamese_augment": AUGMENT,
    "fastdd.teachers.epochs:shift_and_flip": AUGMENT,
    "fastdd.evaluate.batches:AugmentedBatches._augmented": AUGMENT,
    "fastdd.evaluate.batches:siamese_batch": AUGMENT,
    "fastdd.evaluate.batches:mix_batch": AUGMENT,
    "fastdd.teachers.load:Teacher.normalize": AUGMENT,
    "fastdd.teachers.taps:pooled_mean": STATISTICS,
    "fastdd.teachers.layer_names:pooled_mean": STATISTICS,
    "fastdd.teachers.taps:image_moments": STATISTICS,
    "fastdd_kernels:FrozenBatchNorm2d.with_moments": STATISTICS,
    "fastdd.evaluate.loss:distillation": TERMS,
    "torch.nn.functional:cross_entropy": TERMS,
    "torch:Tensor.backward": BACKWARD,
    "torch.autograd:grad": BACKWARD,
    "fastdd.recover.variables:Pixels.step": OPTIMIZER,
}
"""functions, as ``module:name``, and the part that they are"""
PRODUCTS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "matmul", "linear")
"""operators bound by arithmetic, by a part of their names"""
SHORT = 20e-6
"""seconds below which an operator costs its launch and little more"""


@dataclass(frozen=True)
class Profile:
    """Where the time of a stage's repetition goes.

    Attributes:
        stage, part: the stage, and what of it was looked at.
        seconds: of a repetition: of the processor, or that pass where a GPU computes.
        parts: part -> its seconds, in the order of ``PARTS``.
        kinds: arithmetic, memory traffic, launches and decoding -> their seconds of a repetition; the last
            runs beside a GPU.
        trace: the file of the trace, in Chrome's format.
    """

    stage: str
    part: str
    images: int
    seconds: float
    parts: dict[str, float]
    kinds: dict[str, float]
    trace: Path

    @property
    def sentence(self) -> str:
        """What bounds the stage."""
        kind = max(self.kinds, key=lambda name: self.kinds[name])
        share = self.kinds[kind] / max(sum(self.kinds.values()), 1e-12)
        advice = {
            "arithmetic": "convolutions and products; fewer or smaller images, a smaller network or another "
            "precision make it faster",
            "memory traffic": "operators that read and write tensors; compiling or a lower precision make it "
            "faster",
            "launches": "calls of short operators; more images a step make better use of the device",
            "decoding": "decoding images; more processor cores, or smaller stored images, make it faster",
        }
        return f"{self.stage} is bound by {kind}: {share:.0%} of its time goes to {advice[kind]}"


def profile(
    recipe: Recipe, stage: str | None, trace: Path, *, repetitions: int = 3, device: torch.device
) -> Profile:
    """Look at a few repetitions of a stage, on random weights.

    Args:
        stage: the beginning of a stage's name, such as ``recover`` or ``students``; None: recover.
        trace: the file that the trace is written to.
        device: where.

    Raises:
        InputError: the recipe has no such stage.
    """
    subject = Subject.of(recipe, kind="cuda" if device.type == "cuda" else "cpu")
    unchanged = subject.recipe.recover.model_copy(update={"compile": False, "capture": False})
    subject = Subject(subject.recipe.model_copy(update={"recover": unchanged}), subject.sizes)
    work = _chosen(works_of(subject, device), stage or "recover")
    work = replace(work, repeats=repetitions)
    with _marked(subject):
        events, seconds, passing = _looked_at(work, trace, device)
    parts, kinds = _by_part(events, repetitions, passing, device)
    # The profiler's clock also runs while others have the processor.
    parts, kinds = ({name: each * seconds / passing for name, each in of.items()} for of in (parts, kinds))
    if work.stage.startswith(("squeeze", "bank")):
        kinds["decoding"] = work.images * seconds_to_decode(subject.sizes)
    return Profile(work.stage, work.part, work.images, seconds, parts, kinds, trace)


def _chosen(works: Sequence[Work], stage: str) -> Work:
    """The first work of a stage whose name begins so."""
    found = [work for work in works if f"{work.stage} ".startswith(f"{stage} ") or work.stage == stage]
    if not found:
        names = sorted({name for work in works for name in (work.stage, work.stage.split()[0])})
        raise InputError(
            f"there is no stage {stage!r}{suggestion(stage, names)}; stages that take time here: "
            f"{', '.join(dict.fromkeys(work.stage for work in works))}"
        )
    return found[0]


def _looked_at(work: Work, trace: Path, device: torch.device) -> tuple[EventList, float, float]:
    """Events of all repetitions, the seconds of one, and the seconds that passed meanwhile, in which other
    programs may have run."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    profiler = torch.profiler.profile(activities=activities)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    marks, passed = list[float](), list[float]()

    def look() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(clock())
        passed.append(time.perf_counter())
        if len(marks) == 1:
            profiler.start()
            marks[0], passed[0] = clock(), time.perf_counter()
        elif len(marks) > work.repeats:
            profiler.stop()

    steps = Steps(work.repeats, look)
    with contextlib.suppress(EnoughError), contextlib.redirect_stderr(io.StringIO()):
        work.run(steps, work.images)
    profiler.export_chrome_trace(str(trace))
    events: EventList = profiler.events()
    seconds, passing = ((each[-1] - each[0]) / work.repeats for each in (marks, passed))
    return events, seconds, passing


def _by_part(
    events: EventList, repetitions: int, passing: float, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a repetition by part, and by what bounds them."""
    parts: dict[str, float] = defaultdict(float)
    kinds = dict.fromkeys(("arithmetic", "memory traffic", "launches"), 0.0)
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU or event.name in PARTS:
            continue  # a kernel belongs to the operator that launched it
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        took = own / 1e6 / repetitions
        parts[_part_of(event)] += took
        if any(name in event.name for name in PRODUCTS):
            kinds["arithmetic"] += took
        elif own / 1e6 < SHORT:
            kinds["launches"] += took
        else:
            kinds["memory traffic"] += took
    rest = max(0.0, passing - sum(parts.values()))
    parts[HOST] += rest
    kinds["launches"] += rest
    return {part: parts[part] for part in PARTS if parts[part]}, kinds


def _part_of(event: FunctionEvent) -> str:
    """The innermost mark around an event."""
    above: FunctionEvent | None = event
    while above is not None:
        if above.name in PARTS:
            return str(above.name)
        if above.name.startswith("Optimizer.step"):
            return OPTIMIZER
        if above.name.startswith("autograd::engine"):
            return BACKWARD
        above = above.cpu_parent
    return HOST


# -- marks -----------------------------------------------------------------------------------------


@contextmanager
def _marked(subject: Subject) -> Iterator[None]:
    """Mark the functions of each part while inside."""
    with ExitStack() as stack:
        terms = {name for method in subject.recipe.arms.values() for name in method.terms}
        for term in sorted(terms):
            kind = term_class(term)
            stack.enter_context(mock.patch.object(kind, "__call__", _marking(kind.__call__, TERMS)))
        for place, part in MARKED.items():
            module, _, path = place.partition(":")
            owner: object = importlib.import_module(module)
            *owners, name = path.split(".")
            for each in owners:
                owner = getattr(owner, each)
            stack.enter_context(mock.patch.object(owner, name, _marking(getattr(owner, name), part)))
        stack.enter_context(mock.patch.object(torch.nn.Module, "__call__", _outermost()))
        yield


def _marking(function: Callable[..., object], part: str) -> Callable[..., object]:
    @functools.wraps(function)
    def marked(*args: object, **options: object) -> object:
        with record_function(part):
            return function(*args, **options)

    return marked


def _outermost() -> Callable[..., object]:
    """``nn.Module.__call__`` that marks the call of a whole network, which is the teacher's where no gradient
    is wanted."""
    call, depth = torch.nn.Module.__call__, 0

    def marked(module: torch.nn.Module, *args: object, **options: object) -> object:
        nonlocal depth
        depth += 1
        try:
            if depth > 1:
                return call(module, *args, **options)
            with record_function(FORWARD if torch.is_grad_enabled() else TEACHER):
                return call(module, *args, **options)
        finally:
            depth -= 1

    return marked
