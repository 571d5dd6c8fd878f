"""How long a run takes, told in about a second: its real code is tried on a few black images, and scaled.

Counting what the code asks for (estimate.py) takes up to 15 seconds, since an operator on tensors without
values takes far longer than on a few images. So a run that begins does two repetitions of each work instead,
the second of which is timed. They have a few images, at least as many as can be timed; those of a GPU are
whole, since few images do not fill it. Nothing is compiled, since that takes a minute: of a step that the run
compiles on a CPU a fixed share of its plain time is told, and the compiler's own time.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from dataclasses import dataclass, field, replace

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ..runtime.console import rough_duration
from ..runtime.memory import memory_budget, processors
from ..runtime.seeds import seeded
from ..runtime.user_code import reason
from ..teachers import Teacher
from .estimate import COMPILER_SECONDS, decoded_images
from .processor import seconds_to_decode
from .subject import Subject
from .work import EnoughError, Steps, Work
from .works import works_of

PIXELS = 8 * 32 * 32
"""pixels of the images of a repetition that is tried first, where two images have no more"""
SHORT, ENOUGH = 0.02, 0.2
"""seconds of a repetition below which one of more images is tried, and what that takes at most"""
LONGEST = 0.5
"""seconds of a whole repetition above which a work that has no smaller one is not tried"""
COMPILING = "compiling"
"""name of the compiler's time among the stages"""
COMPILED_SHARE = 0.7
"""time of a compiled step over that of the plain one, all statistics on, on two AVX2 cores
(recover/resources.py)"""


@dataclass(frozen=True)
class _Tried(Subject):
    """A subject that makes each teacher once."""

    made: dict[tuple[str, torch.device], Teacher] = field(default_factory=dict)

    def teacher(self, name: str, device: torch.device) -> Teacher:
        if (name, device) not in self.made:
            self.made[name, device] = super().teacher(name, device)
        return self.made[name, device]


def outlook_text(subject: Subject, device: torch.device, processes: int = 1) -> str:
    """What a run is likely to take, by kind of stage, in a line, or why that is not known."""
    try:
        stages = outlook(subject, device, processes)
    except Exception as error:  # the run itself goes on, and tells what is wrong with it
        return f"what the run takes is not known beforehand: {reason(error)}"
    kinds: dict[str, float] = {}
    for stage, seconds in stages.items():
        kind = stage.split()[0].partition("-")[0]
        kinds[kind] = kinds.get(kind, 0.0) + (seconds or 0.0)
    untold = [stage for stage, seconds in stages.items() if seconds is None]
    told = ", ".join(f"{kind} {rough_duration(seconds)}" for kind, seconds in kinds.items() if seconds)
    without = f", without {', '.join(untold)}" if untold else ""
    recipe, how = subject.recipe, "a step of each was tried"
    if COMPILING in stages:
        how += f", and {COMPILED_SHARE:g} of its time is told where steps are compiled"
    elif recipe.recover.compile is True or any(each.compile is True for each in subject.students.values()):
        how += ", not compiled"
    return f"takes about {rough_duration(sum(kinds.values()))}{without}: {told} ({how})"


def outlook(subject: Subject, device: torch.device, processes: int = 1) -> dict[str, float | None]:
    """Stage -> seconds that it is likely to take, in the order of a run; None: it could not be tried.

    Args:
        subject: the recipe and the sizes of its data.
        device: where the run computes.
        processes: how many share the run.

    Returns:
        The seconds; what the compiler takes in all stages is ``COMPILING``, where there is any on a CPU.
    """
    asked = _Tried(subject.recipe, subject.sizes)
    plain = asked.recipe.recover.model_copy(update={"compile": False, "capture": False})
    subject = replace(asked, recipe=asked.recipe.model_copy(update={"recover": plain}))
    known: dict[str, float | None] = {}
    stages: dict[str, float | None] = {}
    pixels, an_image, compiling = math.prod(subject.sizes.shape[1:]), 0.0, 0.0
    with seeded(0), contextlib.redirect_stderr(io.StringIO()):
        works = zip(works_of(subject, device, processes), works_of(asked, device, processes), strict=True)
        for work, as_asked in works:
            key = work.alike or f"{work.stage} {work.part}"
            if key not in known:
                known[key] = _seconds_of(work, pixels, device, an_image)
            took, before = known[key], stages.get(work.stage, 0.0)
            done = work.times * work.share(processes)
            if as_asked.compiled and device.type == "cpu":
                done *= COMPILED_SHARE
                compiling += COMPILER_SECONDS * as_asked.graphs
            stages[work.stage] = None if took is None or before is None else before + done * took
            an_image = max(an_image, (took or 0.0) / max(1, work.images))
    each = seconds_to_decode(subject.sizes, seconds=SHORT) / processors()
    for stage, seconds in stages.items():
        images, _ = decoded_images(subject, stage, processes, memory=float(memory_budget()))
        stages[stage] = None if seconds is None else seconds + each * images
    return {**stages, COMPILING: compiling} if compiling else stages


def _seconds_of(work: Work, pixels: int, device: torch.device, an_image: float) -> float | None:
    """Seconds of a whole repetition.

    Args:
        pixels: pixels of an image.
        an_image: the most that an image took so far.
    """
    images = work.images if device.type == "cuda" else min(max(work.fewest, PIXELS // pixels), work.images)
    if images == work.images and images * an_image > LONGEST:
        return None
    try:
        took, fixed = _timed(work, images, device)
        if took < SHORT and images < work.images:
            images = min(work.images, round(images * ENOUGH / took))
            took, fixed = _timed(work, images, device)
    except Exception:  # such as too little memory, which the stage itself may avoid or tell of
        return None
    return took if images == work.images else fixed + (took - fixed) * work.images / images


def _timed(work: Work, images: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a repetition, after one that is not counted, and those of them that its optimizer takes,
    however many the images are; of the processor on a CPU, where other programs may run meanwhile."""
    gpu = device.type == "cuda"
    marks, steps = list[float](), list[float]()

    def now() -> float:
        if gpu:
            torch.cuda.synchronize(device)
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()

    with contextlib.ExitStack() as stack:
        for register in (register_optimizer_step_pre_hook, register_optimizer_step_post_hook):
            stack.callback(register(lambda *_: steps.append(now())).remove)
        with contextlib.suppress(EnoughError):
            work.run(Steps(work.repeats, lambda: marks.append(now())), images)
    optimizers = sum(
        end - begin for begin, end in zip(steps[::2], steps[1::2], strict=True) if begin >= marks[0]
    )
    return (marks[-1] - marks[0]) / work.repeats, optimizers / work.repeats
