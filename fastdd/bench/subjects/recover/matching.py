"""A step of DM against the released one, and what Siamese augmentation takes of it.

The step: a new ConvNet at random, real images of ten classes and IPC synthetic ones, one draw of augmentation
for each class, and the gradient of the images. The released step takes class after class and one backward
pass, in float32. Both have the same images, weights and draws, and the same operator for the augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn

from fastdd_kernels import siamese_augment

from ....config import BatchSize, Match, Recover
from ....models.build import build
from ....recover import RealImages, match_signal, plan
from ....recover.matching.features import CHUNK
from ....recover.steps import Round
from ....recover.variables import Pixels
from ....runtime.seeds import derive
from ....teachers import Card, Teacher
from ...work import Goal, Scale, Side, Work

CLASSES, SEED = 10, 0
MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.2, 0.2)


class Steps:
    """Both sides of a step.

    Args:
        side: of an image, in pixels.
        real: real images of each class in a step.
    """

    def __init__(self, scale: Scale, network: str, side: int, *, real: int, ipc: int) -> None:
        device, random = scale.device, torch.Generator().manual_seed(SEED)
        images = torch.randint(256, (CLASSES * real, 3, side, side), dtype=torch.uint8, generator=random)
        names = tuple(str(c) for c in range(CLASSES))
        card = Card(network, names, 3, MEAN, std=STD, size=(side, side))
        teacher = Teacher(build(network, CLASSES), card)
        labels = torch.arange(CLASSES).repeat_interleave(real)
        self.network, self.count, self.ipc, self.device = network, real, ipc, device
        self.real = RealImages.of(images.to(device), labels, teacher, SEED)
        self.match = Match.model_validate({"features": {}, "networks": {"network": network, "real": real}})
        self.synthetic = torch.randn(CLASSES * ipc, 3, side, side, generator=random).to(device)
        (self.unit,) = plan(CLASSES, ipc, BatchSize(classes=1, slots="all"), CLASSES * ipc)
        recover = Recover(precision=scale.precision)
        self.signal = match_signal(self.match, recover, self.real, device=device)
        self.signal.start(self.unit, 1)

    def ours(self, step: int = 0) -> list[Tensor]:
        """The gradient [N, 3, H, W] of a step."""
        low, high = (torch.tensor(bound, device=self.device) for bound in (-9.0, 9.0))
        variable = Pixels(self.synthetic.clone(), (low, high))
        self.signal(variable, Round(range(step, step + 1), self.unit, None), step)
        assert variable.free.grad is not None
        return [variable.free.grad]

    def released(self, step: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """The same by main_DM of VICO-UoE/DatasetCondensation."""
        torch.manual_seed(derive(SEED, "match network", step))
        network = build(self.network, CLASSES).train().requires_grad_(False).to(self.device, dtype)
        images = self.synthetic.to(dtype, copy=True).requires_grad_()
        loss = images.new_zeros(())
        for c, mine in enumerate(images.chunk(CLASSES)):
            drawn = self.real.siamese(self.match.siamese, c, step)
            real = siamese_augment(self.real.drawn(c, self.count, step).to(dtype), drawn)
            synthetic = siamese_augment(mine, drawn)
            target, mean = (embedding(network, x).mean(0) for x in (real, synthetic))
            loss = loss + (target.detach() - mean).square().sum()
        return list(torch.autograd.grad(loss, images))

    def siamese(self, step: int = 0) -> None:
        """All augmentation of a step of ours, and nothing else."""
        drawn = torch.cat([self.real.siamese(self.match.siamese, c, step) for c in range(CLASSES)])
        for row in drawn:
            siamese_augment(self.real.images[: self.count].float(), row[None])
        classes = max(1, CHUNK[self.device.type] // self.ipc)
        images = self.synthetic.split(classes * self.ipc)
        for mine, rows in zip(images, drawn.split(classes), strict=True):
            x = mine.clone().requires_grad_()
            y = siamese_augment(x, rows)
            torch.autograd.grad(y, x, torch.ones_like(y))


def one_after_another(step: Callable[[int], object]) -> Callable[[], object]:
    """A call that does the next step each time, so that nothing of the step before is still at hand."""
    numbers = count()
    return lambda: step(next(numbers))


def embedding(network: nn.Module, images: Tensor) -> Tensor:
    """The input [N, D] of the network's last layer."""
    features = network.get_submodule("features")
    y: Tensor = features(images)
    return y.flatten(1)


def matching_work(scale: Scale, real: int, ipc: int) -> Work[Steps]:
    """A step with so many real and synthetic images of each class."""
    network, side = ("convnet1", 8) if scale.quick else ("convnet3", 32)
    images = f"{CLASSES} x ({real} real + {ipc} synthetic) images of {side} x {side}"
    return Work(
        f"dm_{real}",
        f"a step of DM against the released one in fp32, {network}, {images}",
        lambda: Steps(scale, network, side, real=real, ipc=ipc),
        lambda steps: steps.released(dtype=torch.float64),
        tolerance=0.15 if scale.precision == "bf16" else 2e-2,
        error="norm",
        unit="step",
        goals=(Goal("faster", 3, "released"), Goal("share", 0.03, "siamese")),
        sides={
            "ours": Side(lambda steps: one_after_another(steps.ours), lambda steps: steps.ours()),
            "released": Side(lambda steps: one_after_another(steps.released), lambda steps: steps.released()),
            "siamese": Side(lambda steps: one_after_another(steps.siamese), part=True),
        },
    )


def works(scale: Scale) -> list[Work]:
    """The paper's number of real images, and a quarter of it."""
    ipc = scale.size(10, 2)
    return [matching_work(scale, real, ipc) for real in ((16,) if scale.quick else (256, 64))]
