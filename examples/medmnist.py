"""Distil a data set of MedMNIST: one ``.npz`` file with images and labels, as it is downloaded.

    python examples/medmnist.py [bloodmnist.npz]
    fastdd run cifar10cpu-deda data.root=bloodmnist.npz teacher.minimum_accuracy=0     # the same from a shell

Without a file it draws one of that layout: cells, which are round, long, or have two nuclei. It prints the
accuracy of students of each set on the test images, random real images first: the control.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import fastdd

RECIPE = """
ipc: 2
data: {size: 16}
teacher: {network: resnet8, mean: [0.7, 0.5, 0.6], std: [0.2, 0.2, 0.2], epochs: 10, lr: 0.05, batch: 32}
arms: {deda: {method: deda, steps: 40, lr: 0.02}}
student: {network: convnet, steps: 80, batch: 8, pad: 1, seeds: 2, evaluations: 1}
metrics: {full_set: false}
"""


def cells(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 28, 28, 3] images and uint8 [count, 1] labels, as MedMNIST stores them."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:28, :28]
    images, labels = random.normal(200, 8, (count, 28, 28, 3)), np.arange(count) % 3
    for image, label in zip(images, labels, strict=True):
        top, left = random.uniform(11, 17, 2)
        wide = 5 if label == 1 else 9
        image[((y - top) / 9) ** 2 + ((x - left) / wide) ** 2 < 1] -= [30, 90, 50]
        for shift in (-4, 4) if label == 2 else (0,):
            image[(y - top) ** 2 + (x - left - shift) ** 2 < 6] -= [60, 60, 20]
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)[:, None]


with tempfile.TemporaryDirectory() as folder:
    file = sys.argv[1] if sys.argv[1:] else f"{folder}/cells.npz"
    if not sys.argv[1:]:
        arrays = {}
        for seed, (split, count) in enumerate({"train": 300, "val": 30, "test": 60}.items()):
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = cells(count, seed)
        np.savez_compressed(file, **arrays)
    recipe = Path(folder) / "medmnist.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(recipe, f"{folder}/run", [f"data.root={file}"], until="evaluate")
    for arm, found in run.metrics.arms.items():
        print(f"{arm}:", *(f"{100 * accuracy:.1f} %" for accuracy in found.last))
