"""The stages in order: real images -> teacher -> bank -> recover -> labels -> students -> report.

Each stage asks the run folder what is missing and does only that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fastdd_kernels import knn_radii

from .. import evaluate, recover
from ..bank import Bank
from ..config import CONTROL, RANDOM_REAL, Recipe, Terms
from ..data import summary
from ..data.real_data import RealData
from ..distilled.formation import plane_sizes
from ..distilled.images import load_recovered
from ..errors import InputError
from ..evaluate.full_set import FullSet
from ..models.build import outline
from ..protocols import SettledStudent, settle_student
from ..runtime.devices import device_of
from ..runtime.distributed import is_main
from ..runtime.files import write_json, write_tensors
from ..runtime.precision import settled
from ..runtime.seeds import seed_everything
from ..teachers import Teacher
from .folder import RunFolder, open_run
from .label_stage import SoftLabels
from .student_stage import LEFT_OUT, Students
from .teacher_stage import Member

Rows = Sequence[tuple[int, int]]
"""(class, slot)"""
STAGES = ("squeeze", "bank", "recover", "label", "evaluate", "report")


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder and what metrics.json and manifest.json say."""

    path: Path
    metrics: dict[str, Any]
    manifest: dict[str, Any]


class Pipeline:
    """A recipe, its data and its run folder.

    Everything that can be wrong with the input is checked here, before anything is written.
    """

    def __init__(self, recipe: Recipe, out: Path, fresh: bool = False, shared: bool = False) -> None:
        seed_everything(recipe.seed)
        self.device = device_of(recipe.device)
        self.recipe = recipe = settled(recipe, self.device)
        self.arms = {CONTROL: RANDOM_REAL, **recipe.arms}
        self.real = RealData(recipe, self.device)
        configs = {"": recipe.teacher, **recipe.committee}
        self.members = [Member(name, config, recipe, self.real) for name, config in configs.items()]
        self._check(out, fresh)
        left_out = self._full_set().left_out(recipe.metrics.full_set)
        self.run: RunFolder = open_run(out, recipe, fresh, shared)
        self.run.manifest.setdefault(LEFT_OUT, left_out)
        self.run.check_fingerprint("train", self.real.train.fingerprint)
        self.run.check_fingerprint("test", self.real.test_set.fingerprint)
        if is_main() and not (out / "data.json").is_file():
            write_json(out / "data.json", [summary(self.real.train), summary(self.real.test_set)])
        if self.real.skipped:
            self.run.manifest["skipped"] = self.real.skipped
            self.run.write_manifest()

    def _check(self, out: Path, fresh: bool) -> None:
        """Refuse now, and not after hours, what teachers, methods or students could not do."""
        for number, member in enumerate(self.members):
            member.check(self._terms(number), out, fresh)
        classes, images = len(self.real.classes), len(self.real.train)
        student, labeller = (
            outline(f"{key}.network", config.network, classes, self.real.shape).train()
            for key, config in (("student", self.recipe.student), ("teacher", self.recipe.teacher))
        )
        normalizing = {self.recipe.student.network: student}
        if self.recipe.student.teacher_mode == "train" and self.recipe.student.labels == "online":
            normalizing["the teacher in train mode"] = labeller
        for arm in self.arms:
            config = self._protocol(arm)
            if (formation := self.arms[arm].formation) is not None:
                plane_sizes(formation, self.real.shape)
                self.real.choose(self._seen(arm))
            smallest = evaluate.smallest_batch(self._seen(arm) * classes, config.batch)
            evaluate.require_statistics(config, normalizing, smallest)
        if self.recipe.metrics.k >= images:
            raise InputError(
                f"metrics.k is {self.recipe.metrics.k}, expected less than the {images} real images"
            )

    def _speakers(self, arm: str) -> int:
        """How many of the teachers, from the first on, the arm's method listens to."""
        return recover.speakers(self.arms[arm], len(self.members))

    def _terms(self, number: int) -> list[Terms]:
        """Terms of the arms that listen to a teacher."""
        return [method.terms for arm, method in self.arms.items() if number < self._speakers(arm)]

    # -- stages --------------------------------------------------------------------------------

    @cached_property
    def teachers(self) -> list[Teacher]:
        """All teachers, given or squeezed."""
        return [member.teacher(self.run) for member in self.members]

    @property
    def teacher(self) -> Teacher:
        """The teacher of the run."""
        return self.teachers[0]

    def build_bank(self, classes: range | None = None) -> bool:
        """Build what each teacher's bank lacks, or only some classes of it; returns whether they are whole."""
        whole = [
            member.build_bank(self.run, self.teachers[number], self._terms(number), classes)
            for number, member in enumerate(self.members)
        ]
        return all(whole)

    @cached_property
    def banks(self) -> list[Bank]:
        """The statistics of the real images that the arms' terms need, one bank a teacher."""
        self.build_bank()
        return [member.bank(self.run) for member in self.members]

    @property
    def bank(self) -> Bank:
        """Of the teacher of the run."""
        return self.banks[0]

    def recover(self, arm: str, units: range | None = None) -> None:
        """Recover what the run folder lacks of the arm's distilled images, or of some of its units."""
        recipe, classes, many = self.recipe, self.real.classes, self._speakers(arm)
        recovery = recover.Recovery(
            self.arms[arm],
            recipe.recover,
            self.teachers[:many],
            self.banks[:many],
            self._initial_rows(arm),
            self.real.shape,
            recipe.seed,
        )
        left = recover.unfinished(arm, recovery, len(classes), recipe.ipc, self.run.path, units)
        if left:
            with self.run.stage(f"recover {arm}") as work:
                work.images = recover.recover(arm, left, recovery, classes, self.run.path)

    def _initial_rows(self, arm: str) -> Callable[[Rows], Tensor]:
        """What images of the arm start from, where that is not noise."""
        recipe, method = self.recipe, self.arms[arm]
        slots = recover.real_slots(method, recipe.ipc, len(self.real.classes), self._speakers(arm))
        rows_of = self._real_rows(slots)
        if method.init not in ("noise", "real"):
            rows_of = recover.Chosen(
                method,
                slots,
                self.real.train.names,
                recover.decoder(self.real.train, recipe.data, self.device),
                self.teacher,
                self.bank,
                self.real.shape[1:],
                recipe.seed,
                self.run.path / "recover" / arm / "initial",
            )
        return rows_of if method.offset is None else recover.repeated(rows_of, slots)

    def _real_rows(self, slots: int) -> Callable[[Rows], Tensor]:
        """The control's images: with offsets the first ones, with formations also the next ones of the same choice."""
        images = cache(lambda: self.real.sample(slots))
        return lambda rows: images()[[c * slots + slot for c, slot in rows]]

    def _seen(self, arm: str) -> int:
        """Images a class that the arm's students see: ipc, but for methods that count otherwise."""
        return recover.seen_slots(
            self.arms[arm], self.recipe.ipc, len(self.real.classes), self._speakers(arm)
        )

    def distilled(self, arm: str) -> tuple[Tensor, Tensor]:
        """uint8 images and labels of an arm, in class order."""
        channels = self.recipe.data.channels
        images, truth = load_recovered(
            self.run.path / "images" / arm, self.real.classes, self._seen(arm), channels, self.arms[arm]
        )
        return images.to(self.device), truth.to(self.device)

    @cached_property
    def soft_labels(self) -> SoftLabels:
        """Who labels, and where labels are."""
        several = self.recipe.labels.teachers == "all"
        voters = {
            member.name or "teacher": number
            for number, member in enumerate(self.members)
            if several or not number
        }
        fingerprints = (
            self.run.manifest["fingerprints"][f"teacher{self.members[n].suffix}"] for n in voters.values()
        )
        return SoftLabels(
            self.recipe,
            self.run.path / "labels",
            {name: self.teachers[n] for name, n in voters.items()},
            tuple(fingerprints),
        )

    def label(self, arm: str) -> None:
        """Store the soft labels that the run folder lacks of an arm's images."""
        if self.soft_labels.lacks(arm):
            with self.run.stage(f"label {arm}") as work:
                images, _ = self.distilled(arm)
                self.soft_labels.write(arm, images, self._protocol(arm))
                work.images = len(images)

    def _protocol(self, arm: str) -> SettledStudent:
        """What the arm's students go through, with everything that depends on its number of images settled."""
        classes = len(self.real.classes)
        return settle_student(self.recipe.student, self._seen(arm) * classes, classes)

    def _full_set(self) -> FullSet:
        classes = len(self.real.classes)
        return FullSet(self.real, self._protocol(CONTROL), self.recipe.ipc * classes, self.recipe.seed)

    def _students(self) -> Students:
        """The students' stage; what it decodes lives as long as it does."""
        return Students(
            self.run,
            list(self.arms),
            self.recipe.seed,
            self.recipe.student.seeds,
            self._protocol,
            self.distilled,
            self.soft_labels,
            self.teacher,
            self.real.test,
            self._full_set(),
        )

    def embeddings(self) -> dict[str, Tensor]:
        """Teacher embeddings of the real training images and of every arm's images, float16."""
        path = self.run.path / "embeddings.safetensors"
        if not path.is_file():
            real = torch.cat([self.bank.embeddings(c) for c in range(len(self.bank.classes))])
            arms = {arm: evaluate.embed(self.teacher, self.distilled(arm)[0]).half() for arm in self.arms}
            write_tensors(path, {"real": real.half(), "real_labels": self.real.train.labels, **arms})
        return load_file(path)

    def metrics(self) -> dict[str, Any]:
        """metrics.json: everything measured, and under which protocol."""
        path = self.run.path / "metrics.json"
        if not path.is_file():
            write_json(path, self._measure())
        return json.loads(path.read_text())

    def _measure(self) -> dict[str, Any]:
        recipe, card = self.recipe, self.teacher.card
        students = self._students()
        embeddings = self.embeddings()
        arms = {}
        with self.run.stage("metrics") as work:
            real = embeddings["real"].float()
            radii = knn_radii(real, recipe.metrics.k)
            for arm, method in self.arms.items():
                stored = self._seen(arm)
                truth = torch.arange(len(card.classes)).repeat_interleave(stored)
                diversity = evaluate.diversity(real, radii, embeddings[arm].float(), truth, recipe.metrics.k)
                arms[arm] = {
                    "title": method.title,
                    "stored": stored,
                    **students.measured(arm),
                    **asdict(diversity),
                }
            work.images = len(real)
        text, digest = self.soft_labels.protocol(self._protocol(CONTROL))
        protocol = {"text": text, "hash": digest, "seeds": recipe.student.seeds}
        return {
            "recipe": recipe.name,
            "description": recipe.description,
            "classes": list(card.classes),
            "ipc": recipe.ipc,
            "seed": recipe.seed,
            "data": {
                "root": recipe.data.root,
                "train": len(self.real.train),
                "test": len(self.real.test_set),
            },
            "teacher": {"network": card.network, "accuracy": card.accuracy},
            "protocol": protocol,
            "k": recipe.metrics.k,
            "arms": arms,
            **students.measured_full(),
        }

    def through(self, last: str, part: range | None = None) -> None:
        """Do every stage up to and including ``last``; of that only classes (bank) or units (recover) if given."""
        wanted = STAGES[: STAGES.index(last) + 1]
        _ = self.teachers
        if "bank" in wanted and not self.build_bank(part if last == "bank" else None):
            return
        if "recover" in wanted:
            for arm in self.arms:
                self.recover(arm, part if last == "recover" else None)
        if "label" in wanted and is_main():
            for arm in self.arms:
                self.label(arm)
        if "evaluate" in wanted:
            self._students().train()
        if not is_main():  # later stages are the work of one process
            return
        if "evaluate" in wanted:
            self.metrics()
        if "report" in wanted:
            from ..report import report

            with self.run.stage("report"):
                report(self.run.path)


def run(
    recipe: Recipe, out: Path, fresh: bool = False, until: str = "report", part: range | None = None
) -> RunResult:
    """Run a recipe into a folder; see fastdd.run."""
    if until not in STAGES:
        raise InputError(f"until must be one of {', '.join(STAGES)}, got {until!r}")
    if part is not None and until not in ("bank", "recover"):
        raise InputError(f"a part is one of the bank's classes or recover's units; until is {until!r}")
    pipeline = Pipeline(recipe, out, fresh, shared=part is not None)
    number = len(pipeline.real.classes)
    if until == "bank" and part is not None and not 0 <= part.start < part.stop <= number:
        raise InputError(f"classes {part.start}:{part.stop} are not within the {number} classes 0:{number}")
    pipeline.through(until, part)
    finished = is_main() and STAGES.index(until) >= STAGES.index("evaluate")
    return RunResult(out, pipeline.metrics() if finished else {}, pipeline.run.manifest)
