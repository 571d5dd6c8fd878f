"""What ImageNet-1K and ImageNet-21K cost on 1, 8 and 64 GPUs, computed: writes docs/results/cost.md.

    python benchmarks/imagenet.py [--gpu h200]

The figures are those of ``fastdd estimate imagenet1k-deda ipc=IPC --gpu h200 --count N``; for ImageNet-21K
with ``--classes 10450 --images 11060223 --test-images 522500``, the sizes of its release of winter 2021
(Ridnik et al., 2021), on which papers of distillation report. A run takes no GPU and a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastdd.cost.estimate import Estimate, estimate
from fastdd.cost.work import Traced
from fastdd.recipes.resolve import resolve
from fastdd.runtime.console import bytes_text, rough_duration

DATA = {
    "ImageNet-1K": {"classes": 1_000, "train": 1_281_167, "test": 50_000},
    "ImageNet-21K": {"classes": 10_450, "train": 11_060_223, "test": 522_500},
}
IPCS, COUNTS = (10, 50, 100), (1, 8, 64)
PAGE = Path(__file__).parents[1] / "docs/results/cost.md"
TEXT = """# What ImageNet costs

Recipe `imagenet1k-deda` (ResNet-18, 224 x 224, {steps} steps of DEDA, {students} students by SRe2L's
protocol) on {gpu}. **Every figure is computed, and none was measured on a GPU**. The code of each stage runs
on tensors without values, and what it asks for has the prices of a data sheet. {computed}. One core decodes
{decoded:.0f} images of 500 x 375 a second, and {cores} cores stand beside each GPU. `benchmarks/estimates.py`
compares the same counting with measurements on a CPU.

`python benchmarks/imagenet.py` writes this page, and `fastdd estimate imagenet1k-deda ipc=50 --gpu {gpu}`
is one cell of it, stage by stage.

Teacher and bank, once for all images a class. The time in which GPUs exchange a teacher's gradients is not
counted. On one GPU the training of the teacher is bound by {bound}:

| | squeeze, 1 GPU | 8 | 64 | bank, 1 GPU | 8 | 64 | bank on disk |
|---|---|---|---|---|---|---|---|
{teachers}

Recover, and the students of one set. GPUs share units of recover and whole students, so that more GPUs than
students make these no faster:

| | images a class | recover, 1 GPU | 8 | 64 | students, 1 GPU | 8 | 64 | images on disk, at most |
|---|---|---|---|---|---|---|---|---|
{sets}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", default="h200")
    gpu = parser.parse_args().gpu
    teachers, sets, bounds = [], [], set()
    for name, sizes in DATA.items():
        known: dict[str, Traced | str] = {}
        for ipc in IPCS:
            recipe = resolve("imagenet1k-deda", [f"ipc={ipc}", "metrics.full_set=false"]).recipe
            found = {c: estimate(recipe, gpu, count=c, sizes=sizes, known=known) for c in COUNTS}
            last = found[1]
            if ipc == IPCS[0]:
                cells = [_time(found[count], stage) for stage in ("squeeze", "bank") for count in COUNTS]
                teachers.append(f"| {name} | {' | '.join(cells)} | {bytes_text(last.storage['bank'])} |")
                bounds.add(next(stage.bound for stage in last.stages if stage.stage == "squeeze"))
            cells = [
                _time(found[count], stage) for stage in ("recover deda", "students deda") for count in COUNTS
            ]
            images = bytes_text(last.storage["images of deda"])
            sets.append(f"| {name} | {ipc} | {' | '.join(cells)} | {images} |")
            print(sets[-1], flush=True)
    (bound,) = bounds
    from fastdd.cost.estimate import CORES
    from fastdd.cost.processor import SECONDS_A_PIXEL, SECONDS_AN_IMAGE

    PAGE.write_text(
        TEXT.format(
            gpu=gpu,
            steps=recipe.arms["deda"].steps,
            students=recipe.student.seeds,
            computed=last.computed.partition("; ")[2],
            decoded=1 / (SECONDS_AN_IMAGE + SECONDS_A_PIXEL * 500 * 375),
            cores=CORES,
            bound=bound,
            teachers="\n".join(teachers),
            sets="\n".join(sets),
        )
    )


def _time(found: Estimate, stage: str) -> str:
    return next(rough_duration(each.seconds) for each in found.stages if each.stage == stage)


if __name__ == "__main__":
    main()
