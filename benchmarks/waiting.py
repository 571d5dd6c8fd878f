"""What the waiting of idle OpenMP threads costs: steps a second by how long they spin.

    python benchmarks/waiting.py steps             # on an idle machine; --busy 4: beside four busy processes
    python benchmarks/waiting.py steps small --threads 2 --settings "" OMP_WAIT_POLICY=passive
    python benchmarks/waiting.py digits --busy 4   # fastdd run digits alone, then beside four busy processes

``steps``: a process for each setting (the runtime reads it once, when it is loaded) does the same slice of
work in turn, round after round; printed are the median rate, and the median ratio to the first setting in the
same round. The work is a training step of a network on small images and on large ones. ``digits`` prints the
seconds of both runs, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")
SETTINGS = ("", "GOMP_SPINCOUNT=0", "GOMP_SPINCOUNT=1000", "GOMP_SPINCOUNT=2000", "GOMP_SPINCOUNT=5000")
"""An empty one is the runtime's own waiting."""
WORKS = {"small": ("resnet8", 10, 8), "large": ("resnet18_small", 10, 64)}
"""network, images a step, pixels a side"""


def worker(work: str, seconds: float) -> None:
    """For each line that comes, train for some seconds and answer with steps a second."""
    import torch

    from fastdd.models.build import build

    name, count, side = WORKS[work]
    generator = torch.Generator().manual_seed(0)
    network = build(name, 10, 3).train()
    images = torch.randn(count, 3, side, side, generator=generator)
    labels = torch.arange(count) % 10

    def step() -> None:
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()

    step()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, start = 0, time.perf_counter()
        while (now := time.perf_counter()) < start + seconds:
            step()
            steps += 1
        print(steps / (now - start), flush=True)


def environment(setting: str, threads: int) -> dict[str, str]:
    """This process's, with one choice of the waiting."""
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    # A choice of the user keeps fastdd from setting its own; libgomp does not read KMP_LIBRARY.
    name, _, value = setting.partition("=") if setting else ("KMP_LIBRARY", "", "throughput")
    return {**kept, "OMP_NUM_THREADS": str(threads), name: value}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Some processes that do nothing but take time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure_steps(arguments: argparse.Namespace) -> None:
    for work in arguments.works:
        command = [sys.executable, __file__, "worker", work, "--seconds", str(arguments.seconds)]
        processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(setting, arguments.threads),
            )
            for setting in arguments.settings
        ]
        rates: list[list[float]] = [[] for _ in processes]
        try:
            for process in processes:
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    sys.exit("a worker did not start")
            with busy(arguments.busy):
                for _ in range(arguments.rounds):
                    for process, found in zip(processes, rates, strict=True):
                        assert process.stdin is not None
                        assert process.stdout is not None
                        print(file=process.stdin, flush=True)
                        found.append(float(process.stdout.readline()))
        finally:
            for process in processes:
                process.kill()
                process.wait()
        name, count, side = WORKS[work]
        print(
            f"{work}: {name}, {count} images of {side} x {side}, {arguments.threads} threads, "
            f"beside {arguments.busy} busy processes, {arguments.rounds} rounds of {arguments.seconds} s"
        )
        for setting, found in zip(arguments.settings, rates, strict=True):
            ratio = median(mine / first for mine, first in zip(found, rates[0], strict=True))
            print(f"  {setting or 'as the runtime is':24} {median(found):9.2f} steps/s  {ratio:6.2f}")


def measure_digits(arguments: argparse.Namespace) -> None:
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    seconds = []
    for count in (0, arguments.busy):
        with tempfile.TemporaryDirectory() as folder, busy(count):
            start = time.perf_counter()
            command = [sys.executable, "-m", "fastdd", "run", "digits", "--out", f"{folder}/digits"]
            subprocess.run(command, env=kept, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
            print(f"fastdd run digits beside {count} busy processes: {seconds[-1]:.0f} s", flush=True)
    print(f"ratio {seconds[1] / seconds[0]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("steps", "digits", "worker"))
    parser.add_argument("works", nargs="*", default=list(WORKS), help=f"of {', '.join(WORKS)}")
    parser.add_argument("--busy", type=int, default=0, help="processes that take time beside the work")
    parser.add_argument("--threads", type=int, default=2, help="OpenMP threads of the work")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a setting's work in a round")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, help="NAME=VALUE of a variable; ''")
    arguments = parser.parse_args()
    if arguments.what == "worker":
        worker(arguments.works[0], arguments.seconds)
    elif arguments.what == "steps":
        measure_steps(arguments)
    else:
        measure_digits(arguments)


if __name__ == "__main__":
    main()
