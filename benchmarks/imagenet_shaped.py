"""Peak memory and time of judging the metrics of a set with ImageNet-1K's shape: 50 images a class.

    OMP_NUM_THREADS=1 python benchmarks/imagenet_shaped.py --part 0.2 [--side 64] --json FILE

The images are made here: smooth noise, 224 x 224, JPEG, 1,000 classes, as many real ones as distilled ones.
With a smaller side the networks do less, while what grows with the number of images is the same.
They lie in a temporary folder, which goes in the end; ``--part`` takes a part of each class's images. What is
measured is the command ``fastdd metrics SET --real ROOT`` in a process of its own: wall time, processor time,
and the largest resident set, beside that of a set of one image a class, which holds what does not grow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.io import encode_jpeg

CLASSES = 1000


def picture(generator: torch.Generator, tint: torch.Tensor, side: int) -> bytes:
    """Smooth noise in a class's tint, as a JPEG of side x side pixels."""
    noise = torch.rand(1, 3, 9, 9, generator=generator)
    image = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)[0]
    levels = (255 * (0.6 * image + 0.4 * tint[:, None, None]).clamp(0, 1)).to(torch.uint8)
    return bytes(encode_jpeg(levels, 75).numpy())


def make(folder: Path, ipc: int, seed: int, side: int) -> None:
    """Write a set of ``ipc`` images a class: CLASS/IMAGE."""
    generator = torch.Generator().manual_seed(seed)
    tints = torch.rand(CLASSES, 3, generator=torch.Generator().manual_seed(0))
    for c in range(CLASSES):
        (folder / f"n{c:08d}").mkdir(parents=True)
        for i in range(ipc):
            (folder / f"n{c:08d}" / f"{i:05d}.jpg").write_bytes(picture(generator, tints[c], side))


def measure(here: Path, distilled: Path, network: str) -> dict[str, float]:
    """Run the command, and return its seconds, its processor's seconds and its largest resident set in MB."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = usage.ru_utime + usage.ru_stime
    words = ["metrics", distilled, "--real", here / "real", "--features", network, "--random-weights"]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "fastdd", *map(str, words)])
    peak = 0.0
    while process.poll() is None:  # what the system notes of ended children counts this process's memory too
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"fastdd metrics ended with status {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime
    return {"seconds": seconds, "processor_seconds": worked - before, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", type=float, default=1.0, help="part of 50 images a class (default: 1)")
    parser.add_argument("--side", type=int, default=224, help="side of an image in pixels (default: 224)")
    parser.add_argument("--network", default="shufflenet_v2_x0_5", help="whose random features are compared")
    parser.add_argument("--folder", help="where the temporary folder is made (default: the system's)")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    ipc, side = max(1, round(50 * arguments.part)), arguments.side
    here = Path(tempfile.mkdtemp(prefix="imagenet_shaped_", dir=arguments.folder))
    try:
        make(here / "real" / "train", ipc, seed=1, side=side)
        (here / "real" / "test").symlink_to("train")
        make(here / "set", ipc, seed=2, side=side)
        make(here / "small", 1, seed=3, side=side)
        content = {
            "images": ipc * CLASSES,
            "real": ipc * CLASSES,
            "side": side,
            "features": arguments.network,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "megabytes_of_files": sum(f.stat().st_size for f in (here / "set").rglob("*.jpg")) / 1e6,
            "megabytes_decoded": ipc * CLASSES * 3 * side * side / 1e6,
            "small": measure(here, here / "small", arguments.network),
            "whole": measure(here, here / "set", arguments.network),
        }
    finally:
        shutil.rmtree(here)
    text = json.dumps(content, indent=1)
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
