"""Evaluate a distilled set on its own: students of any networks under one protocol, with controls beside it.

The set may be a run's, whose folder tells teacher, data, seed and protocol, or anybody's; then teacher and
data are given. The control is as many random real images of each class, with the same labels and protocol.
The reference is the whole real training set, for as many steps (full_set.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .. import teachers
from ..config import CONTROL, FULL, Data, Recipe, Student
from ..config import Teacher as TeacherConfig
from ..config.student import Regime, in_regime
from ..data.open import check_recorded_root
from ..data.real_data import RealData
from ..distilled import DistilledSet, open_set, require_folder, set_name
from ..distilled.runs import learned_lr, run_of
from ..errors import InputError, refusals_explained
from ..labels import images_fingerprint
from ..models.doors import check_recorded_network
from ..models.outline import network_for, outline
from ..models.registry import students
from ..protocols import settle_student
from ..recipes.students import named_network, network_key, resolve_student
from ..run_folder import RunFolder
from ..run_folder.comparison import EvaluatedOn
from ..runtime.console import counted
from ..runtime.precision import on_device
from ..runtime.seeds import seeded
from ..teachers.card import check_card
from .full_set import FullSet
from .protocol_text import protocol_hash
from .results_file import Accuracies, Identity, ResultsFile, TrainingSet, open_results


@dataclass(frozen=True)
class EvaluationRequest:
    """Which set is evaluated, and how.

    Attributes:
        path: the set: a run's folder, or a folder of class folders.
        students: names of networks (models/registry.py); empty: the protocol's network.
        regimes: regimes in which students of each network are trained (config/student.py); empty: that of
            the protocol alone.
        protocol: name of the run's further students, whose protocol it is then, or of a preset; None: the
            protocol of the run's section ``student``, or the house's.
        overrides: ``key=value`` texts of the protocol.
        teacher: weights with a card; None: the run's.
        teacher_network: the teacher's network, where its card names a function; None: the card's.
        data: root of the real images; None: the run's.
        resize: shorter side in pixels of the real images before their center is cut out; None: the run's.
        arm: which arm of a run with several; None: the only one.
        seeds: students a network; None: the protocol's number.
        seed: seed of the control and the students; None: the run's, or 0.
        control: whether random real images are evaluated too.
        full: whether the whole real training set is, for as many steps; auto: where its images fit into
            memory.
        on: split that students are tested on; None: the one that the run's ``data.evaluate`` names, which is
            the test split where the run has no validation split.
        json: the results' file; None: evaluation-HASH.json beside the set.
    """

    path: Path
    students: Sequence[str] = ()
    regimes: Sequence[Regime] = ()
    protocol: str | None = None
    overrides: Sequence[str] = ()
    teacher: Path | None = None
    teacher_network: str | None = None
    data: str | None = None
    resize: int | None = None
    arm: str | None = None
    seeds: int | None = None
    seed: int | None = None
    control: bool = True
    full: bool | Literal["auto"] = "auto"
    on: EvaluatedOn | None = None
    json: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """Everything that the evaluation of a set needs.

    Attributes:
        images: its images, uint8 [N, C, H, W], on the device where students are trained.
        classes: their classes, int64 [N], in the teacher's order, on the same device.
        teacher: the network that labels.
        configs: the protocol, once with each student's network in each regime.
        full_left_out: why the whole real training set is not evaluated; None: it is.
    """

    request: EvaluationRequest
    set: DistilledSet
    images: Tensor
    classes: Tensor
    teacher: teachers.Teacher
    configs: list[Student]
    real: RealData
    seed: int
    full: FullSet
    full_left_out: str | None
    results: ResultsFile

    @property
    def name(self) -> str:
        """Column name of the set: the run's arm, else the set's name ("set" if that is one of the others)."""
        if self.set.source is not None:
            return self.set.source.arm
        name = set_name(self.request.path)
        return name if name not in (FULL, CONTROL) else "set"

    @cached_property
    def sets(self) -> list[TrainingSet]:
        """The set, the control and the whole training set, in the order of the table."""
        source = self.set.source
        rate = None if source is None else learned_lr(source.folder, source.arm)
        storage, number = self.set.storage.on(self.images.device), len(self.images)
        own = (self.images, self.classes)
        sets = [TrainingSet(self.name, number, lambda: own, learned_lr=rate, storage=storage)]
        if self.request.control and self.name != CONTROL:
            sets.append(self._control())
        if self.full_left_out is None:
            full, shown = self.full, self.full.config.images
            sets.append(TrainingSet(FULL, len(full.chosen), lambda: full.images, epoch_images=shown))
        return sets

    def _control(self) -> TrainingSet:
        """As many random real images of each class as the set has files."""
        images_of_class = self.classes.bincount(minlength=len(self.teacher.card.classes))
        counts = (images_of_class // self.set.storage.per_file).tolist()
        most = max(counts)  # real.chosen has this many of each class
        rows = torch.cat([c * most + torch.arange(count) for c, count in enumerate(counts)])
        real, chosen = self.real, self.real.chosen[rows]
        return TrainingSet(CONTROL, len(rows), lambda: real.images(real.train, chosen))

    def run(self) -> list[dict[str, Accuracies]]:
        """Train the students that the file lacks; the accuracies by set, for each of ``configs``."""
        classes = len(self.teacher.card.classes)
        with seeded(self.seed):
            self.results.train_missing(
                self.sets, self.configs, self.teacher, test=self.real.evaluation, seed=self.seed
            )
        return [
            {each.name: self.results.accuracies(each, config, classes) for each in self.sets}
            for config in self.configs
        ]


@refusals_explained()
def open_evaluation(
    request: EvaluationRequest, device: torch.device, *, is_choice: bool = False
) -> Evaluation:
    """Open everything that an evaluation needs, and check it before the first student is trained.

    Args:
        device: where students are trained.
        is_choice: what is measured helps to choose, so that it is of the validation images, where the run has
            some and the request names no split.

    Raises:
        InputError: something is missing or does not fit; the message says what, and what to do.
    """
    require_folder(request.path)
    belongs = run_of(request.path)
    run = belongs[0] if belongs else None
    teacher_path = _teacher_path(request, run)
    with seeded(0):  # its network is built with random weights, before it gets its own
        teacher = teachers.open_teacher(teacher_path, device, request.teacher_network)
    distilled = _open_set(request, teacher.card)
    recipe = distilled.source.recipe if distilled.source is not None else None
    seed = request.seed if request.seed is not None else recipe.seed if recipe is not None else 0
    with seeded(seed):  # for libraries that draw from the global generators
        number, (channels, height, width) = len(teacher.card.classes), distilled.images.shape[1:]
        shape = (channels, height, width)
        configs = _protocols(request, recipe, device, number, shape=shape)
        classes = distilled.classes_of(teacher.card.classes)
        key = network_key(request.students, request.overrides)
        for config in configs:
            outline(key, config.network, number, shape, others=("convnet", "resnet20"))
            settle_student(config, len(distilled), number, per_file=distilled.storage.per_file)
        ipc = int(classes.bincount().max()) // distilled.storage.per_file
        real_recipe = _real_recipe(request, recipe, distilled, teacher.card, ipc=ipc, seed=seed)
        if is_choice and request.on is None:
            data = real_recipe.data.model_copy(update={"evaluate": "validation"})
            real_recipe = real_recipe.model_copy(update={"data": data})
        real = RealData(real_recipe, device)
        if distilled.source is not None and request.data is None:
            for split in real.splits:
                distilled.source.require_unchanged(split.split, split.fingerprint, "--data")
        _check_real(real, distilled, teacher.card, teacher_path)
        settled = settle_student(configs[0], len(distilled), number, per_file=distilled.storage.per_file)
        full = FullSet(real, settled, seed)
        identity: Identity = {
            "set": images_fingerprint(distilled.images),
            "teacher": teachers.fingerprint(teacher_path),
            "train": real.train.fingerprint,
            "test": real.evaluation_set.fingerprint,
            "seed": seed,
        }
        if real.evaluated_on == "validation":
            identity["evaluated_on"] = "validation"
        return Evaluation(
            request=request,
            set=distilled,
            images=distilled.images.to(device),
            classes=classes.to(device),
            teacher=teacher,
            configs=configs,
            real=real,
            seed=seed,
            full=full,
            full_left_out=full.left_out(request.full),
            results=open_results(
                request.json or _results_path(run.path if run else request.path, identity, configs[0]),
                identity,
            ),
        )


def _teacher_path(request: EvaluationRequest, run: RunFolder | None) -> Path:
    if request.teacher is not None:
        return request.teacher
    if run is None:
        raise InputError(
            f"{request.path} is no run, so it has no teacher; give one with --teacher FILE.safetensors"
        )
    return run.teacher()


def _open_set(request: EvaluationRequest, card: teachers.Card) -> DistilledSet:
    found = open_set(request.path, request.arm, channels=3 if card.channels == 3 else 1)
    if len(found.classes) > len(card.classes):
        raise InputError(
            f"{request.path} has {counted(len(found.classes), 'class')}, but the teacher knows "
            f"{len(card.classes)}; "
            "use a teacher of these classes"
        )
    return found


def _protocols(
    request: EvaluationRequest,
    recipe: Recipe | None,
    device: torch.device,
    classes: int,
    *,
    shape: tuple[int, int, int],
) -> list[Student]:
    """The protocol with each student's network in each regime; ``recipe`` is the run's, None for a set of no
    run."""
    seeds = [] if request.seeds is None else [f"seeds={request.seeds}"]
    further = recipe.students.get(request.protocol or "") if recipe is not None else None
    own = further or (recipe.student if recipe is not None else None)
    run = {} if own is None else own.model_dump(mode="json")
    config = resolve_student(run, None if further else request.protocol, [*request.overrides, *seeds])
    if config.keep:
        raise InputError(
            "keep=true: fastdd evaluate keeps no students; make a run of the set, for example with `fastdd "
            "judge SET keep=true`, and take them from there with `fastdd students export`"
        )
    precision = on_device("student.precision", config.precision, device)
    if precision != config.precision:
        config = config.model_copy(update={"precision": precision})
    is_named = named_network(request.overrides)
    if not (request.students or is_named) and config.network == run.get("network"):
        check_recorded_network(config.network, f"the recipe of {request.path}", "--student")
    names = students(request.students, shape[1]) or [config.network]
    key = network_key(request.students, request.overrides)
    networks = [network_for(key, name, classes, shape) for name in names]
    found = [config.model_copy(update={"network": network}) for network in networks]
    if not request.regimes:
        return found
    return [in_regime(each, regime) for each, regime in product(found, request.regimes)]


def _real_recipe(
    request: EvaluationRequest,
    run: Recipe | None,
    distilled: DistilledSet,
    card: teachers.Card,
    *,
    ipc: int,
    seed: int,
) -> Recipe:
    """A recipe whose data are the real images: those of the request, else those of the run's recipe."""
    if request.data is None and run is None:
        raise InputError(
            f"{request.path} is no run, so its real images are unknown; give them with --data ROOT"
        )
    data = Data() if run is None else run.data
    changes: dict[str, object] = {"channels": card.channels}
    if request.data is not None:
        changes["root"] = request.data
    else:
        check_recorded_root(data.root, "--data")
    if run is None:
        changes["size"] = distilled.images.shape[2]
    if request.resize is not None:
        changes["resize"] = request.resize
    if request.on == "validation" and data.validation is None:
        raise InputError(
            f"--on validation: {request.path} has no validation images, since "
            + ("it is no run; leave it out" if run is None else "data.validation of its recipe is null")
        )
    if request.on is not None:
        changes["evaluate"] = request.on
    return Recipe(
        name="evaluation",
        ipc=ipc,
        seed=seed,
        data=data.model_copy(update=changes),
        teacher=TeacherConfig(mean=card.mean, std=card.std),
        arms={},
    )


def _check_real(real: RealData, distilled: DistilledSet, card: teachers.Card, teacher_path: Path) -> None:
    """Refuse real images that the teacher does not know, or of another size than the distilled ones."""
    expected = replace(card, classes=real.classes, channels=real.shape[0])
    check_card("--teacher", teacher_path, card, expected, fields=("classes", "channels"))
    if real.shape != tuple(distilled.images.shape[1:]):
        theirs, ours = (" x ".join(map(str, shape)) for shape in (real.shape, distilled.images.shape[1:]))
        raise InputError(
            f"the distilled images are {ours} and the real ones {theirs}; give --data the same images, at "
            "the same size"
        )


def _results_path(folder: Path, identity: Identity, config: Student) -> Path:
    """evaluation-HASH.json in a folder; the hash is of what is evaluated, under which protocol."""
    digest = protocol_hash(config.model_copy(update={"network": ""}))
    content = json.dumps([identity, digest], sort_keys=True)
    return folder / f"evaluation-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"
