"""Building the bank, against the teacher's forward pass alone and against keeping all features for numpy.

Ours is the whole build: forward pass, means and covariances of all residual blocks, embeddings, files. The
peer gathers the pooled features of all images and asks ``numpy.cov`` class by class, as scripts do that need
such statistics; it writes nothing. Images are random and already decoded, and the teacher has random weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from fastdd_kernels import LowRankCovariance, unpack_symmetric

from ...bank import Bank, Kept, build
from ...config import Bank as BankConfig
from ...data.loading.batch import Batch
from ...data.real_data import TrainingImages
from ...models.build import build as build_network
from ...models.build import to_device
from ...runtime.precision import autocast, float32_products
from ...teachers import Card, Features, Teacher, layer_names
from ..work import Goal, Scale, Side, Tensors, Work

SIDE = 32


def random_teacher(network: str, classes: int, device: torch.device) -> Teacher:
    """A teacher with random weights."""
    torch.manual_seed(0)
    built = to_device(build_network(network, classes), device)
    card = Card(network, tuple(map(str, range(classes))), 3, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Teacher(built.eval().requires_grad_(False), card)


def random_images(classes: int, per_class: int, batch: int) -> TrainingImages:
    """Random images in class order, made as they are read, so that all memory is the bank's own."""
    labels = torch.arange(classes).repeat_interleave(per_class)

    def stream(positions: range) -> Iterator[Batch]:
        for rows in torch.arange(positions.start, positions.stop).split(batch):
            random = torch.Generator().manual_seed(int(rows[0]))
            images = torch.randint(256, (len(rows), 3, SIDE, SIDE), dtype=torch.uint8, generator=random)
            yield Batch(images, labels[rows], rows)

    names = ["image"] * len(labels)
    return TrainingImages((3, SIDE, SIDE), labels, names, fingerprint="", transform={}, stream=stream)


@dataclass(frozen=True)
class Pass:
    """A teacher and the images of which the statistics are."""

    teacher: Teacher
    data: TrainingImages
    kept: Kept
    device: torch.device

    @classmethod
    def of(cls, scale: Scale, network: str, *, classes: int, per_class: int, batch: int = 100) -> Pass:
        teacher = random_teacher(network, classes, scale.device)
        config = BankConfig(batch=batch, precision=scale.precision)
        kept = Kept.of(teacher.network, config, list(layer_names(teacher.network, "blocks")), seed=0)
        return cls(teacher, random_images(classes, per_class, batch), kept, scale.device)

    def normalized(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.data.stream(range(len(self.data.labels))):
            yield self.teacher.normalize(batch.images.to(self.device)).to(dtype), batch.labels

    @torch.no_grad()
    def forward(self) -> None:
        """The forward pass alone, in the bank's precision."""
        precision = self.kept.config.precision
        with float32_products(precision), autocast(self.device, precision):
            for images, _ in self.normalized():
                self.kept.taps(images)

    def build(self) -> None:
        """The whole bank, in a folder that is deleted."""
        with TemporaryDirectory() as folder:
            build(Path(folder), self.teacher, self.data, self.kept, fingerprint="")

    def of_bank(self) -> Tensors:
        """Means and covariances [classes, ...] of the last block, read from the bank's files."""
        layer, classes = self.kept.pooled[-1], range(len(self.teacher.card.classes))
        with TemporaryDirectory() as folder:
            build(Path(folder), self.teacher, self.data, self.kept, fingerprint="")
            mean, packed = Bank(Path(folder)).gaussian(layer, classes)
        assert not isinstance(packed, LowRankCovariance)
        return [mean, unpack_symmetric(packed)]

    @torch.no_grad()
    def gathered(self) -> Tensors:
        """The same with numpy, from the features of all images and all blocks."""
        found: dict[str, list[np.ndarray]] = {layer: [] for layer in self.kept.pooled}
        for images, _ in self.normalized():
            for layer, features in self.kept.taps(images).pooled.items():
                if layer in found:
                    found[layer].append(features.float().cpu().numpy())
        labels, last = self.data.labels.numpy(), []
        for parts in found.values():
            rows = np.concatenate(parts)
            own = [rows[labels == c] for c in range(len(self.teacher.card.classes))]
            last = [np.stack([x.mean(0) for x in own]), np.stack([np.cov(x.T, bias=True) for x in own])]
        return [torch.from_numpy(each) for each in last]

    @torch.no_grad()
    def exact(self) -> Tensors:
        """The same in float64."""
        taps = self.in_float64()
        layer = self.kept.pooled[-1]
        rows = torch.cat([taps(images).pooled[layer] for images, _ in self.normalized(torch.float64)])
        own = [rows[self.data.labels == c] for c in range(len(self.teacher.card.classes))]
        covariances = [(x - x.mean(0)).T @ (x - x.mean(0)) / len(x) for x in own]
        return [torch.stack([x.mean(0) for x in own]), torch.stack(covariances)]

    def in_float64(self) -> Callable[[Tensor], Features]:
        return copy.deepcopy(self.kept.taps).double()


def bank_work(scale: Scale, network: str, classes: int, per_class: int) -> Work[Pass]:
    """A bank of some random images."""
    return Work(
        f"bank_{network}",
        f"a bank of {classes} classes x {per_class} images of {SIDE} x {SIDE}, {network}, all blocks",
        lambda: Pass.of(scale, network, classes=classes, per_class=per_class),
        lambda images: images.exact(),
        tolerance=5e-2 if scale.precision == "bf16" else 1e-4,
        error="norm",
        count=classes * per_class,
        unit="image",
        goals=(Goal("time", 1.05, "forward"),),
        sides={
            "ours": Side(lambda images: images.build, lambda images: images.of_bank()),
            "forward": Side(lambda images: images.forward, part=True),
            "numpy_cov": Side(lambda images: images.gathered),
        },
    )


def works(scale: Scale) -> list[Work]:
    """Banks of a narrow network and of a wide one."""
    if scale.quick:
        return [bank_work(scale, "resnet8", 4, 50)]
    return [bank_work(scale, "resnet20", 10, 200), bank_work(scale, "resnet18_small", 4, 50)]
