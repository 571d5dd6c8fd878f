"""How far ``fastdd estimate`` is from what this machine's processor takes.

    python benchmarks/estimates.py cifar10-deda [KEY=VALUE ...] [--json benchmarks/results/estimates.json]

Each work of a run (fastdd/cost/works.py) is estimated as the command does, and repetitions of its real code
are measured, in processor seconds of this process, of which the median counts: one alone may be 40 % off on a
machine with other work. Works of other arms that cost the same are left out, and so is compiling.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from fastdd.bench.machine import processor_name
from fastdd.cost.processor import Processor
from fastdd.cost.subject import Subject
from fastdd.cost.work import EnoughError, Steps, Work, traced
from fastdd.cost.works import works_of
from fastdd.recipes.resolve import resolve

CPU = torch.device("cpu")


def measured(work: Work, repetitions: int) -> list[float]:
    """Processor seconds of each repetition, after one that is not counted."""
    marks: list[float] = []
    steps = Steps(repetitions * work.repeats, lambda: marks.append(time.process_time()))
    with contextlib.suppress(EnoughError), contextlib.redirect_stderr(io.StringIO()):
        work.run(steps, work.images)
    ends = marks[:: work.repeats]
    return [(end - begin) / work.repeats / torch.get_num_threads() for begin, end in pairwise(ends)]


def rows_of(subject: Subject, left_out: str, stage: str, repetitions: int) -> list[dict[str, object]]:
    """Estimate and measurement of each kind of work of a stage (empty: of all), but for a part."""
    every = [
        work
        for work in works_of(subject, CPU)
        if work.part != left_out and (not stage or work.stage.split()[0] == stage)
    ]
    works = {(work.stage.split()[0], work.part): work for work in reversed(every)}
    found = {key: traced(work, "cpu") for key, work in works.items()}
    processor = Processor()
    processor.learn(launch for each in found.values() for launch in each.launches)
    rows: list[dict[str, object]] = []
    for key, each in reversed(found.items()):
        seconds = processor.seconds(each.launches, compiled=each.work.compiled)
        estimated, times = processor.total(seconds) / each.work.repeats, measured(each.work, repetitions)
        took = median(times)
        row: dict[str, object] = {"recipe": subject.recipe.name, "stage": key[0], "part": key[1]}
        row |= {"images": each.work.images, "estimated s": round(estimated, 4), "measured s": round(took, 4)}
        row |= {"low s": round(min(times), 4), "high s": round(max(times), 4), "repetitions": len(times)}
        rows.append(row | {"ratio": round(estimated / took, 2)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--json", type=Path, help="replace the recipe's rows of this file")
    parser.add_argument("--without", metavar="PART", default="", help="leave out works such as tests")
    parser.add_argument("--stage", metavar="NAME", default="", help="measure this stage alone, such as bank")
    parser.add_argument("--repetitions", metavar="N", type=int, default=5, help="of each work (default: 5)")
    options = parser.parse_args()
    subject = Subject.of(resolve(options.recipe, options.overrides).recipe)
    rows = rows_of(subject, options.without, options.stage, options.repetitions)
    if options.json:
        earlier = json.loads(options.json.read_text())["rows"] if options.json.is_file() else []
        again = {(row["recipe"], row["stage"], row["part"]) for row in rows}
        kept = [row for row in earlier if (row["recipe"], row["stage"], row["part"]) not in again]
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": processor_name()}
        options.json.write_text(json.dumps({"facts": facts, "rows": [*kept, *rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
