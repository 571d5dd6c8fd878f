"""The released FKD code, written anew from the description of its layout: a writer and a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as T

CLASSES, BATCH, EPOCHS = 5, 8, 3
SCALAR: Any = np.float64(0).__reduce__()[0]
NUMPY: list[Any] = [
    (SCALAR, "numpy._core.multiarray.scalar"),
    (SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
]
NUMPY += [type(np.dtype(name)) for name in ("float64", "int64")]


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def orders(samples: int, batch: int, epochs: int) -> list[list[list[int]]]:
    """The samples of every batch of every epoch."""
    sampler = torch.utils.data.RandomSampler(range(samples), generator=torch.Generator().manual_seed(42))
    batches = torch.utils.data.BatchSampler(sampler, batch, drop_last=False)
    return [list(batches) for _ in range(epochs)]


def write_released(folder: Path, images: Tensor, mix: str = "cutmix", indices: bool = False) -> None:
    """What the released relabelling writes, with random logits whose strongest class is the sample modulo
    CLASSES."""
    torch.manual_seed(1)
    rng = np.random.default_rng(0)
    size = images.shape[2]
    for epoch, batches in enumerate(orders(len(images), BATCH, EPOCHS)):
        for number, samples in enumerate(batches):
            windows, flips = [], []
            for sample in samples:
                image = pil(images[sample])
                i, j, h, w = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])  # type: ignore[arg-type]
                windows.append((i / size, j / size, h / size, w / size))
                flips.append(bool(torch.rand(1) < 0.5))
            B = len(samples)
            partners, ratio, box = None, None, None
            if mix != "none":
                partners, ratio = torch.randperm(B), np.float64(rng.beta(1.0, 1.0))
            if mix == "cutmix":
                side, y, x = int(size * np.sqrt(1 - ratio)), rng.integers(size), rng.integers(size)
                box = [
                    np.clip(c, 0, size) for c in (y - side // 2, x - side // 2, y + side // 2, x + side // 2)
                ]
            logits = torch.randn(B, CLASSES)
            logits[torch.arange(B), torch.tensor(samples) % CLASSES] += 5
            content = [torch.tensor(windows), torch.tensor(flips), partners, ratio, box, logits.half()]
            content += [torch.tensor(samples)] if indices else []
            path = folder / f"epoch_{epoch}" / f"batch_{number}.tar"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, path)


def read_released(folder: Path, images: Tensor, epoch: int, number: int) -> tuple[Tensor, Tensor, list[int]]:
    """(mixed batch float [B, 3, H, W], logits, samples) as the released loader replays a batch."""
    with torch.serialization.safe_globals(NUMPY):
        content = torch.load(folder / f"epoch_{epoch}" / f"batch_{number}.tar", weights_only=True)
    windows, flips, partners, ratio, box, logits = content[:6]
    samples = orders(len(images), BATCH, epoch + 1)[epoch][number]
    assert windows.dtype == torch.float32
    assert flips.dtype == torch.bool
    assert logits.dtype == torch.float16
    assert len(windows) == len(samples)
    pixels = []
    for sample, window, flip in zip(samples, windows, flips, strict=True):
        image = pil(images[sample])
        top, left, h, w = (float(window[k]) * (image.size[1], image.size[0])[k % 2] for k in range(4))
        image = T.resized_crop(image, top, left, h, w, list(images.shape[2:]), InterpolationMode.BILINEAR)  # type: ignore[arg-type]
        pixels.append(T.to_tensor(T.hflip(image) if flip else image))
    batch = torch.stack(pixels)
    if partners is not None and box is None:
        batch = ratio * batch + (1 - ratio) * batch[partners]
    elif partners is not None:
        x1, y1, x2, y2 = box
        batch[:, :, x1:x2, y1:y2] = batch[partners, :, x1:x2, y1:y2].clone()
    return batch, logits, samples
