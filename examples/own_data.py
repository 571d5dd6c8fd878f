"""Distil images of one's own, given as torch Datasets of (image, label).

    python examples/own_data.py

It runs in seconds. The images are drawn here: a bar that lies or stands, and noise.
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

import fastdd


class Bars(Dataset[tuple[Tensor, int]]):
    """Grey images, float32 [1, 12, 12] in [0, 1]; PIL images, uint8 tensors and numpy arrays will do, too."""

    classes = ("lying", "standing")  # without it, the numbers of the labels are the names

    def __init__(self, count: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.images = 0.3 * torch.rand(count, 1, 12, 12, generator=random)
        self.targets = [index % 2 for index in range(count)]  # without it, labels cost a pass over all images
        places = torch.randint(12, (count,), generator=random).tolist()
        for image, label, place in zip(self.images, self.targets, places, strict=True):
            image.select(1 + label, place).add_(0.7)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.targets[index]


RECIPE = """
ipc: 4
data: {channels: 1}
teacher: {network: resnet8, mean: [0.2], std: [0.2], epochs: 5, batch: 32, pad: 1, flip: 0.0}
arms: {deda: {method: deda, steps: 50, lr: 0.05}}
student: {network: resnet8, steps: 60, batch: 8, pad: 1, flip: 0.0, seeds: 1, evaluations: 1}
metrics: {full_set: false}
"""

with tempfile.TemporaryDirectory() as folder:
    recipe = Path(folder) / "bars.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(
        recipe, out=Path(folder) / "run", data=(Bars(200, seed=0), Bars(60, seed=1)), until="evaluate"
    )
    for arm, measured in run.metrics.arms.items():
        print(arm, *measured.last)
