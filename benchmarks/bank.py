"""Speed and memory of building the bank.

    python benchmarks/bank.py speed --data cifar10.tar.xz --network resnet20 --images 10000
    python benchmarks/bank.py speed --data imagenette224.tar --network resnet18 --images 800
    python benchmarks/bank.py memory --plot benchmarks/results/bank_memory.svg     # 10, 100, 1000 classes
    python benchmarks/bank.py resnet50          # covariances of all 53 BatchNorm inputs

Speed: the whole build (decoding, forward pass, covariances of all residual blocks, embeddings, files) against
the same teacher's forward pass over the same loader, interleaved round by round. Random weights: same
arithmetic. Memory: the peak of a process over what it held before the build, in a process of its own each;
random 32 x 32 images, made as they are read, so that all memory is the bank's own. The high-water mark
includes the teacher's activations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from conftest import processor_name
from memory import peak_mb

from fastdd.bank import Kept, build
from fastdd.config import Bank as BankConfig
from fastdd.data import open_dataset
from fastdd.data.loading.batch import Batch
from fastdd.data.loading.loader import open_loader
from fastdd.data.real_data import TrainingImages
from fastdd.models.build import build as build_network
from fastdd.teachers import Card, Teacher, layer_names

CPU = torch.device("cpu")


def make_teacher(network: str, classes: int) -> Teacher:
    """A teacher with random weights."""
    torch.manual_seed(0)
    built = build_network(network, classes).to(memory_format=torch.channels_last)
    names = tuple(map(str, range(classes)))
    card = Card(network, names, 3, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Teacher(built.eval().requires_grad_(False), card)


# -- speed -----------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> dict[str, object]:
    """Images a second of the forward pass and of the bank, medians of interleaved rounds."""
    dataset = open_dataset(options.data, "train")
    teacher = make_teacher(options.network, len(dataset.classes))
    config = BankConfig(batch=options.batch)
    layers = list(layer_names(teacher.network, "blocks"))
    classes = range(max(1, round(options.images / len(dataset) * len(dataset.classes))))
    images = sum(dataset.counts[c] for c in classes)
    size = None if options.size is None else (options.size, options.size)

    def stream(positions: range) -> Iterator[Batch]:
        return iter(open_loader(dataset, options.batch, size, indices=positions))

    channels, height, width = next(stream(range(1))).images.shape[1:]
    shape = (channels, height, width)

    @torch.no_grad()
    def forward() -> None:
        for batch in stream(range(images)):
            teacher.network(teacher.normalize(batch.images))

    def bank() -> None:
        data = TrainingImages(
            shape, dataset.labels, dataset.names, fingerprint="", transform={}, stream=stream
        )
        with tempfile.TemporaryDirectory() as folder:
            kept = Kept.of(teacher.network, config, layers, seed=0)
            build(Path(folder), teacher, data, kept, fingerprint="", classes=classes)

    rates, work = interleaved({"forward": forward, "bank": bank}, images, options.rounds)
    shares = [b / f for b, f in zip(rates["bank"], rates["forward"], strict=True)]
    cost = {name: statistics.median(seconds) / images for name, seconds in work.items()}
    return {
        "work": f"bank of {images} images of {Path(options.data).name}, {options.network}, all residual "
        "blocks",
        "forward images/s": round(statistics.median(rates["forward"]), 1),
        "bank images/s": round(statistics.median(rates["bank"]), 1),
        "share of the forward pass's speed": round(statistics.median(shares), 3),
        "of each round": [round(share, 3) for share in shares],
        "CPU-ms an image, forward": round(1000 * cost["forward"], 3),
        "CPU-ms an image, bank": round(1000 * cost["bank"], 3),
    }


def interleaved(
    runners: dict[str, Callable[[], None]], images: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Images a second and processor seconds of each round, after one round to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    work: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(rounds + 1):
        for name, run in runners.items():
            start, before = time.perf_counter(), time.process_time()
            run()
            if number:
                rates[name].append(images / (time.perf_counter() - start))
                work[name].append(time.process_time() - before)
    return rates, work


# -- memory ----------------------------------------------------------------------------------------


def random_images(classes: int, per_class: int, batch: int) -> TrainingImages:
    """Random 32 x 32 images in class order, made as they are read."""
    labels = torch.arange(classes).repeat_interleave(per_class)

    def stream(positions: range) -> Iterator[Batch]:
        for rows in torch.arange(positions.start, positions.stop).split(batch):
            images = torch.randint(256, (len(rows), 3, 32, 32), dtype=torch.uint8)
            yield Batch(images, labels[rows], rows)

    return TrainingImages(
        (3, 32, 32), labels, ["image"] * len(labels), fingerprint="", transform={}, stream=stream
    )


def peak(network: str, kind: str, classes: int, *, per_class: int, batch: int) -> dict[str, object]:
    """Peak of one build, in this process."""
    teacher = make_teacher(network, classes)
    layers = list(layer_names(teacher.network, kind))
    data, config = random_images(classes, per_class, batch), BankConfig(batch=batch)
    with torch.no_grad():
        teacher.network(teacher.normalize(next(iter(data.stream(range(batch)))).images))
    with tempfile.TemporaryDirectory() as folder:
        used = peak_mb(
            lambda: build(
                Path(folder), teacher, data, Kept.of(teacher.network, config, layers, seed=0), fingerprint=""
            ),
            CPU,
        )
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "work": f"bank of {classes} classes x {per_class} images, {network}, {kind}",
        "classes": classes,
        "peak MB beside the teacher": None if used is None else round(used),
        "bank on disk MB": round(size / 1e6, 1),
    }


def in_own_process(
    network: str, kind: str, *, classes: int, per_class: int, batch: int = 100
) -> dict[str, object]:
    """``peak`` in a process of its own."""
    numbers = map(str, (classes, per_class, batch))
    command = [sys.executable, __file__, "peak", network, kind, *numbers]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """A bar chart of peak memory, one bar a number of classes, as SVG."""
    peaks = [float(str(row["peak MB beside the teacher"])) for row in rows]
    bars = []
    for i, (row, peak) in enumerate(zip(rows, peaks, strict=True)):
        width, y = 400 * peak / max(peaks), 34 + 34 * i
        bars.append(f'<text x="120" y="{y + 15}" text-anchor="end">{row["classes"]} classes</text>')
        bars.append(f'<rect x="130" y="{y}" width="{width:.0f}" height="22" fill="#4477aa"/>')
        bars.append(f'<text x="{138 + width:.0f}" y="{y + 15}">{peak:.0f} MB</text>')
    title = "Peak memory of building the bank, beside the teacher"
    size = f'width="640" height="{48 + 34 * len(rows)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif"'
    text = "\n".join([f'{head} font-size="14">', f'<text x="10" y="20">{title}</text>', *bars, "</svg>"])
    path.write_text(text + "\n")


# -- command ---------------------------------------------------------------------------------------


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": processor_name()}


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    speeds = commands.add_parser("speed")
    speeds.add_argument("--data", required=True)
    speeds.add_argument("--network", required=True)
    speeds.add_argument("--size", type=int)
    speeds.add_argument("--images", type=int, default=10_000)
    speeds.add_argument("--batch", type=int, default=250)
    speeds.add_argument("--rounds", type=int, default=5)
    memory = commands.add_parser("memory")
    resnet50 = commands.add_parser("resnet50")
    for command in (speeds, memory, resnet50):
        command.add_argument("--json", type=Path, help="add the rows to this file")
    memory.add_argument("--plot", type=Path, help="also draw it, as SVG")
    one = commands.add_parser("peak")
    one.add_argument("arguments", nargs=5)
    options = parser.parse_args()
    if options.command == "peak":
        network, kind, *numbers = options.arguments
        classes, per_class, batch = map(int, numbers)
        print(json.dumps(peak(network, kind, classes, per_class=per_class, batch=batch)))
        return
    if options.command == "speed":
        rows = [speed(options)]
    elif options.command == "memory":
        rows = [
            in_own_process("resnet20", "blocks", classes=classes, per_class=20) for classes in (10, 100, 1000)
        ]
        if options.plot:
            draw(rows, options.plot)
    else:
        rows = [
            in_own_process("resnet50", "bn_inputs", classes=classes, per_class=1300) for classes in (2, 4)
        ]
    for row in rows:
        print(json.dumps(row))
    if options.json:
        earlier = json.loads(options.json.read_text())["rows"] if options.json.is_file() else []
        works = {row["work"] for row in rows}
        kept = [row for row in earlier if row["work"] not in works]
        options.json.write_text(json.dumps({"facts": machine(), "rows": [*kept, *rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
