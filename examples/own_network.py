"""Distil with networks of your own: a trained module as teacher, and a function that builds the students.

In a recipe or on the command line networks are named: ``teacher.network=package.module:function`` with
``teacher.weights=FILE.safetensors``, or ``timm:NAME``. It takes some seconds on a laptop.
"""

import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn

import fastdd

RECIPE = """\
ipc: 5
data: {root: digits, channels: 1}
teacher: {mean: [0.305], std: [0.376]}
arms: {deda: {method: deda, steps: 60, terms: {gaussian: {layers: bn_inputs}}}}
student: {steps: 100, lr: 0.01, batch: 25, pad: 1, flip: 0.0, seeds: 2}
metrics: {full_set: false}
"""


def network(num_classes: int, width: int = 16) -> nn.Sequential:
    """Two convolutions and a linear layer, whose input is the embedding."""
    first = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    second = [nn.Conv2d(width, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, num_classes))


torch.manual_seed(0)
digits = load_digits()
images = (torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16 - 0.305) / 0.376
labels, teacher = torch.tensor(digits.target), network(10, width=32)
optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
for rows in (torch.randperm(1200)[:128] for _ in range(150)):
    loss = nn.functional.cross_entropy(teacher(images[rows]), labels[rows])
    optimizer.zero_grad(), loss.backward(), optimizer.step()

with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/own.yaml", "w") as file:
        file.write(RECIPE)
    result = fastdd.run(f"{folder}/own.yaml", out=f"{folder}/run", teacher=teacher, student=network)
    print("teacher", result.metrics.teacher.accuracy)
    for name, arm in result.metrics.arms.items():
        print(name, arm.last)
