"""What FADRM's blends cost, and what a ladder of image sizes saves.

    python benchmarks/stages.py [--rows residual,ladder] [--rounds 3] [--threads 1] [--json FILE]

| row | timed | over | goal |
|---|---|---|---|
| residual | FADRM at one size: three blends, four times Adam | SRe2L++, the same steps | at most 1.01 |
| ladder | 20 steps at 224 pixels | 20 steps at 128, 160, 192 and 224 pixels, five each | at least 1.5 |

Both sides of a row run in turns, whole loops from the same images, after a round that is not timed; the
figure is the ratio of the medians of processor time. The teacher of the first row is a random ResNet-18 for
small images, of the second one for 224 pixels; the work is that of trained ones. Beside each figure stands
the ratio of the multiplications, which does not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from conftest import processor_name
from settings import FULL, RandomBank, Setting, Silent, no_images, random_teacher
from sides import declared, unit_of

from fastdd.bank import Bank
from fastdd.config import Method, Recover, Residual
from fastdd.recover import Recovery, Unit
from fastdd.recover.stages import share_of_work
from fastdd.runtime.progress import Bar

LADDER = (128, 160, 192, 224)
QUICK_LADDER = (4, 8)
RESIDUAL = Residual(stages=4, alpha=0.5)


class Row(NamedTuple):
    """Two methods whose loops are timed.

    Attributes:
        setting: network and side of the images.
        images: images of the unit.
        over, under: the ratio is the first one's time over the second one's.
        goal: the ratio.
        at_most: whether the ratio is not to pass the goal; else it is to reach it.
    """

    setting: Setting
    images: int
    over: Method
    under: Method
    goal: float
    at_most: bool


def rows(quick: bool) -> dict[str, Row]:
    """The rows by name; quick ones are of tiny shapes, whose figures say nothing."""
    plain = declared("cifar10-sre2lpp", 4 if quick else 20)
    small = FULL._replace(network="resnet8", side=8) if quick else FULL
    large = small if quick else FULL._replace(network="resnet18", side=224)
    sizes = QUICK_LADDER if quick else LADDER
    wide = declared("imagenet1k-sre2lpp", 4 if quick else 20)
    ladder = wide.model_copy(update={"sizes": sizes, "budgets": "equal"})
    blended = plain.model_copy(update={"residual": RESIDUAL})
    return {
        "residual": Row(
            small, images=4 if quick else 100, over=blended, under=plain, goal=1.01, at_most=True
        ),
        "ladder": Row(large, images=2 if quick else 10, over=wide, under=ladder, goal=1.5, at_most=False),
    }


def loop(method: Method, setting: Setting, unit: Unit, precision: str) -> float:
    """Processor time of a whole loop."""
    teacher = random_teacher(setting, torch.device("cpu"), batch=20)
    bank = cast(Bank, RandomBank(setting, teacher))
    shape = (3, setting.side, setting.side)
    config = Recover(precision=precision)  # type: ignore[arg-type]
    recovery = Recovery(method, config, [teacher], [bank], real_images=no_images, shape=shape, seed=0)
    start = time.process_time()
    recovery.optimize(unit, cast(Bar, Silent()))
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="residual,ladder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, whose figures say nothing")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = []
    for name in options.rows.split(","):
        row = rows(options.quick)[name]
        unit = unit_of((1, row.images, 1))
        times: dict[str, list[float]] = {"over": [], "under": []}
        for number in range(options.rounds + 1):
            for side, method in (("over", row.over), ("under", row.under)):
                taken = loop(method, row.setting, unit, options.precision)
                if number:
                    times[side].append(taken)
        over, under = (statistics.median(each) for each in times.values())
        full = (row.setting.side, row.setting.side)
        work = share_of_work(row.over, full) / share_of_work(row.under, full)
        met = over / under <= row.goal if row.at_most else over / under >= row.goal
        print(
            f"{name}: {over:.2f} against {under:.2f} s of processor time, {over / under:.3f} (goal "
            f"{row.goal}: {'met' if met else 'missed'}); multiplications {work:.3f}"
        )
        found.append(
            {"row": name, "seconds": times, "ratio": over / under, "multiplications": work, "met": met}
        )
    if options.json:
        facts = {
            "device": processor_name(),
            "threads": options.threads,
            "precision": options.precision,
            "torch": torch.__version__,
        }
        options.json.write_text(json.dumps({"facts": facts, "rows": found}, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
