"""Time and memory of measuring a set: all metrics of ``fastdd metrics``, the whole set and class by class.

    python benchmarks/metrics.py                                   # 50,000 real x 1,000 distilled x 512
    python benchmarks/metrics.py --real 20000 50000 100000         # how both grow

Random features, so that nothing but the metrics is timed. Each size is a process of its own, after a small
call that loads the libraries. The peak is over the features themselves (memory.py says how it is taken); of n
real rows the n x n distances would take 10 GB in float32 at n = 50,000.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from memory import peak_mb

from fastdd.evaluate import measure


def features(rows: int, dimension: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, dimension] float32 and labels, class after class; classes lie apart as those of a teacher do."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(-(-rows // classes))[:rows]
    x = torch.randn(rows, dimension, generator=random)
    centers = torch.randn(classes, dimension, generator=torch.Generator().manual_seed(0))
    return x.add_(0.5 * centers[labels]), labels


def one(real: int, synthetic: int, *, dimension: int, classes: int, k: int) -> dict[str, object]:
    """One size, in this process."""
    x, truth = features(real, dimension, classes, 1)
    y, labels = features(synthetic, dimension, classes, 2)
    step = max(1, real // (4 * (k + 1) * classes))
    measure(x[::step], truth[::step], y, labels, k=k)
    seconds = 0.0

    def call() -> object:
        nonlocal seconds
        start = time.perf_counter()
        measured = measure(x, truth, y, labels, k=k)
        seconds = time.perf_counter() - start
        return measured

    used = peak_mb(call, torch.device("cpu"))
    return {
        "work": f"metrics of {real:,} real x {synthetic:,} distilled x {dimension}, {classes} classes, "
        f"k = {k}",
        "seconds": round(seconds, 2),
        "peak MB beside the features": None if used is None else round(used, 1),
        "features MB": round((x.nbytes + y.nbytes) / 1e6, 1),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=int, nargs="+", default=[50_000])
    parser.add_argument("--synthetic", type=int, default=1_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"dimension": options.dimension, "classes": options.classes, "k": options.k}
    if options.in_process:
        print(json.dumps(one(options.real[0], options.synthetic, **sizes)))
        return
    numbers = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    rows = []
    for real in options.real:
        command = [sys.executable, __file__, "--in-process", "--real", str(real), *numbers]
        command += ["--synthetic", str(options.synthetic)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]))
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
