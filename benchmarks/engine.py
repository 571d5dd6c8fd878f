"""Speed of the engine's stages on this machine, each as a ratio to a named baseline in the same run.

    python benchmarks/engine.py [--network resnet20] [--images 100] [--steps 15] [--rounds 5]

Recover: one step (augment, teacher forward and backward to the images, terms, Adam, clip) of each method,
against the same step with cross-entropy alone. Variants are interleaved round by round and the median round
is reported, so that a busy machine slows them alike. Random 32 x 32 images and a random teacher: the
arithmetic is the same as with real ones. Peak memory is that of the whole process, in a process of its own a
method.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from settings import Silent, no_images

from fastdd.bank import Bank, Kept
from fastdd.bank import build as build_bank
from fastdd.config import Bank as BankConfig
from fastdd.config import BatchSize, Method, Precision, Recover, Terms
from fastdd.data.real_data import TrainingImages
from fastdd.models.build import build
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, plan
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.teachers import Card, Teacher, layer_names

CLASSES = 10
SIZE = 32
RECIPES = {"SRe2L": "cifar10-sre2l", "SRe2L + DiRe": "cifar10-dire", "DEDA": "cifar10-deda"}


def make_teacher(network: str) -> Teacher:
    """A teacher with random weights."""
    torch.manual_seed(0)
    built = build(network, CLASSES).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    card = Card(network, tuple(map(str, range(CLASSES))), 3, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Teacher(built, card)


def make_bank(teacher: Teacher, folder: Path) -> Bank:
    """A bank of 20 random images a class with every layer that a method may ask for."""
    images = torch.randint(256, (20 * CLASSES, 3, SIZE, SIZE), dtype=torch.uint8)
    labels = torch.arange(CLASSES).repeat_interleave(20)
    layers = [name for kind in ("blocks", "bn_inputs") for name in layer_names(teacher.network, kind)]
    data = TrainingImages.in_memory(images, labels, len(images))
    kept = Kept.of(teacher.network, BankConfig(batch=len(images)), layers, seed=0)
    build_bank(folder, teacher, data, kept, fingerprint="")
    return Bank(folder)


def methods() -> dict[str, Method]:
    """The methods of the built-in recipes, and cross-entropy alone, which they are divided by."""
    arms = {name: next(iter(resolve(recipe).recipe.arms.values())) for name, recipe in RECIPES.items()}
    alone = Method(batch=BatchSize(slots="all"), terms=Terms(ce=CrossEntropy()))
    return {"cross-entropy alone": alone, **arms}


def step_runner(
    method: Method, teacher: Teacher, bank: Bank, *, images: int, steps: int, precision: Precision
) -> Callable[[], float]:
    """A call that optimizes one unit for some steps and returns image-iterations a second."""
    config = Recover(unit_images=images, precision=precision, log_every=10**6)
    unit: Unit = plan(CLASSES, images // CLASSES, method.batch, images)[0]
    method = method.model_copy(update={"steps": steps, "init": "noise"})
    recovery = Recovery(
        method, config, [teacher], [bank], real_images=no_images, shape=(3, SIZE, SIZE), seed=0
    )

    def run() -> float:
        begin = time.perf_counter()
        recovery.optimize(unit, Silent())
        return len(unit.rows) * steps / (time.perf_counter() - begin)

    return run


def interleaved(runners: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median rate of each variant over interleaved rounds, after one to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(rounds + 1):
        for name, run in runners.items():
            rate = run()
            if number:
                rates[name].append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def peak_megabytes(
    name: str, network: str, images: int, folder: str, queue: multiprocessing.Queue[float]
) -> None:
    """Put the peak of a process that takes three steps of a method into the queue."""
    teacher = make_teacher(network)
    step_runner(methods()[name], teacher, Bank(Path(folder)), images=images, steps=3, precision="fp32")()
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure_peak(name: str, network: str, images: int, folder: Path) -> float:
    """``peak_megabytes`` of a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[float] = context.Queue()
    process = context.Process(target=peak_megabytes, args=(name, network, images, str(folder), queue))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    teacher = make_teacher(options.network)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bank = make_bank(teacher, folder)
        peaks = {name: measure_peak(name, options.network, options.images, folder) for name in methods()}
        precisions: tuple[Precision, ...] = ("fp32", "bf16")
        for precision in precisions:
            runners = {
                name: step_runner(
                    method, teacher, bank, images=options.images, steps=options.steps, precision=precision
                )
                for name, method in methods().items()
            }
            rates = interleaved(runners, options.rounds)
            base = rates["cross-entropy alone"]
            for name, rate in rates.items():
                peak = round(peaks[name]) if precision == "fp32" else None
                rows.append(
                    {
                        "work": f"recover {name}, {precision}",
                        "images/s": round(rate),
                        "time ratio": round(base / rate, 2),
                        "peak MB": peak,
                    }
                )
    facts = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    print(f"{options.network}, {options.images} images of {SIZE} x {SIZE}; {facts}")
    for row in rows:
        print(
            f"{row['work']:<38} {row['images/s']:>7} images/s  x{row['time ratio']:<5} {row['peak MB'] or ''}"
        )
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
