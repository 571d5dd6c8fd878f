"""Images of one's own, as torch Datasets, distilled by a recipe of seconds: python examples/own_data.py [RUN FOLDER]

A Dataset of (image, label) is all that is needed; here its images are drawn: bars that lie, stand or lean.
"""

import sys

import torch
from torch.utils.data import Dataset

import fastdd
from fastdd.config import Recipe


class Bars(Dataset):
    """Grey images of 12 x 12 pixels with a bar in one of three directions, and noise."""

    classes = ("lean", "lie", "stand")

    def __init__(self, count: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.targets = torch.arange(count) % len(self.classes)
        self.images = 0.3 * torch.rand(count, 1, 12, 12, generator=random)
        for image, label, place in zip(
            self.images, self.targets, torch.randint(1, 10, (count,), generator=random), strict=True
        ):
            bar = (image[0].diagonal(int(place) - 5), image[0, place], image[0, :, place])[label]
            bar += 0.6

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.targets[index])


recipe = Recipe.model_validate(
    {
        "name": "bars",
        "ipc": 2,
        "data": {"channels": 1},
        "teacher": {"network": "resnet8", "mean": [0.2], "std": [0.2], "epochs": 6, "batch": 32, "flip": 0},
        "arms": {"sre2l": {"steps": 30}},
        "student": {"network": "resnet8", "steps": 60, "batch": 6, "flip": 0, "seeds": 1, "evaluations": 1},
    }
)
out = sys.argv[1] if len(sys.argv) > 1 else "runs/bars"
result = fastdd.run(recipe, out=out, data=(Bars(240, seed=0), Bars(90, seed=1)))
print(result.path / "report.html")
