"""The stages in order: real images -> teacher -> bank -> recover -> labels -> students -> report.

Each stage asks the run folder what is missing and does only that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fastdd_kernels import knn_radii

from . import bank as banks
from . import evaluate, labels, recover, teachers
from .bank import Bank
from .data import Dataset, open_dataset, real_sample
from .errors import InputError
from .files import write_json, write_tensors
from .precision import settled
from .progress import progress
from .recipe import Batch, Method, Recipe, Terms
from .runfolder import RunFolder, open_run
from .seeds import derive, seed_everything
from .teachers import Teacher

STAGES = ("squeeze", "bank", "recover", "label", "evaluate", "report")
CONTROL = "random"
RANDOM_REAL = Method(title="random real images", init="real", batch=Batch(slots="all"), terms=Terms(ce=None), steps=0)
BATCH = 500


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

    def __init__(self, recipe: Recipe, out: Path, fresh: bool = False) -> None:
        seed_everything(recipe.seed)
        self.device = _device(recipe.device)
        self.recipe = recipe = settled(recipe, self.device)
        self.arms = {CONTROL: RANDOM_REAL, **recipe.arms}
        self.train = open_dataset(recipe.data.root, "train")
        self.test_set = open_dataset(recipe.data.root, "test")
        self.real = real_sample(self.train, recipe.ipc, derive(recipe.seed, "real"))
        if recipe.teacher.weights is not None:
            self._load_teacher(Path(recipe.teacher.weights))
        self._check_networks()
        if fresh and recipe.teacher.weights and out.resolve() in Path(recipe.teacher.weights).resolve().parents:
            raise InputError(
                f"teacher.weights {recipe.teacher.weights} lies in {out}, which --fresh would delete; move it"
            )
        self.run: RunFolder = open_run(out, recipe, fresh)
        self.run.check_fingerprint("train", self.train.fingerprint)
        self.run.check_fingerprint("test", self.test_set.fingerprint)

    def _check_networks(self) -> None:
        """Refuse now, and not after hours, what the teacher or the student could not do."""
        classes = len(self.train.classes)
        teacher = teachers.outline("teacher.network", self.recipe.teacher.network, classes, self._shape)
        for method in self.arms.values():
            recover.tapped_layers(method.terms, teacher)
        teachers.outline("student.network", self.recipe.student.network, classes, self._shape)
        if self.recipe.metrics.k >= len(self.train):
            raise InputError(
                f"metrics.k is {self.recipe.metrics.k}, expected less than the {len(self.train)} real images"
            )

    # -- real images ---------------------------------------------------------------------------

    def _images(self, dataset: Dataset, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """uint8 images and labels, on the device."""
        images = dataset.images(self._size, self.recipe.data.channels, indices)
        truth = dataset.labels if indices is None else dataset.labels[indices]
        return images.to(self.device), truth.to(self.device)

    @property
    def _size(self) -> tuple[int, int] | None:
        return None if self.recipe.data.size is None else (self.recipe.data.size, self.recipe.data.size)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The held-out split, resident."""
        return self._images(self.test_set)

    @cached_property
    def real_images(self) -> Tensor:
        """The seeded choice of ipc real images a class, [K * ipc, C, H, W] in class order."""
        return self._images(self.train, self.real)[0]

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        first, _ = next(self.train.batches(1, self._size, self.recipe.data.channels))
        _, channels, height, width = first.shape
        return channels, height, width

    def _real_rows(self, rows: Sequence[tuple[int, int]]) -> Tensor:
        return self.real_images[[c * self.recipe.ipc + slot for c, slot in rows]]

    # -- stages --------------------------------------------------------------------------------

    def _load_teacher(self, path: Path) -> Teacher:
        config, data = self.recipe.teacher, self.recipe.data
        return teachers.load_teacher(path, config, self.train.classes, data.channels, self.device)

    @cached_property
    def teacher(self) -> Teacher:
        """Squeeze: the given teacher, or one trained here; its weights are kept in the run folder."""
        path = self.run.path / "teacher.safetensors"
        if not path.is_file():
            with self.run.stage("squeeze") as work:
                teachers.save_teacher(path, self._squeeze(work))
        self.run.check_fingerprint("teacher", teachers.fingerprint(path))
        return self._load_teacher(path)

    def _squeeze(self, work: Any) -> Teacher:
        config = self.recipe.teacher
        if config.weights is None:
            images, truth = self._images(self.train)
            work.images = len(images) * config.epochs
            return teachers.squeeze(
                config, self.train.classes, (images, truth), self.test, derive(self.recipe.seed, "squeeze")
            )
        given = self._load_teacher(Path(config.weights))
        work.images = len(self.test[0])
        reached = teachers.accuracy(given.network, given.normalise, *self.test)
        if reached < config.minimum_accuracy:
            raise InputError(
                f"teacher.weights: {config.weights} has {reached:.1%} test accuracy here, expected at least "
                f"teacher.minimum_accuracy = {config.minimum_accuracy:.1%}; are the classes, mean and std right?"
            )
        return Teacher(given.network, teachers.Card(**{**asdict(given.card), "accuracy": reached}))

    @cached_property
    def bank(self) -> Bank:
        """The statistics of the real images that the arms' terms need."""
        path = self.run.path / "bank"
        if not (path / "manifest.json").is_file():
            layers = {n for m in self.arms.values() for n in recover.tapped_layers(m.terms, self.teacher.network)}
            with self.run.stage("bank") as work:
                batches = (
                    (x.to(self.device), y.to(self.device))
                    for x, y in self.train.batches(BATCH, self._size, self.recipe.data.channels)
                )
                built = banks.build(self.teacher, batches, len(self.train.labels), sorted(layers))
                fingerprints = self.run.manifest["fingerprints"]
                banks.save(path, *built, self.train.classes, fingerprints["teacher"], fingerprints["train"])
                work.images = len(self.train.labels)
        bank = Bank(path)
        bank.require(self.run.manifest["fingerprints"]["teacher"], self.train.fingerprint)
        return bank

    def recover(self, arm: str) -> None:
        """Recover the arm's distilled images, unit by unit."""
        recipe, method = self.recipe, self.arms[arm]
        units = recover.unfinished(arm, method, recipe.recover, len(self.train.classes), recipe.ipc, self.run.path)
        if units:
            with self.run.stage(f"recover {arm}") as work:
                work.images = recover.recover(
                    arm, units, method, recipe.recover, self.teacher, self.bank, self._real_rows, self._shape,
                    self.run.path, recipe.seed,
                )  # fmt: skip

    def distilled(self, arm: str) -> tuple[Tensor, Tensor]:
        """uint8 images and labels of an arm, in class order."""
        channels = self.recipe.data.channels
        images, truth = recover.load_images(
            self.run.path / "images" / arm, self.train.classes, self.recipe.ipc, channels
        )
        return images.to(self.device), truth.to(self.device)

    def label(self, arm: str) -> Path:
        """The arm's stored soft labels."""
        path = self.run.path / "labels" / f"{arm}.safetensors"
        if not path.is_file():
            with self.run.stage(f"label {arm}") as work:
                images, _ = self.distilled(arm)
                labels.save_labels(path, labels.label(self.teacher, images, arm))
                work.images = len(images)
        return path

    def students(self, arm: str) -> list[dict[str, Any]]:
        """Train and test the arm's students, one a seed; returns what their files say."""
        config = self.recipe.student
        paths = [self.run.path / "students" / arm / f"seed_{seed}.json" for seed in range(config.seeds)]
        left = [(seed, path) for seed, path in enumerate(paths) if not path.is_file()]
        if left:
            images, _ = self.distilled(arm)
            logits = labels.load_labels(self.label(arm)).to(self.device) if config.labels == "stored" else None
            total = len(left) * config.steps * min(config.batch, len(images))
            with self.run.stage(f"students {arm}") as work, progress(f"students {arm}", total) as bar:
                for seed, path in left:
                    identity = derive(self.recipe.seed, "student", seed)
                    result = evaluate.train_student(config, self.teacher, images, logits, self.test, identity, bar)
                    write_json(path, {"seed": seed, **asdict(result)})
                work.images = total
        return [json.loads(path.read_text()) for path in paths]

    def embeddings(self) -> dict[str, Tensor]:
        """Teacher embeddings of the real training images and of every arm's images, float16."""
        path = self.run.path / "embeddings.safetensors"
        if not path.is_file():
            real = torch.cat([self.bank.embeddings(c) for c in range(len(self.bank.classes))])
            arms = {arm: evaluate.embed(self.teacher, self.distilled(arm)[0]).half() for arm in self.arms}
            write_tensors(path, {"real": real.half(), "real_labels": self.train.labels, **arms})
        return load_file(path)

    def metrics(self) -> dict[str, Any]:
        """metrics.json: everything measured, and under which protocol."""
        path = self.run.path / "metrics.json"
        if not path.is_file():
            write_json(path, self._measure())
        return json.loads(path.read_text())

    def _measure(self) -> dict[str, Any]:
        recipe, card = self.recipe, self.teacher.card
        students = {arm: self.students(arm) for arm in self.arms}
        embeddings = self.embeddings()
        truth = torch.arange(len(card.classes)).repeat_interleave(recipe.ipc)
        arms = {}
        with self.run.stage("metrics") as work:
            real = embeddings["real"].float()
            radii = knn_radii(real, recipe.metrics.k)
            for arm, method in self.arms.items():
                diversity = evaluate.diversity(real, radii, embeddings[arm].float(), truth, recipe.metrics.k)
                accuracies = {key: [student[key] for student in students[arm]] for key in ("last", "best")}
                curves = [student["curve"] for student in students[arm]]
                arms[arm] = {"title": method.title, **accuracies, "curves": curves, **asdict(diversity)}
            work.images = len(real)
        student = recipe.student
        protocol = {
            "text": evaluate.protocol_text(student),
            "hash": evaluate.protocol_hash(student),
            "seeds": student.seeds,
        }
        return {
            "recipe": recipe.name, "description": recipe.description, "classes": list(card.classes), "ipc": recipe.ipc,
            "seed": recipe.seed,
            "data": {"root": recipe.data.root, "train": len(self.train.labels), "test": len(self.test_set.labels)},
            "teacher": {"network": card.network, "accuracy": card.accuracy},
            "protocol": protocol, "k": recipe.metrics.k, "arms": arms,
        }  # fmt: skip

    def through(self, last: str) -> None:
        """Do every stage up to and including ``last``."""
        wanted = STAGES[: STAGES.index(last) + 1]
        _ = self.teacher
        if "bank" in wanted:
            _ = self.bank
        if "recover" in wanted:
            for arm in self.arms:
                self.recover(arm)
        if "label" in wanted:
            for arm in self.arms:
                self.label(arm)
        if "evaluate" in wanted:
            for arm in self.arms:
                self.students(arm)
            self.metrics()
        if "report" in wanted:
            from .report import report

            with self.run.stage("report"):
                report(self.run.path)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used here ({error}); use device=auto or device=cpu") from error
    return device


def run(recipe: Recipe, out: Path, fresh: bool = False, until: str = "report") -> RunResult:
    """Run a recipe into a folder; see fastdd.run."""
    if until not in STAGES:
        raise InputError(f"until must be one of {', '.join(STAGES)}, got {until!r}")
    pipeline = Pipeline(recipe, out, fresh)
    pipeline.through(until)
    finished = STAGES.index(until) >= STAGES.index("evaluate")
    return RunResult(out, pipeline.metrics() if finished else {}, pipeline.run.manifest)
