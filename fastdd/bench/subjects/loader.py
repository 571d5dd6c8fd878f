"""Our loaders against ImageFolder with PIL in a DataLoader with worker processes, on JPEG files.

Every side delivers normalized float32 batches of 64; a call is a whole pass. The files are smooth random
images of 375 x 500 pixels, the median size of ImageNet's, read from a warm page cache. What is compared are
the pixels of the center of each image, also where a random crop is timed: PIL's are the truth, and a
difference of two levels of 255 is taken for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms
from torchvision.io import encode_jpeg

from ...data import Crop, Dataset, open_dataset, open_loader
from ...data.loading.batch import Backend
from ..work import Goal, Scale, Side, Work

BATCH, SIZE, HEIGHT, WIDTH = 64, 224, 375, 500
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COMPARED = 16
"""images whose pixels are compared"""
Pass = Callable[[], Iterator[Tensor]]
"""yields the batches of a pass"""


@dataclass(frozen=True)
class Geometry:
    """How images are cut to ``SIZE``.

    Attributes:
        resize: pixels to which the shorter side is resized first; None: to ``SIZE``.
        crop: whether a random part is cut out and resized.
    """

    text: str
    resize: int | None = None
    crop: bool = False


GEOMETRIES = {
    "center_256": Geometry("the shorter side to 256, the center of 224", resize=256),
    "center_224": Geometry("the shorter side to 224, the center"),
    "random_crop": Geometry("a random crop, resized to 224", crop=True),
}


@dataclass
class Photographs:
    """JPEG files in a folder, which goes with this object."""

    count: int
    workers: int
    folder: TemporaryDirectory[str] = field(default_factory=TemporaryDirectory)

    def __post_init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        for number in range(self.count):
            coarse = torch.rand(1, 3, 12, 16, generator=random)
            image = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)[0]
            noisy = 255 * image + 12 * torch.randn(image.shape, generator=random)
            path = self.root / "train" / f"class{number % 4}" / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(encode_jpeg(noisy.clamp(0, 255).to(torch.uint8), 90).numpy()))
        self.data: Dataset = open_dataset(self.root, "train")

    @property
    def root(self) -> Path:
        """The folder that holds ``train``."""
        return Path(self.folder.name)

    def pil(self, geometry: Geometry) -> Pass:
        """ImageFolder with PIL and a DataLoader, whose workers outlive a pass."""
        first: list[object]
        if geometry.crop:
            first = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
        else:
            first = [transforms.Resize(geometry.resize or SIZE), transforms.CenterCrop(SIZE)]
        chain = transforms.Compose([*first, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        images = Subset(datasets.ImageFolder(str(self.root / "train"), chain), range(self.count))
        loader = DataLoader(
            images, BATCH, num_workers=self.workers, persistent_workers=True, multiprocessing_context="fork"
        )
        return lambda: (batch for batch, _ in loader)

    def ours(self, geometry: Geometry, backend: Backend) -> Pass:
        """Ours, with the normalization that a consumer does."""
        loader = open_loader(
            self.data,
            BATCH,
            (SIZE, SIZE),
            indices=range(self.count),
            resize=geometry.resize,
            crop=Crop() if geometry.crop else None,
            threads=self.workers,
            backend=backend,
        )
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return lambda: (batch.images.float().div_(255).sub_(mean).div_(std) for batch in loader)


def exhaust(batches: Pass) -> Callable[[], int]:
    """A call that asks for all batches, and keeps none; it gives their number."""
    return lambda: sum(1 for _ in batches())


def center(geometry: Geometry) -> Geometry:
    """The geometry whose pixels are compared."""
    return GEOMETRIES["center_224"] if geometry.crop else geometry


def first_images(batches: Pass) -> list[Tensor]:
    return [next(batches())[:COMPARED]]


def loader_work(scale: Scale, name: str, geometry: Geometry) -> Work[Photographs]:
    """A pass over all files."""
    count, workers = scale.size(500, 32), 2
    backends: dict[str, Backend] = {"ours": "torchvision", "ours_dali": "dali"}

    def ours(backend: Backend, needs: tuple[str, ...]) -> Side[Photographs]:
        return Side(
            lambda files: exhaust(files.ours(geometry, backend)),
            lambda files: first_images(files.ours(center(geometry), backend)),
            needs=needs,
        )

    needs = {"ours": (), "ours_dali": ("nvidia.dali",)}
    return Work(
        name,
        f"{count} JPEG files of {HEIGHT} x {WIDTH}, {geometry.text}; {workers} threads or worker processes",
        lambda: Photographs(count, workers),
        lambda files: first_images(files.pil(center(geometry))),
        tolerance=0.02,  # two levels of 255 over the largest normalized value
        count=count,
        unit="image",
        goals=(Goal("faster", 1.2, "pil_dataloader"),),
        sides={
            **{side: ours(backend, needs[side]) for side, backend in backends.items()},
            "pil_dataloader": Side(
                lambda files: exhaust(files.pil(geometry)),
                lambda files: first_images(files.pil(center(geometry))),
            ),
        },
    )


def works(scale: Scale) -> list[Work]:
    """A work for each geometry; quick: two of them."""
    wanted = list(GEOMETRIES)[: scale.size(3, 2)]
    return [loader_work(scale, name, GEOMETRIES[name]) for name in wanted]
