"""Architecture search on a distilled set: does it rank networks as the whole training set does?

    python examples/architecture_search.py [IMAGES A CLASS]

Each candidate is trained on the distilled digits (DM), on as many random real ones (the control), and on
all 1,438 (the truth that a search wants to spare). Printed are accuracies, and Spearman's correlation of
each small set's accuracies with those of the whole set: 1 is the same order. A search may trust a distilled
set only where that is high, and higher than the control's. It takes half a minute on a laptop.
"""

import sys
import tempfile
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import fastdd
from fastdd.data import open_dataset, open_loader

IPC = int((sys.argv[1:] or ["5"])[0])
RECIPE = """
data: {root: digits, channels: 1}
teacher: {network: convnet1, mean: [0.305], std: [0.376], epochs: 1, pad: 0, flip: 0.0}
arms: {dm: {method: dm, steps: 150, match: {networks: {network: convnet1, real: 64}}}}
student: {network: convnet1, labels: hard}
"""


def convolutions(width: int, depth: int, kernel: int = 3) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(width if i else 1, width, kernel, padding=kernel // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


def perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


CANDIDATES = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
    "perceptron, 8 wide": lambda: perceptron(8),
    "perceptron, 64 wide": lambda: perceptron(64),
    "1 convolution, 2 wide": lambda: convolutions(2, 1),
    "1 convolution, 16 wide": lambda: convolutions(16, 1),
    "2 convolutions, 16 wide": lambda: convolutions(16, 2),
    "2 convolutions of 1 x 1": lambda: convolutions(16, 2, kernel=1),
}


def pixels(split: str) -> tuple[Tensor, Tensor]:
    """Normalized images [n, 1, 8, 8] and their classes."""
    data = open_dataset("digits", split)
    batch = next(iter(open_loader(data, len(data), None, 1)))
    return (batch.images.float() / 255 - 0.305) / 0.376, batch.labels


def accuracy(network: nn.Module, images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor]) -> float:
    """In percent, after 200 steps of 64 images."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(200):
        rows = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return 100 * float((network(test[0]).argmax(1) == test[1]).float().mean())


with tempfile.TemporaryDirectory() as folder:
    recipe = Path(folder) / "search.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(recipe, f"{folder}/run", [f"ipc={IPC}"], until="recover")
    sets = {"whole": pixels("train")}
    for name in ("random", "dm"):
        small = run.arms[name].load()
        sets[name] = (small.normalize(small.images), small.labels)

test, found = pixels("test"), {name: [] for name in sets}
for title, build in CANDIDATES.items():
    for name, (images, labels) in sets.items():
        torch.manual_seed(0)
        found[name].append(accuracy(build(), images, labels, test))
    print(f"{title:24}", "  ".join(f"{name} {values[-1]:5.1f} %" for name, values in found.items()))
for name in ("random", "dm"):
    print(
        f"{name}: Spearman's correlation with the whole set {spearmanr(found[name], found['whole'])[0]:.2f}"
    )
