"""Where the time of a recover step would go on a GPU, counted on this machine, which needs none.

    python benchmarks/cost.py [--cases sre2l-resnet18-224,...] [--gpu h200] [--rows 25] [--json FILE]

One step of the whole loop runs on tensors without values (fastdd/cost), with the bundled recipe's units of
the case. The table says how many kernels it launches, how many bytes they move and what that costs: of each
kernel the largest of bytes / bandwidth, operations / peak and the least time of a kernel. "host" is the time
that a host takes to launch them one after another; where it is the longer one, the GPU waits for it.

| case | recipe | unit |
|---|---|---|
| sre2l-resnet18-32 | cifar10-sre2l | 100 images |
| all-resnet18-32 | cifar10-deda, with BatchNorm statistics and DiRe | 100 images |
| sre2l-resnet18-224 | imagenet1k-sre2l | 1000 images |
| all-resnet18-224 | imagenet1k-deda, with BatchNorm statistics and DiRe | 1000 images |
| sre2l-resnet50-224, all-resnet50-224 | the same two through a ResNet-50 | 1000 images |

``gradient`` is the step without the optimizer and the clipping, ``update`` is those. tests/test_cost.py holds
the counts.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from fastdd.bank import Bank
from fastdd.bench.units import Silent
from fastdd.config import Method, Recover, Terms
from fastdd.cost.counting import Counts, Launch
from fastdd.cost.devices import GPU, GPUS, LAUNCH
from fastdd.cost.fake_device import fake_device
from fastdd.models.build import build
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, tapped
from fastdd.recover.loop import optimize
from fastdd.recover.objective import Signal, Variable
from fastdd.recover.plan import all_units
from fastdd.recover.steps import Round
from fastdd.recover.terms.base import Values
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.dire import DiRe
from fastdd.teachers import Card, Teacher


@dataclass(frozen=True)
class Case:
    """A step to be counted.

    Attributes:
        recipe: name of a bundled recipe with one arm.
        network: name of the teacher's network.
        side: height and width of an image.
        classes, ipc: size of the distilled set.
        images: images a unit.
        everything: with BatchNorm statistics and DiRe beside the recipe's terms.
    """

    recipe: str
    network: str
    side: int
    classes: int
    ipc: int
    images: int
    everything: bool = False


CASES = {
    "sre2l-resnet18-32": Case("cifar10-sre2l", "resnet18_small", 32, classes=10, ipc=50, images=100),
    "all-resnet18-32": Case(
        "cifar10-deda", "resnet18_small", 32, classes=10, ipc=10, images=100, everything=True
    ),
    "sre2l-resnet18-224": Case("imagenet1k-sre2l", "resnet18", 224, classes=1000, ipc=50, images=1000),
    "all-resnet18-224": Case(
        "imagenet1k-deda", "resnet18", 224, classes=1000, ipc=50, images=1000, everything=True
    ),
    "sre2l-resnet50-224": Case("imagenet1k-sre2l", "resnet50", 224, classes=1000, ipc=50, images=1000),
    "all-resnet50-224": Case(
        "imagenet1k-deda", "resnet50", 224, classes=1000, ipc=50, images=1000, everything=True
    ),
}
REAL = 500  # embeddings of real images of a class
STEPS = 3  # the second is counted: the first reads the targets and makes the optimizer's state


class _FakeBank:
    """Stands in for a Bank: statistics of the right shapes."""

    def __init__(self, network: nn.Module, terms: Terms, case: Case) -> None:
        self.manifest = {"embeddings": [REAL] * case.classes}
        with torch.no_grad():
            features = tapped(terms, network)(torch.empty(1, 3, case.side, case.side, device="cuda"))
        self.dim = features.embedding.shape[1]
        self.widths = {layer: pooled.shape[1] for layer, pooled in features.pooled.items()}

    def embeddings(self, c: int) -> Tensor:
        return torch.empty(REAL, self.dim)

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        D = self.widths[layer]
        return torch.empty(len(classes), D), torch.empty(len(classes), D * (D + 1) // 2)


class _CountedError(Exception):
    pass


class _Marked(Signal):
    """A signal that notes the launches and the waits before and after each call, and ends the second step."""

    def __init__(self, signal: Signal, counts: Counts) -> None:
        self.signal, self.counts = signal, counts
        self.marks: list[tuple[int, int]] = []

    def start(self, unit: Unit, steps: int) -> None:
        self.signal.start(unit, steps)

    def __call__(self, variable: Variable, part: Round, step: int) -> Values:
        self.marks.append((len(self.counts.launches), self.counts.waits))
        if step == 2:
            raise _CountedError
        values = self.signal(variable, part, step)
        self.marks.append((len(self.counts.launches), self.counts.waits))
        return values


@dataclass(frozen=True)
class Step:
    """What one step launches, how many images it moves, and how often the host waits for the GPU."""

    images: int
    gradient: list[Launch]
    update: list[Launch]
    waits: int


def _channels_last(network: nn.Module) -> None:
    # network.to cannot: it would swap weights that have no values.
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 4:
                weight = nn.Parameter(weight.detach().contiguous(memory_format=torch.channels_last))
                setattr(module, name, weight)


def method_of(case: Case) -> Method:
    """The recipe's method, from noise, with a few steps."""
    (method,) = resolve(case.recipe).recipe.arms.values()
    terms = Terms(**{**method.terms, "bn": BatchNorm(), "dire": DiRe()}) if case.everything else method.terms
    return method.model_copy(update={"steps": STEPS, "init": "noise", "terms": terms})


def traced(case: Case) -> Step:
    """The second step of a case's first unit."""
    method = method_of(case)
    unit = all_units(method, case.ipc, case.classes, 1, unit_images=case.images)[0]
    with fake_device("cuda") as counts:
        with torch.device("cuda"):
            network = build(case.network, case.classes)
        _channels_last(network)
        network.eval().requires_grad_(False)
        names = tuple(map(str, range(case.classes)))
        teacher = Teacher(network, Card(case.network, names, 3, mean=(0.5,) * 3, std=(0.25,) * 3))
        config = Recover(precision="bf16", compile=False, log_every=10**6)
        recovery = Recovery(
            method,
            config,
            [teacher],
            [cast(Bank, _FakeBank(network, method.terms, case))],
            real_images=lambda rows: torch.empty(0),
            shape=(3, case.side, case.side),
            seed=0,
        )
        signal = _Marked(recovery.signal, counts)
        images = torch.empty(len(unit.rows), 3, case.side, case.side, device="cuda")
        bounds = teacher.bounds(images.device)
        with suppress(_CountedError):
            optimize(images, unit, method, config=config, bounds=bounds, signal=signal, bar=Silent())
        _, _, (begin, before), (end, _), (following, after) = signal.marks
        gradient, update = counts.launches[begin:end], counts.launches[end:following]
        return Step(len(images), gradient, update, waits=after - before)


class Total(NamedTuple):
    """Sums over launches."""

    launches: int
    gigabytes: float
    teraflops: float
    milliseconds: float
    host_milliseconds: float

    @staticmethod
    def of(launches: Iterable[Launch], gpu: GPU) -> Total:
        launches = list(launches)
        return Total(
            len(launches),
            sum(launch.bytes for launch in launches) / 1e9,
            sum(launch.flops for launch in launches) / 1e12,
            1e3 * sum(gpu.seconds_of(launch) for launch in launches),
            1e3 * len(launches) * LAUNCH,
        )

    def line(self) -> str:
        return (
            f"{self.launches:5d} launches {self.gigabytes:8.2f} GB {self.teraflops:7.3f} TFLOP "
            f"{self.milliseconds:8.2f} ms (host {self.host_milliseconds:.1f})"
        )


def grouped(launches: Iterable[Launch], by: Sequence[str], gpu: GPU) -> list[tuple[str, Total]]:
    """Sums by some attributes of a launch, the most expensive first."""
    groups: dict[str, list[Launch]] = defaultdict(list)
    for launch in launches:
        groups["  ".join(f"{getattr(launch, name)}" for name in by)].append(launch)
    totals = [(key, Total.of(members, gpu)) for key, members in groups.items()]
    return sorted(totals, key=lambda pair: -pair[1].milliseconds)


def minutes(case: Case, sums: Mapping[str, Total], gpu: GPU) -> float:
    """How long all units of the recipe take, where the GPU and the host overlap perfectly."""
    (method,) = resolve(case.recipe).recipe.arms.values()
    launches = sum(total.launches for total in sums.values())
    step = max(sum(total.milliseconds for total in sums.values()), 1e3 * launches * LAUNCH)
    return step * method.steps * case.classes * case.ipc / case.images / 60e3


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--gpu", default="h200", choices=sorted(GPUS))
    parser.add_argument("--rows", type=int, default=25, help="rows of each table; 0: the sums alone")
    parser.add_argument("--json", type=Path, help="also write the sums here")
    options = parser.parse_args(arguments)
    gpu, found = GPU.of(options.gpu), {}
    for name in options.cases.split(","):
        step = traced(CASES[name])
        sums = {"gradient": Total.of(step.gradient, gpu), "update": Total.of(step.update, gpu)}
        whole = minutes(CASES[name], sums, gpu)
        found[name] = {key: total._asdict() for key, total in sums.items()}
        found[name] |= {"waits": step.waits, "minutes": whole}
        print(f"\n{name}: {step.images} images, on one {options.gpu}; the host waits {step.waits} times")
        for key, total in sums.items():
            print(f"  {key:8} {total.line()}")
        print(f"  {CASES[name].classes} x {CASES[name].ipc} images: {whole:.1f} minutes")
        if not options.rows:
            continue
        for by in (("direction", "name"), ("direction", "place")):
            print(f"\n  gradient, by {' and '.join(by)}")
            for key, total in grouped(step.gradient, by, gpu)[: options.rows]:
                print(f"    {total.line()}  {key}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
