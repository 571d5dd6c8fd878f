"""Channels-last against contiguous memory, weights and images, for each kind of network.

    OMP_NUM_THREADS=1 python benchmarks/layouts.py [--networks resnet18_small:32:10,vit_small32:32:20]
    [--rounds 7] [--json FILE]

What is timed is what a recover step asks of a teacher: a forward and a backward pass of a network in eval
mode with frozen weights, to the images, in fp32 and, where the device is fast at it, in bf16. Both layouts
take turns; a figure is the median over the rounds of contiguous time over channels-last time (processor time
on a CPU), so above 1 channels-last is faster. ``chosen`` is what ``fastdd.models.build.memory_format``
decides.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from conftest import package_version, processor_name
from steps import timed
from torch import nn

from fastdd.config import Precision
from fastdd.models.build import build, memory_format
from fastdd.runtime.precision import autocast, float32_products, has_fast_bf16

NETWORKS = (
    "resnet18_small:32:20",
    "resnet20:32:100",
    "resnet18:224:4",
    "convnet3:32:50",
    "convnet3_bn:32:50",
    "vgg11_small:32:50",
    "vgg16_bn_small:32:50",
    "mobilenet_v2_small:32:50",
    "mobilenet_v2:224:4",
    "efficientnet_b0_small:32:50",
    "shufflenet_v2_x1_0_small:32:50",
    "shufflenet_v2_x1_0:224:8",
    "vit_small32:32:50",
)
"""name, side of an image in pixels, and number of images"""
LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
PACKAGES = ("torch", "torchvision")
CLASSES = 100


def step(
    network: nn.Module,
    shape: tuple[int, int],
    layout: torch.memory_format,
    precision: Precision,
    device: torch.device,
) -> Callable[[], None]:
    """A forward and backward pass to random images of (number, side)."""
    count, side = shape
    network = copy.deepcopy(network).to(device, memory_format=layout)  # type: ignore[call-overload]
    random = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, side, side, generator=random).to(device).contiguous(memory_format=layout)
    images.requires_grad_()

    def run() -> None:
        with float32_products(precision), autocast(device, precision):
            logits = network(images)
        torch.autograd.grad(logits.float().square().sum(), images)

    return run


def measure(name: str, precision: Precision, rounds: int, device: torch.device) -> dict[str, object]:
    """The row of a network in one precision."""
    network_name, side, count = name.split(":")
    torch.manual_seed(0)
    network = build(network_name, CLASSES).eval().requires_grad_(False)
    runs = {
        layout: step(network, (int(count), int(side)), value, precision, device)
        for layout, value in LAYOUTS.items()
    }
    times: dict[str, list[float]] = {layout: [] for layout in runs}
    for number in range(rounds + 1):
        for layout in list(runs)[:: -1 if number % 2 else 1]:
            wall, processor = timed(runs[layout], 1, device)
            if number:  # the first round warms up
                times[layout].append(wall if device.type == "cuda" else processor)
    ratios = [a / b for a, b in zip(times["contiguous"], times["channels-last"], strict=True)]
    chosen = memory_format(network, device)
    return {
        "network": network_name,
        "side": int(side),
        "images": int(count),
        "precision": precision,
        "contiguous over channels-last": round(statistics.median(ratios), 3),
        "rounds": [round(ratio, 3) for ratio in sorted(ratios)],
        "channels-last ms": round(1e3 * statistics.median(times["channels-last"]), 1),
        "chosen": next(layout for layout, value in LAYOUTS.items() if value == chosen),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time networks in both memory layouts.")
    parser.add_argument(
        "--networks", default=",".join(NETWORKS), help="NAME:SIDE:IMAGES, with commas between"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device(options.device)
    precisions: list[Precision] = ["fp32", "bf16"] if has_fast_bf16(device) else ["fp32"]
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **{package: package_version(package) for package in PACKAGES},
    }
    rows: list[dict[str, object]] = []
    for name in options.networks.split(","):
        for precision in precisions:
            row = measure(name, precision, options.rounds, device)
            rows.append(row)
            low, *_, high = row["rounds"]  # type: ignore[misc]
            ratio = f"{row['contiguous over channels-last']} ({low} to {high})"
            print(
                f"{name:<32} {precision}  {ratio:<24} {row['channels-last ms']} ms, {row['chosen']}",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
