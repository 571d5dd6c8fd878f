"""Speed of the loaders on real photographs, each as a ratio to the loader that people use.

    python benchmarks/loaders.py imagenet_samples.tar [--images 1000] [--rounds 5] [--workers 2] [--json FILE]

The baseline is ImageFolder (PIL) in a DataLoader with worker processes that outlive a pass, with Resize or
RandomResizedCrop, ToTensor and Normalize. Every loader delivers normalized float32 batches of 64; a round is
a whole pass of each, one after the other, after one pass that is not timed; the median round is reported, and
the processor time, which a busy machine changes less. The photographs are read from a warm page cache, and
their list is repeated until there are enough.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import torch
from conftest import package_version, processor_name
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from fastdd.data import Crop, Dataset, open_dataset, open_loader
from fastdd.data.loading.batch import Backend
from fastdd.data.loading.loader import dali_installed

BATCH, SIZE = 64, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "pillow", "numpy")


class Geometry(TypedDict, total=False):
    """How images are cut: their shorter side is resized first, or a random crop is taken, or neither."""

    resize: int
    crop: Crop


WORKS: dict[str, Geometry] = {
    "center, 256 to 224": {"resize": 256},
    "center, 224": {},
    "random crop, 224": {"crop": Crop()},
}

Pass = Callable[[], Iterator[Tensor]]


def baseline(root: Path, chosen: list[int], options: Geometry, workers: int) -> Pass:
    """ImageFolder with PIL and a DataLoader."""
    if "crop" in options:
        geometry = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    else:
        geometry = [transforms.Resize(options.get("resize", SIZE)), transforms.CenterCrop(SIZE)]
    chain = transforms.Compose([*geometry, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    images = Subset(datasets.ImageFolder(str(root), chain), chosen)
    loader = DataLoader(images, BATCH, num_workers=workers, persistent_workers=True)
    return lambda: (batch for batch, _ in loader)


def ours(data: Dataset, chosen: list[int], options: Geometry, workers: int, *, backend: Backend) -> Pass:
    """Ours, with the normalization that a consumer does."""
    loader = open_loader(
        data, BATCH, (SIZE, SIZE), indices=chosen, threads=workers, backend=backend, **options
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return lambda: (batch.images.float().div_(255).sub_(mean).div_(std) for batch in loader)


def processor_seconds() -> float:
    """Processor time of this process and of its workers, as far as Linux tells."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def timed(run: Pass, images: int) -> tuple[float, float]:
    """Images a second, and processor milliseconds an image, of one pass."""
    start, used = time.perf_counter(), processor_seconds()
    count = sum(len(batch) for batch in run())
    if count != images:
        raise SystemExit(f"a pass gave {count} images, expected {images}")
    return images / (time.perf_counter() - start), 1000 * (processor_seconds() - used) / images


def largest_difference(a: Pass, b: Pass) -> float:
    """Largest difference of a pixel between two loaders, in levels of 255."""
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return max(float(((x - y).abs() * std * 255).max()) for x, y in zip(a(), b(), strict=True))


def measure(root: Path, images: int, rounds: int, workers: int) -> list[dict[str, object]]:
    """A row for each work and loader."""
    data = open_dataset(root, "train")
    chosen = (list(range(len(data))) * (images // len(data) + 1))[:images]
    rows: list[dict[str, object]] = []
    for work, options in WORKS.items():
        runs = {"PIL DataLoader": baseline(root / "train", chosen, options, workers)}
        backends: list[Backend] = ["torchvision", "dali"] if dali_installed() else ["torchvision"]
        for backend in backends:
            runs[f"fastdd, {backend}"] = ours(data, chosen, options, workers, backend=backend)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                once = timed(run, images)
                if number:
                    measured[name].append(once)
        base: tuple[float, ...] = ()
        for name, passes in measured.items():
            rate, cost = (statistics.median(values) for values in zip(*passes, strict=True))
            base = base or (rate, cost)
            row: dict[str, object] = {
                "work": work,
                "loader": name,
                "images/s": round(rate, 1),
                "best": round(max(passes)[0], 1),
            }
            row |= {"CPU ms/image": round(cost, 2), "speed of PIL": round(rate / base[0], 2)}
            row["CPU of PIL"] = round(cost / base[1], 2)
            if "crop" not in options and name != "PIL DataLoader":
                row["levels from PIL"] = round(largest_difference(runs[name], runs["PIL DataLoader"]), 2)
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="a tar of TOP/CLASS/IMAGE")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="threads of ours, processes of the baseline")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # intra-op threads beside decoding ones only wait for each other
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(arguments.archive) as tar:
            tar.extractall(folder, filter="data")
        (top,) = Path(folder).iterdir()
        top.rename(Path(folder) / "train")
        rows = measure(Path(folder), arguments.images, arguments.rounds, arguments.workers)
    facts = {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "workers": arguments.workers,
        "images": arguments.images,
        "rounds": arguments.rounds,
        "packages": {package: package_version(package) for package in PACKAGES},
    }
    if arguments.json:
        arguments.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
