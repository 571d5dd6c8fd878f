"""Speed of a step of DM against the released one, and what Siamese augmentation takes of it.

    python benchmarks/matching.py [--quick] [--real 256] [--ipc 10] [--rounds 3] [--json FILE]

| figure | is | goal |
|---|---|---|
| released over ours | the released step (float32, class after class, one backward) over ours | at least 3 |
| siamese share | augmentation of all images of a step, with its backward pass, over the step | at most 0.03 |
| repeatable | whether a second step from the same images gives the same bytes | true |

The step: a new ConvNet at random, real images of ten classes and IPC synthetic ones, one draw of augmentation
for each class, and the gradient of the images. Both sides have the same images, weights and draws, and the
same operator for the augmentation, and run in turns after a round that is not timed; the figures are ratios
of the medians of the time of this process on all cores, which other work on the machine disturbs least.
Images are noise. ``cosine`` is that of the two gradients: ours has ``recover.precision``, bf16 where it is
fast.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from conftest import package_version, processor_name
from steps import timed
from torch import Tensor, nn

from fastdd.config import BatchSize, Match, Recover
from fastdd.models.build import build
from fastdd.recover import RealImages, match_signal, plan
from fastdd.recover.matching.features import CHUNK
from fastdd.recover.steps import Round
from fastdd.recover.variables import Pixels
from fastdd.runtime.seeds import derive
from fastdd.teachers import Card, Teacher
from fastdd_kernels import siamese_augment

CLASSES, SEED, CPU = 10, 0, torch.device("cpu")
MEAN, STD = (0.49, 0.48, 0.45), (0.2, 0.2, 0.2)


class Bench:
    """Both sides of a step.

    Args:
        network: name of the network.
        side: of an image, in pixels.
        real: real images of each class in a step.
        ipc: synthetic images of each class.
    """

    def __init__(self, network: str, side: int, real: int, ipc: int) -> None:
        random = torch.Generator().manual_seed(SEED)
        images = torch.randint(256, (CLASSES * real, 3, side, side), dtype=torch.uint8, generator=random)
        names = tuple(str(c) for c in range(CLASSES))
        card = Card(network, names, 3, MEAN, std=STD, size=(side, side))
        teacher = Teacher(build(network, CLASSES), card)
        self.network, self.count, self.ipc = network, real, ipc
        self.real = RealImages.of(images, torch.arange(CLASSES).repeat_interleave(real), teacher, SEED)
        self.match = Match.model_validate({"features": {}, "networks": {"network": network, "real": real}})
        self.synthetic = torch.randn(CLASSES * ipc, 3, side, side, generator=random)
        (self.unit,) = plan(CLASSES, ipc, BatchSize(classes=1, slots="all"), CLASSES * ipc)
        self.signal = match_signal(self.match, Recover(precision="auto"), self.real, device=CPU)
        self.signal.start(self.unit, 1)

    def ours(self, step: int) -> Tensor:
        variable = Pixels(self.synthetic.clone(), (torch.tensor(-9.0), torch.tensor(9.0)))
        self.signal(variable, Round(range(step, step + 1), self.unit, None), step)
        assert variable.free.grad is not None
        return variable.free.grad

    def released(self, step: int) -> Tensor:
        """main_DM.py of VICO-UoE/DatasetCondensation."""
        torch.manual_seed(derive(SEED, "match network", step))
        network = build(self.network, CLASSES).train().requires_grad_(False)
        images = self.synthetic.clone().requires_grad_()
        loss = torch.zeros(())
        for c, mine in enumerate(images.chunk(CLASSES)):
            drawn = self.real.siamese(self.match.siamese, c, step)
            real = siamese_augment(self.real.drawn(c, self.count, step), drawn)
            synthetic = siamese_augment(mine, drawn)
            target, mean = (embedding(network, x).mean(0) for x in (real, synthetic))
            loss = loss + (target.detach() - mean).square().sum()
        (gradient,) = torch.autograd.grad(loss, images)
        return gradient

    def siamese(self, step: int) -> None:
        """All augmentation of a step of ours, and nothing else."""
        drawn = torch.cat([self.real.siamese(self.match.siamese, c, step) for c in range(CLASSES)])
        for row in drawn:
            siamese_augment(self.real.images[: self.count].float(), row[None])
        classes = max(1, CHUNK["cpu"] // self.ipc)
        images = self.synthetic.split(classes * self.ipc)
        for mine, rows in zip(images, drawn.split(classes), strict=True):
            x = mine.clone().requires_grad_()
            y = siamese_augment(x, rows)
            torch.autograd.grad(y, x, torch.ones_like(y))


def embedding(network: nn.Module, images: Tensor) -> Tensor:
    """The input [N, D] of the network's last layer."""
    features = network.get_submodule("features")
    y: Tensor = features(images)
    return y.flatten(1)


def in_turns(sides: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each side, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            _, processor = timed(partial(side, number), 1, CPU)
            if number:
                seconds[name].append(processor)
    return seconds


def measure(bench: Bench, rounds: int) -> dict[str, object]:
    """All figures."""
    ours, again, released = bench.ours(0), bench.ours(0), bench.released(0)
    sides = {"ours": bench.ours, "released": bench.released, "siamese": bench.siamese}
    seconds = in_turns(sides, rounds)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "released over ours": median["released"] / median["ours"],
        "siamese share": median["siamese"] / median["ours"],
        "repeatable": torch.equal(ours, again),
        "cosine": torch.cosine_similarity(*(x.double().flatten() for x in (ours, released)), dim=0).item(),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a step of DM.")
    parser.add_argument("--quick", action="store_true", help="tiny shapes")
    parser.add_argument("--real", type=int, default=256, help="real images of each class")
    parser.add_argument("--ipc", type=int, default=10, help="synthetic images of each class")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are timed")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    network, side = ("convnet1", 8) if options.quick else ("convnet3", 32)
    figures = measure(Bench(network, side, options.real, options.ipc), options.rounds)
    shapes = f"{network}, {side} px, {CLASSES} x ({options.real} real + {options.ipc} synthetic) images"
    where = f"{processor_name()}, {torch.get_num_threads()} threads, torch {package_version('torch')}"
    record = {"machine": where, "shapes": shapes, **figures}
    print("\n".join(f"{name}: {value}" for name, value in record.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
