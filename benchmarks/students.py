"""Speed of a student's epoch on a small distilled set, as a ratio to the released form of the same protocol.

    python benchmarks/students.py [--network resnet20] [--images 1000] [--rounds 5] [--json FILE]

Released (SRe2L's relabel_cifar.py, as DWA, INFER and DiRe have it): JPEG files in class folders, an
ImageFolder with PIL and RandomCrop, flip, ToTensor and Normalize image by image, a DataLoader with 2 workers
that start anew in every epoch, MixUp, a teacher in train mode that labels each batch, a contiguous student,
float32, AdamW without groups; the losses are read by the host at every step. Ours: the same protocol
(``--protocol sre2l-cifar``) on the same images in memory, in variants. The variants take turns, one epoch of
each a round, after one epoch that is not timed; the median round is reported, and the processor time of all
processes, which a busy machine changes less.

Two further rows say where the time goes: the batches alone (everything but the networks), released and ours.
The last two are steps of convnet3, the student of the matching methods, on hard labels: with weights and
batches in channels-last, as every network had them before, and in the network's memory format.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from conftest import package_version, processor_name
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.io import encode_jpeg

from fastdd.config import Precision
from fastdd.evaluate import AugmentedBatches
from fastdd.evaluate.learner import student_optimizer
from fastdd.evaluate.loss import add_gradient, student_loss
from fastdd.models.build import build, memory_format, to_device
from fastdd.protocols import settle_student
from fastdd.recipes.students import resolve_student
from fastdd.runtime.precision import autocast, has_fast_bf16
from fastdd.teachers import Card, Teacher

CLASSES, SIZE, BATCH, WORKERS = 10, 32, 128, 2
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PACKAGES = ("torch", "torchvision", "pillow", "numpy")
Epoch = Callable[[], int]
"""does one epoch and says of how many images"""


def make_teacher(network: str) -> Teacher:
    """A teacher with random weights."""
    torch.manual_seed(0)
    built = to_device(build(network, CLASSES), torch.device("cpu")).eval().requires_grad_(False)
    return Teacher(built, Card(network, tuple(map(str, range(CLASSES))), 3, mean=MEAN, std=STD))


def make_images(count: int, folder: Path) -> Tensor:
    """Smooth random images, uint8, also as the released scripts' JPEG files."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = (255 * F.interpolate(coarse, size=SIZE, mode="bilinear")).to(torch.uint8)
    for number, image in enumerate(images):
        slot, c = divmod(number, CLASSES)
        path = folder / f"new{c:03d}" / f"class{c:03d}_id{slot:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(encode_jpeg(image, 75).numpy()))
    return images


def released_batches(folder: Path) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of JPEG files as the released script reads them."""
    chain = transforms.Compose(
        [
            transforms.RandomCrop(SIZE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(datasets.ImageFolder(str(folder), chain), BATCH, shuffle=True, num_workers=WORKERS)


def released(teacher: Teacher, folder: Path) -> Epoch:
    """The released epoch."""
    torch.manual_seed(1)
    student, labeller = build(teacher.card.network, CLASSES), build(teacher.card.network, CLASSES)
    labeller.load_state_dict(teacher.network.state_dict())
    loader, kl = released_batches(folder), nn.KLDivLoss(reduction="batchmean")
    optimizer = torch.optim.AdamW(student.parameters(), 1e-3, weight_decay=0.01)

    def epoch() -> int:
        count, total = 0, 0.0
        student.train()
        for images, _ in loader:
            ratio, order = float(torch.distributions.Beta(0.8, 0.8).sample()), torch.randperm(len(images))
            mixed = ratio * images + (1 - ratio) * images[order]
            with torch.no_grad():
                soft = F.softmax(labeller(mixed) / 30, 1)
            optimizer.zero_grad()
            loss = kl(F.log_softmax(student(mixed) / 30, 1), soft)
            loss.backward()
            optimizer.step()
            total += loss.item()
            count += len(images)
        assert math.isfinite(total)
        return count

    return epoch


def ours(teacher: Teacher, images: Tensor, **changes: object) -> Epoch:
    """Our epoch."""
    own = {"network": teacher.card.network, "batch": BATCH, **changes}
    protocol = resolve_student({}, "sre2l-cifar").model_copy(update=own)
    config = settle_student(protocol, len(images), CLASSES)
    torch.manual_seed(1)
    student, labeller = build(teacher.card.network, CLASSES), build(teacher.card.network, CLASSES)
    labeller.load_state_dict(teacher.network.state_dict())
    for network in (student, labeller):
        to_device(network, images.device).train()
    optimizer = student_optimizer(config, student)
    source = AugmentedBatches(config, teacher, images, seed=0)
    loss_of = torch.compile(student_loss, dynamic=False) if config.compile else student_loss

    def epoch() -> int:
        for batch in source.epoch(0):
            optimizer.zero_grad()
            add_gradient(loss_of, student, labeller.requires_grad_(False), batch, config=config)
            optimizer.step()
        return len(images)

    return epoch


def steps(layout: torch.memory_format | None) -> Epoch:
    """Training steps of convnet3 on a batch of 50 in bf16 where the processor is fast at it.

    Args:
        layout: memory format of weights and images; None: the network's own (fastdd.models.memory_format).
    """
    torch.manual_seed(1)
    network, cpu = build("convnet3", CLASSES).train(), torch.device("cpu")
    layout = layout or memory_format(network, cpu)
    network.to(memory_format=layout)
    images = torch.randn(50, 3, SIZE, SIZE).contiguous(memory_format=layout)
    labels = torch.arange(len(images)) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    precision: Precision = "bf16" if has_fast_bf16(cpu) else "fp32"

    def epoch() -> int:
        for _ in range(10):
            optimizer.zero_grad()
            with autocast(cpu, precision):
                logits = network(images)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
        return 10 * len(images)

    return epoch


def batches_alone(source: Callable[[], Iterator[int]]) -> Epoch:
    """An epoch that only makes the batches; the source gives the size of each."""
    return lambda: sum(source())


def processor_seconds() -> float:
    """Processor time of this process and of all processes that it started and that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(epoch: Epoch) -> tuple[float, float]:
    """Images a second, and processor milliseconds an image, of one epoch."""
    start, used = time.perf_counter(), processor_seconds()
    count = epoch()
    multiprocessing.active_children()  # reaps workers, whose time is counted then
    return count / (time.perf_counter() - start), 1000 * (processor_seconds() - used) / count


def measure(runs: dict[str, Epoch], rounds: int) -> list[dict[str, object]]:
    """A row for each epoch, its rate as a ratio to the first one's."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            once = timed(run)
            if number:
                measured[name].append(once)
    rows: list[dict[str, object]] = []
    first = 0
    for name, epochs in measured.items():
        rate, cost = (statistics.median(values) for values in zip(*epochs, strict=True))
        first = first or round(rate)
        row = {"work": name, "images/s": round(rate), "processor ms": round(cost, 3)}
        rows.append({**row, "ratio": round(round(rate) / first, 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--compiled", action="store_true", help="also compiled steps, which take a minute to begin"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        teacher, images = make_teacher(options.network), make_images(options.images, folder)
        loader = released_batches(folder)
        protocol = settle_student(resolve_student({}, "sre2l-cifar"), len(images), CLASSES)
        source = AugmentedBatches(protocol, teacher, images, seed=0)
        epochs = {"epoch, released": released(teacher, folder), "epoch, ours": ours(teacher, images)}
        if has_fast_bf16(torch.device("cpu")):
            epochs["epoch, ours in bf16"] = ours(teacher, images, precision="bf16")
        if options.compiled:
            epochs["epoch, ours compiled"] = ours(teacher, images, compile=True)
            if has_fast_bf16(torch.device("cpu")):
                epochs["epoch, ours compiled in bf16"] = ours(teacher, images, precision="bf16", compile=True)
        alone = {
            "batches, released": batches_alone(lambda: (len(x) for x, _ in loader)),
            "batches, ours": batches_alone(lambda: (len(batch.images) for batch in source.epoch(0))),
        }
        layouts = {
            "convnet3, channels-last": steps(torch.channels_last),
            "convnet3, its own format": steps(None),
        }
        rows = [row for runs in (epochs, alone, layouts) for row in measure(runs, options.rounds)]
    facts = {
        "network": options.network,
        "images": options.images,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "versions": {name: package_version(name) for name in PACKAGES},
    }
    print(facts)
    for row in rows:
        rate = f"{row['work']:<24} {row['images/s']:>8} images/s  x{row['ratio']:<6}"
        print(f"{rate} {row['processor ms']} ms of processor")
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
