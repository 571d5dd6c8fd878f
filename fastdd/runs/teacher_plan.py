"""What the squeeze stage is about to do: which teachers it trains, and about how long that takes here."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .. import teachers
from ..config import Precision
from ..models.build import as_input, build, to_device
from ..runtime.console import counted
from ..runtime.distributed import world_size
from ..runtime.precision import autocast, float32_products
from .run import Run
from .run_teacher import RunTeacher

TIMED_IMAGES = 16
"""images of a timed step on a CPU, where the time of an image hardly depends on how many there are; a GPU is
timed with the teacher's own batch"""
TIMED_STEPS = 2
"""steps that are timed, after one that is not"""


@dataclass(frozen=True)
class PlannedTraining:
    """A teacher that is to be trained, or the rest of its training.

    Attributes:
        done: epochs that an interrupted command has finished.
        images: images that are left to be shown to it.
        seconds: about how long that takes here, without reading the images and testing.
    """

    teacher: RunTeacher
    done: int
    images: int
    seconds: float

    def __str__(self) -> str:
        config = self.teacher.config
        so_far = f" (of which {self.done} are done)" if self.done else ""
        start = "" if config.init is None else f" from {config.init}"
        return (
            f"{self.teacher.key}: {config.network}{start}, {counted(config.epochs, 'epoch')}{so_far} of "
            f"{len(self.teacher.real.train):,} images, about {rough(self.seconds)}"
        )


def planned_trainings(run: Run) -> list[PlannedTraining]:
    """The trainings that the squeeze stage has to do, in its order."""
    found = []
    for teacher in run.experiment.working_teachers.values():
        if teacher.is_trained and not run.folder.teacher(teacher.name).is_file():
            done = teachers.epochs_done(run.folder.training_checkpoint(teacher.name))
            images = (teacher.config.epochs - done) * len(teacher.real.train)
            seconds = images * seconds_an_image(teacher) / world_size() if images else 0.0
            found.append(PlannedTraining(teacher, done, images, seconds))
    return found


def seconds_an_image(teacher: RunTeacher) -> float:
    """Seconds that a training step of a teacher takes an image on the device of the run, measured."""
    config, device = teacher.config, teacher.real.device
    count = config.batch if device.type == "cuda" else min(TIMED_IMAGES, config.batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = build(config.network, len(teacher.real.classes), teacher.real.shape[0])
        network = to_device(network, device).train()
        images = as_input(torch.rand(max(2, count), *teacher.real.shape, device=device), network)
        with float32_products(config.precision):
            _step(network, images, config.precision)
            began = time.perf_counter()
            for _ in range(TIMED_STEPS):
                _step(network, images, config.precision)
    return (time.perf_counter() - began) / TIMED_STEPS / len(images)


def _step(network: nn.Module, images: torch.Tensor, precision: Precision) -> None:
    """Forward and backward of a step; the weights stay as they are, which costs next to nothing."""
    with autocast(images.device, precision):
        logits = network(images)
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    loss = F.cross_entropy(logits.float(), labels)
    network.zero_grad()
    loss.backward()
    loss.item()  # waits for a GPU


def rough(seconds: float) -> str:
    """A length of time in words, with the precision that an estimate has."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600)} h"


def announcement(planned: list[PlannedTraining], count: int) -> str:
    """What is said before the first training: which teachers are trained, one a line.

    Args:
        planned: the trainings, at least one.
    """
    total = rough(sum(each.seconds for each in planned))
    head = f"squeeze: {len(planned)} of {counted(count, 'teacher')} to be trained, about {total} in all"
    return "\n".join([f"{head}, without reading and testing:", *(f"  {each}" for each in planned)])
