"""Speed of a step of CIM at 224 pixels: a forward pass that ends at layer2 against the whole one.

    python benchmarks/pairs.py [--images 8] [--rounds 5] [--json FILE]

The term is that of pairs on the output of layer2 of a ResNet-18. Three sides take turns, after a round that
is not timed, and give the same gradient to rounding:

    released         images and anchors as one batch, whole pass, gradient through both
    whole            anchors without a graph, whole pass
    ends at layer2   the engine's: anchors without a graph, the pass ends at the layer

The figure is the ratio of the medians of processor time of the first and the last; the goal is 1.6.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from conftest import processor_name
from torch import Tensor

from fastdd.models.build import build
from fastdd.recover.terms.pairs import pair_distances
from fastdd.teachers import Taps

GOAL = 1.6
LAYER, SIDE = "stages.1", 224


def gradient(taps: Taps, images: Tensor, anchors: Tensor) -> Tensor:
    """The gradient [N, 3, H, W] of the term to the images."""
    moving = images.clone().requires_grad_()
    with torch.no_grad():
        wanted = taps(anchors).maps[LAYER].flatten(1)
    loss = pair_distances(wanted, taps(moving).maps[LAYER].flatten(1), "l1").sum()
    return torch.autograd.grad(loss, moving)[0]


def released(taps: Taps, images: Tensor, anchors: Tensor) -> Tensor:
    """The same gradient as the released code computes it."""
    moving = images.clone().requires_grad_()
    found = taps(torch.cat((anchors, moving))).maps[LAYER].flatten(1)
    loss = pair_distances(*found.chunk(2), "l1").sum()
    return torch.autograd.grad(loss, moving)[0]


def seconds(run: Callable[[], object]) -> float:
    """Processor time, which other work on the machine changes little."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=8, help="images of a step, each with its anchor")
    parser.add_argument("--side", type=int, default=SIDE, help="side of an image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    network = build("resnet18", 10).eval()
    images, anchors = (torch.randn(options.images, 3, options.side, options.side) for _ in range(2))
    images, anchors = (each.contiguous(memory_format=torch.channels_last) for each in (images, anchors))
    whole, ended = Taps(network, maps=[LAYER]), Taps(network, maps=[LAYER], end=LAYER)
    sides = {
        "released": partial(released, whole, images, anchors),
        "whole": partial(gradient, whole, images, anchors),
        "ends at layer2": partial(gradient, ended, images, anchors),
    }
    first, *others = (side() for side in sides.values())
    if any((first - other).norm() > 0.02 * first.norm() for other in others):
        raise SystemExit("the gradients differ, so the sides do not do the same work")
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            times[name].append(seconds(side))
    over, plain, under = (statistics.median(each) for each in times.values())
    print(
        f"CIM step, ResNet-18, {options.images} images of {options.side} pixels: {over:.3f} s as released, "
        f"{plain:.3f} s without a graph of the anchors, {under:.3f} s ending at layer2 too: "
        f"{over / under:.2f} (goal {GOAL})"
    )
    figures: dict[str, object] = {
        "device": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "images": options.images,
        "side": options.side,
        "processor seconds a step": times,
        "ratio": over / under,
        "goal": GOAL,
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


if __name__ == "__main__":
    main()
