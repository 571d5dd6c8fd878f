"""The stages in order: real images -> teacher -> bank -> recover -> labels -> students -> report.

Each stage asks the run folder what is missing and does only that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fastdd_kernels import knn_radii

from . import bank as banks
from . import evaluate, labels, recover, teachers
from .bank import Bank, RealImages
from .data import (
    Crop,
    Dataset,
    Loader,
    open_dataset,
    open_loader,
    real_sample,
    resident,
    scan,
    summary,
)
from .data.tree import Split
from .distributed import barrier, is_main
from .errors import InputError
from .files import write_json, write_tensors
from .precision import settled
from .progress import progress
from .recipe import CONTROL, RANDOM_REAL, Recipe
from .runfolder import RunFolder, Work, open_run
from .seeds import derive, seed_everything
from .teachers import Card, Teacher

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
        self.device = _device(recipe.device)
        self.recipe = recipe = settled(recipe, self.device)
        self.arms = {CONTROL: RANDOM_REAL, **recipe.arms}
        self.skipped: dict[str, list[str]] = {}
        self.train, self.test_set = self._open("train"), self._open("test")
        self.real = real_sample(self.train, recipe.ipc, derive(recipe.seed, "real"))
        if recipe.teacher.weights is not None:
            self._load_teacher(Path(recipe.teacher.weights))
        self._check_networks()
        if recipe.teacher.init is not None and (fresh or not (out / "teacher.safetensors").is_file()):
            teachers.start(recipe.teacher, self._expected_card, recipe.seed)
        for key in ("weights", "init"):
            path = getattr(recipe.teacher, key)
            if fresh and path is not None and out.resolve() in Path(path).resolve().parents:
                raise InputError(f"teacher.{key} {path} lies in {out}, which --fresh would delete; move it")
        self.run: RunFolder = open_run(out, recipe, fresh, shared)
        self.run.check_fingerprint("train", self.train.fingerprint)
        self.run.check_fingerprint("test", self.test_set.fingerprint)
        if is_main() and not (out / "data.json").is_file():
            write_json(out / "data.json", [summary(self.train), summary(self.test_set)])
        if self.skipped:
            self.run.manifest["skipped"] = self.skipped
            self.run.write_manifest()

    def _check_networks(self) -> None:
        """Refuse now, and not after hours, what the teacher or the student could not do."""
        classes = len(self.train.classes)
        teacher = teachers.outline("teacher.network", self.recipe.teacher.network, classes, self._shape)
        for arm, method in self.arms.items():
            recover.tapped_layers(method.terms, teacher)
            self._stored(arm)
        teachers.outline("student.network", self.recipe.student.network, classes, self._shape)
        if self.recipe.metrics.k >= len(self.train):
            raise InputError(
                f"metrics.k is {self.recipe.metrics.k}, expected less than the {len(self.train)} real images"
            )

    # -- real images ---------------------------------------------------------------------------

    def _open(self, split: Split) -> Dataset:
        """A split, without the images that a scan finds unreadable where those are to be skipped."""
        data = self.recipe.data
        dataset = open_dataset(data.root, split, data.fingerprint)
        bad = dict(scan(dataset)) if data.on_error == "skip" else {}
        if bad:
            self.skipped[split] = list(bad.values())
        return dataset.without(bad) if bad else dataset

    def _images(self, dataset: Dataset, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """uint8 images and labels, on the device."""
        data = self.recipe.data
        held = resident(
            dataset, self._size, data.channels, resize=data.resize, indices=indices, device=self.device,
            backend=data.backend,
        )  # fmt: skip
        return held.images, held.labels

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
        loader = open_loader(self.train, 1, self._size, self.recipe.data.channels, indices=[0], backend="torchvision")
        channels, height, width = loader.shape
        return channels, height, width

    def _real_rows(self, rows: Rows) -> Tensor:
        return self.real_images[[c * self.recipe.ipc + slot for c, slot in rows]]

    # -- stages --------------------------------------------------------------------------------

    @cached_property
    def _expected_card(self) -> Card:
        """What this run expects of its teacher."""
        config, (C, H, W) = self.recipe.teacher, self._shape
        return Card(config.network, self.train.classes, C, config.mean, config.std, size=(H, W))

    def _load_teacher(self, path: Path) -> Teacher:
        config, data = self.recipe.teacher, self.recipe.data
        return teachers.load_teacher(path, config, self.train.classes, data.channels, self.device)

    @cached_property
    def teacher(self) -> Teacher:
        """Squeeze: the given teacher, or one trained here; its weights are kept in the run folder."""
        path = self.run.path / "teacher.safetensors"
        if is_main() and not path.is_file():
            with self.run.stage("squeeze") as work:
                if self.recipe.teacher.weights is None:
                    self._squeeze(work)
                else:
                    self._take(Path(self.recipe.teacher.weights), work)
        barrier()
        if is_main():
            (self.run.path / "squeeze.safetensors").unlink(missing_ok=True)
        self.run.check_fingerprint("teacher", teachers.fingerprint(path))
        return self._load_teacher(path)

    def _squeeze(self, work: Work) -> None:
        """Train the teacher, or what is left of it."""
        config, data, seed = self.recipe.teacher, self.recipe.data, derive(self.recipe.seed, "squeeze")
        if config.init is not None:
            self.run.check_fingerprint("init", teachers.fingerprint(Path(config.init)))
        crop = None if config.scale is None else Crop(config.scale, flip=config.flip)
        train = teachers.open_passes(self.train, data, config.batch, self.device, seed, crop)
        test = teachers.open_passes(self.test_set, data, teachers.EVALUATION_BATCH, self.device)
        squeezed = teachers.squeeze(
            config, self.train.classes, train, test, seed, self.device, self.train.fingerprint,
            self.run.path / "squeeze.safetensors",
        )  # fmt: skip
        work.images = squeezed.images
        teachers.keep(self.run.path, squeezed, config.minimum_accuracy)

    def _take(self, path: Path, work: Work) -> None:
        """Keep a given teacher, with its accuracy here."""
        given = self._load_teacher(path)
        for text in teachers.differences(given.card, self._expected_card, ("size",)):
            print(f"squeeze: {path} was {text}; its accuracy may suffer", file=sys.stderr)
        work.images = len(self.test[0])
        reached, least = (
            teachers.accuracy(given.network, given.normalise, *self.test),
            self.recipe.teacher.minimum_accuracy,
        )
        if reached < least:
            raise InputError(
                f"teacher.weights: {path} has {reached:.1%} test accuracy here, expected at least "
                f"teacher.minimum_accuracy = {least:.1%}; are the classes, mean and std right?"
            )
        card = replace(given.card, accuracy=reached, size=given.card.size or self._expected_card.size)
        teachers.save_teacher(self.run.path / "teacher.safetensors", Teacher(given.network, card))

    def build_bank(self, classes: range | None = None) -> bool:
        """Build what the bank lacks, or only some classes of it; returns whether it is whole."""
        path, config = self.run.path / "bank", self.recipe.bank
        if banks.is_whole(path):
            return True
        network = self.teacher.network
        terms = [method.terms for method in self.arms.values()]
        if config.class_bn == "none" and any(each.bn and each.bn.target == "class" for each in terms):
            config = config.model_copy(update={"class_bn": "true"})
        if sides := {each.conv.patch for each in terms if each.conv}:  # one for all, or the recipe is refused
            config = config.model_copy(update={"patch": sides.pop()})
        layers = {name for each in terms for name in recover.banked_layers(each, network)}
        layers |= {name for kind in config.layers for name in teachers.layer_names(network, kind)}
        with self.run.stage("bank") as work:
            fingerprint = self.run.manifest["fingerprints"]["teacher"]
            work.images = sum(self.train.counts[c] for c in classes or range(len(self.train.classes)))
            seed = derive(self.recipe.seed, "bank")
            return banks.build(path, self.teacher, fingerprint, self._real_stream(), config, layers, seed, classes)

    def _real_stream(self) -> RealImages:
        """The training images as the bank reads them: in class order, any part of them."""
        data, train = self.recipe.data, self.train

        def loader(positions: range) -> Loader:
            return open_loader(
                train, self.recipe.bank.batch, self._size, data.channels, resize=data.resize, indices=positions,
                on_error=data.on_error, backend=data.backend, device=self.device,
            )  # fmt: skip

        transform = {"size": list(self._shape[1:]), "resize": data.resize, "backend": loader(range(0)).backend}
        return RealImages(self._shape, train.labels, train.names, train.fingerprint, transform, loader)

    @cached_property
    def bank(self) -> Bank:
        """The statistics of the real images that the arms' terms need."""
        self.build_bank()
        bank = Bank(self.run.path / "bank")
        bank.require(self.run.manifest["fingerprints"]["teacher"], self.train.fingerprint)
        return bank

    def recover(self, arm: str, units: range | None = None) -> None:
        """Recover what the run folder lacks of the arm's distilled images, or of some of its units."""
        recipe, classes = self.recipe, self.train.classes
        rows = self._initial_rows(arm)
        recovery = recover.Recovery(
            self.arms[arm], recipe.recover, [self.teacher], [self.bank], rows, self._shape, recipe.seed
        )
        left = recover.unfinished(arm, recovery, len(classes), recipe.ipc, self.run.path, units)
        if left:
            with self.run.stage(f"recover {arm}") as work:
                work.images = recover.recover(arm, left, recovery, classes, self.run.path)

    def _initial_rows(self, arm: str) -> Callable[[Rows], Tensor]:
        """What images of the arm start from, where that is not noise."""
        recipe, method = self.recipe, self.arms[arm]
        slots = recover.real_slots(method, recipe.ipc, len(self.train.classes), teachers=1)
        rows_of: Callable[[Rows], Tensor] = self._real_rows
        if method.init not in ("noise", "real"):
            rows_of = recover.Chosen(
                method, slots, self.train.names, recover.decoder(self.train, recipe.data, self.device), self.teacher,
                self.bank, self._shape[1:], recipe.seed, self.run.path / "recover" / arm / "initial",
            )  # fmt: skip
        return rows_of if method.offset is None else recover.repeated(rows_of, slots)

    def _stored(self, arm: str) -> int:
        """Images a class that the arm stores: ipc, but for methods that count otherwise."""
        return recover.stored_slots(self.arms[arm], self.recipe.ipc, len(self.train.classes), teachers=1)

    def distilled(self, arm: str) -> tuple[Tensor, Tensor]:
        """uint8 images and labels of an arm, in class order."""
        channels = self.recipe.data.channels
        images, truth = recover.load_images(
            self.run.path / "images" / arm, self.train.classes, self._stored(arm), channels, self.arms[arm].save
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
        arms = {}
        with self.run.stage("metrics") as work:
            real = embeddings["real"].float()
            radii = knn_radii(real, recipe.metrics.k)
            for arm, method in self.arms.items():
                stored = self._stored(arm)
                truth = torch.arange(len(card.classes)).repeat_interleave(stored)
                diversity = evaluate.diversity(real, radii, embeddings[arm].float(), truth, recipe.metrics.k)
                accuracies = {key: [student[key] for student in students[arm]] for key in ("last", "best")}
                curves = [student["curve"] for student in students[arm]]
                arms[arm] = {
                    "title": method.title, "stored": stored, **accuracies, "curves": curves, **asdict(diversity),
                }  # fmt: skip
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

    def through(self, last: str, part: range | None = None) -> None:
        """Do every stage up to and including ``last``; of that only classes (bank) or units (recover) if given."""
        wanted = STAGES[: STAGES.index(last) + 1]
        _ = self.teacher
        if "bank" in wanted and not self.build_bank(part if last == "bank" else None):
            return
        if "recover" in wanted:
            for arm in self.arms:
                self.recover(arm, part if last == "recover" else None)
        if not is_main():  # later stages are the work of one process
            return
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


def run(recipe: Recipe, out: Path, fresh: bool = False, until: str = "report", part: range | None = None) -> RunResult:
    """Run a recipe into a folder; see fastdd.run."""
    if until not in STAGES:
        raise InputError(f"until must be one of {', '.join(STAGES)}, got {until!r}")
    if part is not None and until not in ("bank", "recover"):
        raise InputError(f"a part is one of the bank's classes or recover's units; until is {until!r}")
    pipeline = Pipeline(recipe, out, fresh, shared=part is not None)
    number = len(pipeline.train.classes)
    if until == "bank" and part is not None and not 0 <= part.start < part.stop <= number:
        raise InputError(f"classes {part.start}:{part.stop} are not within the {number} classes 0:{number}")
    pipeline.through(until, part)
    finished = is_main() and STAGES.index(until) >= STAGES.index("evaluate")
    return RunResult(out, pipeline.metrics() if finished else {}, pipeline.run.manifest)
