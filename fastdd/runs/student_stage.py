"""The students' stage of a run: of every arm, and of the whole real training set.

    students/<arm>/seed_<k>.json    last, best and curve of one student        students/full/   the whole training set's

All students are in one queue that processes share, those of the whole training set last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import FULL
from ..evaluate import train_student
from ..evaluate.full_set import FullSet
from ..protocols import SettledStudent, images_seen
from ..runtime.distributed import barrier, claims
from ..runtime.files import write_json
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers import Teacher
from .folder import MANIFEST, RunFolder
from .label_stage import SoftLabels

FULL_SET = "full_set"
LEFT_OUT = "full_set_left_out"
"""key of the manifest and of metrics.json: why a run has no students of the whole training set"""


@dataclass(frozen=True)
class Students:
    """Students of a run.

    Attributes:
        run: the folder.
        arms: names, in the order of the table.
        seed, count: of the run; students an arm.
        protocol: settled protocol of an arm.
        distilled: uint8 images and classes of an arm, on the device.
        labels: who labels those, and where labels are.
        teacher: whose normalization all images get, and who labels online.
        test: uint8 images and labels of the real test split.
        full: the whole training set.
    """

    run: RunFolder
    arms: Sequence[str]
    seed: int
    count: int
    protocol: Callable[[str], SettledStudent]
    distilled: Callable[[str], tuple[Tensor, Tensor]]
    labels: SoftLabels
    teacher: Teacher
    test: tuple[Tensor, Tensor]
    full: FullSet

    def train(self) -> None:
        """Train and test what the run folder lacks, of all arms and seeds."""
        barrier()  # the main process has noted whether the whole training set is left out
        sets = [*self.arms, *([FULL] if self._wants_full() else [])]
        every = [(name, seed) for name in sets for seed in range(self.count)]
        left = [(name, seed) for name, seed in every if not self._path(name, seed).is_file()]
        barrier()  # all processes have listed them before any is finished
        for number in claims("students", len(left)):
            self._train(*left[number])
        barrier()

    def _train(self, name: str, seed: int) -> None:
        identity = derive(self.seed, "student", seed)
        if name == FULL:
            config, size, source = self.full.config, self.full.size, None
            images, truth = self.full.images
        else:
            config, (images, truth) = self.protocol(name), self.distilled(name)
            size, source = len(images), self.labels.read(name, images, config, truth, identity)
        total = images_seen(config, size)
        with self.run.stage(f"students {name}") as work, progress(f"student {name} {seed}", total) as bar:
            result = train_student(
                config, self.teacher, images, source, self.test, identity, bar, truth, size
            )
            work.images = total
        write_json(self._path(name, seed), {"seed": seed, **asdict(result)})

    def _path(self, name: str, seed: int) -> Path:
        return self.run.path / "students" / name / f"seed_{seed}.json"

    def _left_out(self) -> str | None:
        """Why there are no students of the whole training set, as was settled when the run began."""
        reason: str | None = json.loads((self.run.path / MANIFEST).read_text())[LEFT_OUT]
        return reason

    def _wants_full(self) -> bool:
        """Whether there are such students; not where an earlier version finished the run without."""
        results = self.run.path / "metrics.json"
        finished = results.is_file() and FULL_SET not in json.loads(results.read_text())
        return self._left_out() is None and not finished

    def measured(self, name: str) -> dict[str, list[Any]]:
        """``last``, ``best`` and ``curves`` of an arm's students, one entry a seed."""
        found = [json.loads(self._path(name, seed).read_text()) for seed in range(self.count)]
        accuracies = {key: [student[key] for student in found] for key in ("last", "best")}
        return {**accuracies, "curves": [student["curve"] for student in found]}

    def measured_full(self) -> dict[str, Any]:
        """What metrics.json says of the whole training set: its students, or why there are none."""
        if (reason := self._left_out()) is not None:
            return {FULL_SET: None, LEFT_OUT: reason}
        return {FULL_SET: {"title": self.full.title, "images": len(self.full.chosen), **self.measured(FULL)}}
