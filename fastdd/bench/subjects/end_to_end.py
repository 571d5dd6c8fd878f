"""All stages of a run on the digits, against the same stages written with plain PyTorch and released loops.

Teacher, SRe2L on ten real images a class, and a student with the teacher's labels on it and on as many random
real images: ours is ``fastdd.run`` to the accuracies of the students, checks, files and manifest included.
The peer trains the same networks for as many steps and runs the released loop. Draws differ, so a side is
right where its teacher and its student get no more test images wrong than those of a working run, over a few
draws. A broken stage ends near 90 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import run
from ...data import open_dataset, open_loader
from ...data.sources.base import Split
from ...models.build import build
from ..released import ReleasedLoop
from ..work import Scale, Side, Tensors, Work
from .students import released_loss

MEAN, STD, BATCH, IPC = 0.305, 0.376, 64, 10
ALLOWED = (0.15, 0.6)
"""shares of the test images that a teacher and a student may get wrong; 0.04 to 0.07 and 0.28 to 0.51 were
seen at the small sizes"""


@dataclass(frozen=True)
class Digits:
    """What both sides do.

    Attributes:
        student_steps: steps of the student, of 20 images each.
    """

    scale: Scale
    epochs: int
    steps: int
    student_steps: int

    def recipe(self) -> str:
        """Ours, as a recipe."""
        return f"""
ipc: {IPC}
data: {{root: digits, channels: 1}}
device: {self.scale.device.type}
teacher: {{network: resnet8, mean: [{MEAN}], std: [{STD}], epochs: {self.epochs}, batch: {BATCH}, lr: 0.1,
  pad: 1, flip: 0.0, minimum_accuracy: 0.0, precision: {self.scale.precision}}}
bank: {{precision: {self.scale.precision}}}
arms: {{sre2l: {{method: sre2l, init: real, lr: 0.1, steps: {self.steps}, augment: {{roll: [-1, 1]}}}}}}
recover: {{compile: false, unit_images: 100, precision: {self.scale.precision}}}
student: {{network: resnet8, pad: 1, flip: 0.0, seeds: 1, batch: 20, steps: {self.student_steps},
  precision: {self.scale.precision}}}
metrics: {{full_set: false}}
"""

    def ours(self) -> Tensors:
        """What our teacher and student get wrong, over what is allowed."""
        with TemporaryDirectory() as folder:
            recipe = Path(folder) / "digits.yaml"
            recipe.write_text(self.recipe())
            metrics = run(recipe, Path(folder) / "run", until="evaluate").metrics
        return wrong(metrics.teacher.accuracy, metrics.arms["sre2l"].last[0])

    # -- plain PyTorch -----------------------------------------------------------------------------

    def plain(self) -> Tensors:
        """The same of the peer's."""
        torch.manual_seed(0)
        device = self.scale.device
        splits = [_images(split, device) for split in ("train", "test")]
        (train, labels), test = splits
        per_epoch = -(-len(train) // BATCH)
        teacher = build("resnet8", 10, 1).to(device).train()
        optimizer = torch.optim.SGD(teacher.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * per_epoch)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(train)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(teacher(_shifted(train[rows])), labels[rows]).backward()
                optimizer.step()
                schedule.step()
        teacher.eval().requires_grad_(False)
        classes = torch.arange(10, device=device).repeat_interleave(IPC)
        bounds = [((0 - MEAN) / STD, (1 - MEAN) / STD)]
        real = train[torch.cat([(labels == c).nonzero()[:IPC, 0] for c in range(10)])]
        images = ReleasedLoop(teacher, classes, bounds).optimize(real, self.steps, 0.1, jitter=1)
        accuracies = [self._student(teacher, each, test) for each in (images, real)]
        return wrong(_accuracy(teacher, *test), accuracies[0])

    def _student(self, teacher: nn.Module, images: Tensor, test: tuple[Tensor, Tensor]) -> float:
        """Accuracy of a student that learns from the teacher's labels of augmented images."""
        student = build("resnet8", 10, 1).to(images.device).train()
        optimizer = torch.optim.AdamW(student.parameters(), 1e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.student_steps)
        for _ in range(self.student_steps):
            batch = _shifted(images[torch.randperm(len(images))[:20]])
            ratio = float(torch.distributions.Beta(0.8, 0.8).sample())
            mixed = ratio * batch + (1 - ratio) * batch[torch.randperm(len(batch))]
            optimizer.zero_grad()
            released_loss(student, teacher, mixed).backward()
            optimizer.step()
            schedule.step()
        return _accuracy(student.eval(), *test)


def wrong(teacher: float | None, student: float | None) -> Tensors:
    """What is wrong of accuracies, over what is allowed, a tensor each; None: the student diverged."""
    shares = (1 - (accuracy or 0.0) for accuracy in (teacher, student))
    return [
        torch.tensor(share / allowed, dtype=torch.float64)
        for share, allowed in zip(shares, ALLOWED, strict=True)
    ]


def _images(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalized images [N, 1, 8, 8] and their labels."""
    dataset = open_dataset("digits", split)
    (batch,) = open_loader(dataset, len(dataset), None)
    images = (batch.images[:, :1].float().div(255) - MEAN) / STD
    return images.to(device), batch.labels.to(device)


def _shifted(images: Tensor) -> Tensor:
    """The images, moved by up to a pixel together."""
    down, right = torch.randint(3, (2,)).tolist()
    return F.pad(images, (1, 1, 1, 1), value=-MEAN / STD)[:, :, down : down + 8, right : right + 8]


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((network(images).argmax(1) == labels).float().mean())


def works(scale: Scale) -> list[Work]:
    digits = Digits(
        scale, epochs=scale.size(10, 3), steps=scale.size(200, 20), student_steps=scale.size(300, 120)
    )
    work: Work[Digits] = Work(
        "digits",
        f"teacher ({digits.epochs} epochs), SRe2L ({digits.steps} steps of 100 images) and two students "
        f"({digits.student_steps} steps of 20 images), resnet8, digits of 8 x 8",
        lambda: digits,
        lambda inputs: [torch.zeros((), dtype=torch.float64)] * 2,
        tolerance=1.0,  # no float64 says what is right here
        unit="run",
        sides={"ours": Side(lambda inputs: inputs.ours), "plain_pytorch": Side(lambda inputs: inputs.plain)},
    )
    return [work]
