"""Judge a distilled set on its own: students of any networks under one protocol, with the controls beside it.

The set may be a run's, of which the folder knows teacher, data, seed and protocol, or anybody's; then teacher and data
are given. The control is as many random real images of each class, with the same labels and protocol; the reference is
the whole real training set, for as many steps (full_set.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from .. import evaluate, teachers
from ..config import CONTROL, FULL, Data, Recipe, Student, Teacher
from ..data.real_data import RealData
from ..distilled import DistilledSet, open_set
from ..distilled.runs import run_of
from ..errors import InputError
from ..labels import images_fingerprint
from ..models.build import outline
from ..models.student_names import students
from ..protocols import settle_student
from ..recipes.resolve import resolve_student
from ..runtime.precision import has_fast_bf16
from ..runtime.seeds import seed_everything
from ..teachers.card import check_card
from .full_set import FullSet
from .results_file import Arm, Table


@dataclass(frozen=True)
class Question:
    """What is asked of a set.

    Attributes:
        path: of the set: a run's folder, or a folder of class folders.
        students: names of models/student_names.py; empty: the protocol's network.
        protocol: name of a preset; None: the run's protocol, or the house's.
        overrides: ``key=value`` of the protocol.
        teacher: weights with a card; None: the run's.
        data: root of the real images; None: the run's.
        resize: shorter side in pixels of the real images before their center is cut out; None: as the run has it.
        arm: of a run with several.
        seeds: students a network; None: the protocol's number.
        seed: of the controls and students; None: the run's, or 0.
        control: also random real images.
        full: also the whole real training set, for as many steps; auto: where its images fit into memory.
        json: where to write; None: beside the set.
    """

    path: Path
    students: Sequence[str] = ()
    protocol: str | None = None
    overrides: Sequence[str] = ()
    teacher: Path | None = None
    data: str | None = None
    resize: int | None = None
    arm: str | None = None
    seeds: int | None = None
    seed: int | None = None
    control: bool = True
    full: bool | Literal["auto"] = "auto"
    json: Path | None = None


class Judgement:
    """A question with what it needs, all of it checked before the first student is trained.

    Args:
        question: what is asked.
        device: to train on.

    Attributes:
        teacher: who labels.
        configs: the protocol with each student's network.
        arms: the set, and the controls.
        full: the whole real training set.
        full_left_out: why it is no control here; None where it is.
        table: the file of accuracies.

    Raises:
        InputError: something is missing or does not fit; one message says what, and what to do.
    """

    def __init__(self, question: Question, device: torch.device) -> None:
        self.question, self.device = question, device
        belongs = run_of(question.path)
        self.run = belongs[0] if belongs else None
        self.teacher_path = self._teacher_path()
        self.teacher = teachers.open_teacher(self.teacher_path, device)
        card = self.teacher.card
        self.set = self._open_set()
        self.seed = question.seed if question.seed is not None else self.known.get("seed", 0)
        seed_everything(self.seed)
        self.images = self.set.images.to(device)
        self.configs = _protocols(question, self.known.get("student"), device, self.images.shape[2])
        self.truth = self.set.classes_of(card.classes).to(device)
        for config in self.configs:
            channels, height, width = self.images.shape[1:]
            outline("--student", config.network, len(card.classes), (channels, height, width))
            settle_student(config, len(self.images), len(card.classes))
        self.real = self._real()
        self.full = FullSet(
            self.real,
            settle_student(self.configs[0], len(self.images), len(card.classes)),
            len(self.images),
            self.seed,
        )
        self.full_left_out = self.full.left_out(question.full)
        self.table = Table(question.json or self._beside(), self._identity())

    @property
    def known(self) -> dict[str, Any]:
        """The recipe of the run that the set belongs to; empty for others."""
        return dict(self.set.source["recipe"]) if self.set.source is not None else {}

    def _teacher_path(self) -> Path:
        if self.question.teacher is not None:
            return self.question.teacher
        if self.run is None:
            raise InputError(
                f"{self.question.path} is no run, so it has no teacher; give one with --teacher FILE.safetensors"
            )
        return self.run / "teacher.safetensors"

    def _open_set(self) -> DistilledSet:
        channels = 3 if self.teacher.card.channels == 3 else 1
        found = open_set(self.question.path, self.question.arm, channels=channels)
        if len(found.classes) > len(self.teacher.card.classes):
            raise InputError(
                f"{self.question.path} has {len(found.classes)} classes, but the teacher knows "
                f"{len(self.teacher.card.classes)}; use a teacher of these classes"
            )
        return found

    def _real(self) -> RealData:
        question, card = self.question, self.teacher.card
        data = Data.model_validate(self.known.get("data", {}))
        if question.data is None and not self.known:
            raise InputError(
                f"{question.path} is no run, so its real images are unknown; give them with --data ROOT"
            )
        changes: dict[str, Any] = {"channels": card.channels}
        if question.data is not None:
            changes["root"] = question.data
        if not self.known:
            changes["size"] = self.images.shape[2]
        if question.resize is not None:
            changes["resize"] = question.resize
        whole = Recipe(
            name="judgement",
            ipc=int(self.truth.bincount().max()) // self.set.images_per_file,
            seed=self.seed,
            data=data.model_copy(update=changes),
            teacher=Teacher(mean=card.mean, std=card.std),
            arms={},
        )
        real = RealData(whole, self.device)
        expected = teachers.Card(card.network, real.classes, real.shape[0], card.mean, card.std)
        check_card("--teacher", self.teacher_path, card, expected, ("classes", "channels"))
        if real.shape != tuple(self.images.shape[1:]):
            theirs, ours = (" x ".join(map(str, shape)) for shape in (real.shape, self.images.shape[1:]))
            raise InputError(
                f"the distilled images are {ours} and the real ones {theirs}; give --data the same images, at the "
                "same size"
            )
        return real

    def _beside(self) -> Path:
        """evaluation-HASH.json in the set's folder, or of a run in the run's."""
        config = self.configs[0].model_copy(update={"network": ""})
        content = json.dumps([self._identity(), evaluate.protocol_hash(config)], sort_keys=True)
        name = f"evaluation-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"
        return (self.run or self.question.path) / name

    def _identity(self) -> dict[str, Any]:
        return {
            "set": images_fingerprint(self.images),
            "teacher": teachers.fingerprint(self.teacher_path),
            "train": self.real.train.fingerprint,
            "test": self.real.test_set.fingerprint,
            "seed": self.seed,
        }

    @cached_property
    def arms(self) -> list[Arm]:
        """The set and the controls, in the order of the table."""
        arms = [Arm(self._name(), self.images, self.truth)]
        if self.question.control and arms[0].name != CONTROL:
            arms.append(self._control())
        if self.full_left_out is None:
            arms.append(Arm(FULL, *self.full.images, len(self.images)))
        return arms

    def _name(self) -> str:
        """Of the set in the table: its arm in the run, or its folder's name where that is not the whole real set's."""
        if self.set.source is not None:
            return str(self.set.source["arm"])
        return self.question.path.name if self.question.path.name != FULL else "set"

    def _control(self) -> Arm:
        """As many random real images of each class as the set stores."""
        counts = (
            self.truth.bincount(minlength=len(self.teacher.card.classes)) // self.set.images_per_file
        ).tolist()
        most = max(counts)
        rows = torch.tensor([c * most + slot for c, count in enumerate(counts) for slot in range(count)])
        classes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return Arm(CONTROL, self.real.chosen_images[rows.to(self.device)], classes.to(self.device))

    def answer(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        """Accuracies network -> arm -> ``last`` and ``best``, one number a seed; trains what the file lacks."""
        classes = len(self.teacher.card.classes)
        self.table.fill(self.arms, self.configs, self.teacher, self.real.test, self.seed)
        return {
            config.network: {arm.name: self.table.accuracies(arm, config, classes) for arm in self.arms}
            for config in self.configs
        }


def _protocols(
    question: Question, run: dict[str, Any] | None, device: torch.device, side: int
) -> list[Student]:
    """The protocol with each student's network."""
    seeds = [] if question.seeds is None else [f"seeds={question.seeds}"]
    config = resolve_student(run or {}, question.protocol, [*question.overrides, *seeds])
    if config.precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
        config = config.model_copy(update={"precision": precision})
    networks = students(question.students, side) or [config.network]
    return [config.model_copy(update={"network": network}) for network in networks]
