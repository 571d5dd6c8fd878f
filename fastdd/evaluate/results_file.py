"""The file of an evaluation: students of several networks on several sets, each kept as soon as it is tested.

Work that was killed continues: a student that the file has, by set, network, protocol and seed, is not
trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, cast

from pydantic import ConfigDict, JsonValue, with_config
from torch import Tensor
from typing_extensions import TypedDict

from ..config import Student
from ..distilled.images import ONE_A_FILE, Storage
from ..errors import InputError
from ..labels import label_images
from ..models.build import network_builder
from ..protocols import SettledStudent, settle_student
from ..run_folder import read
from ..runtime.files import write_json
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers import Teacher
from ..teachers.checkpoint import training_identity
from .learner import StudentCheckpoint
from .protocol_text import ProtocolRecord, protocol_hash, protocol_record
from .student import train_student


@with_config(ConfigDict(extra="forbid"))
class Identity(TypedDict):
    """What accuracies are of: fingerprints of the set, the teacher and the real splits, and the seed.

    ``test`` is the split that students are tested on; ``evaluated_on`` is there where it is the validation
    images.
    """

    set: str
    teacher: str
    train: str
    test: str
    seed: int
    evaluated_on: NotRequired[str]


class StudentEntry(TypedDict):
    """A student in the file: what it learned from, and its accuracies (TrainedStudent).

    One that diverged has no accuracies, and says how in ``diverged``, which others lack.
    """

    arm: str
    network: str
    protocol: str
    seed: int
    last: float | None
    best: float | None
    curve: list[tuple[int, float]]
    diverged: NotRequired[str]


@with_config(ConfigDict(extra="forbid"))
class Content(TypedDict):
    """The content of the file; ``protocols`` are by hash."""

    of: Identity
    protocols: dict[str, ProtocolRecord]
    students: list[StudentEntry]


class Accuracies(TypedDict):
    """Test accuracies of students of one set, fractions, one a seed; None: it diverged.

    Attributes:
        diverged: how, such as ``deda, resnet18, seed 0 diverged at step 3: its loss is nan``.
    """

    last: list[float | None]
    best: list[float | None]
    diverged: list[str]


@dataclass(frozen=True)
class TrainingSet:
    """Images that students learn: the distilled set, the control or the whole training set.

    Attributes:
        name: column name in the table, and ``arm`` in the file.
        count: number of its images, N.
        read: gives the images, uint8 [N, C, H, W], and their classes, int64 [N], in the teacher's order, on
            the device to train on. They are in memory only while students learn them.
        epoch_images: number of images an epoch, for the whole real training set: that of the distilled set,
            with online labels in place of stored ones. None: all images, with the protocol's labels.
        learned_lr: learning rate that was learned with the images, for ``lr: learned``; None: none was.
        storage: how the images lie in files, on their device.
    """

    name: str
    count: int
    read: Callable[[], tuple[Tensor, Tensor]]
    epoch_images: int | None = None
    learned_lr: float | None = None
    storage: Storage = ONE_A_FILE

    def protocol(self, config: Student, classes: int) -> SettledStudent:
        """The protocol of its students, in numbers, for a teacher of this many classes."""
        images = self.count if self.epoch_images is None else self.epoch_images
        rate = self.learned_lr if config.lr == "learned" else None
        settled = settle_student(config, images, classes, learned_lr=rate, per_file=self.storage.per_file)
        online = self.epoch_images is not None and settled.labels == "stored"
        return settled.model_copy(update={"labels": "online"}) if online else settled


class ResultsFile:
    """The students of an evaluation, in memory and on disk.

    Attributes:
        content: what it holds, or will hold.
    """

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.content = path, content

    def train_missing(
        self,
        sets: Sequence[TrainingSet],
        configs: Sequence[Student],
        teacher: Teacher,
        *,
        test: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        """Train and test the students that the file lacks, and write each into it.

        Args:
            sets: what students learn.
            configs: the protocol, once with each student's network.
            test: uint8 images and int64 labels of the real test split.
            seed: seed of the evaluation; a student's is derived from it and from its number, as in a run.
        """
        for config in configs:
            for each in sets:
                settled = each.protocol(config, len(teacher.card.classes))
                numbers = range(settled.seeds)
                missing = [n for n in numbers if self.get(each.name, settled, n) is None]
                self._train(each, settled, missing, teacher=teacher, test=test, seed=seed)

    def _train(
        self,
        each: TrainingSet,
        config: SettledStudent,
        numbers: Sequence[int],
        *,
        teacher: Teacher,
        test: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        if not numbers:
            return
        images, classes = each.read()
        soft_labels = None
        if config.labels == "stored":
            soft_labels = label_images(teacher, images, each.name).float()
        digest = protocol_hash(config)
        new_network = network_builder(config.network, len(teacher.card.classes), images.shape[1])
        with progress(f"{config.network} {each.name}", len(numbers) * config.images_seen) as bar:
            for number in numbers:
                checkpoint = self._checkpoint(each, config, number, images.device.type)
                result = train_student(
                    config,
                    teacher,
                    images,
                    new_network=new_network,
                    test=test,
                    seed=derive(seed, "student", number),
                    bar=bar,
                    soft_labels=soft_labels,
                    hard_labels=classes,
                    storage=each.storage,
                    checkpoint=checkpoint,
                )
                entry = {"arm": each.name, "network": config.network, "protocol": digest, "seed": number}
                self.content["protocols"][digest] = protocol_record(config)
                self.content["students"].append(cast("StudentEntry", entry | result.content()))
                write_json(self.path, self.content)
                checkpoint.remove()

    def _checkpoint(
        self, each: TrainingSet, config: SettledStudent, number: int, device: str
    ) -> StudentCheckpoint:
        """The state of a student while it is trained, beside the file."""
        numbers: list[JsonValue] = [config.images, config.training_steps, config.peak_lr, number]
        of: list[JsonValue] = [f"{key} {value}" for key, value in self.content["of"].items()]
        owner = training_identity(of, each.name, config.model_dump(mode="json"), numbers, device)
        path = self.path.with_name(f"{self.path.stem}.state-{owner[:12]}.safetensors")
        return StudentCheckpoint(path, owner, config.checkpoint_every)

    def get(self, name: str, config: SettledStudent, number: int) -> StudentEntry | None:
        """The entry of a student of the set of this name; None where the file lacks it."""
        wanted = (name, config.network, protocol_hash(config), number)
        for entry in self.content["students"]:
            if (entry["arm"], entry["network"], entry["protocol"], entry["seed"]) == wanted:
                return entry
        return None

    def accuracies(self, each: TrainingSet, config: Student, classes: int) -> Accuracies:
        """The accuracies of a set's students that the file has, for a teacher of this many classes."""
        settled = each.protocol(config, classes)
        entries = [self.get(each.name, settled, number) for number in range(settled.seeds)]

        def values(key: Literal["last", "best"]) -> list[float | None]:
            return [entry[key] for entry in entries if entry is not None]

        diverged = [
            f"{each.name}, {config.network}, seed {entry['seed']} {entry['diverged']}"
            for entry in entries
            if entry is not None and "diverged" in entry
        ]
        return {"last": values("last"), "best": values("best"), "diverged": diverged}


def open_results(path: Path, identity: Identity) -> ResultsFile:
    """Read the file of an evaluation, or begin a new one in memory.

    Args:
        identity: what the accuracies are of.

    Raises:
        InputError: the file is something else, or an evaluation of something else.
    """
    if not path.exists():
        return ResultsFile(path, {"of": identity, "protocols": {}, "students": []})
    content = read(path, Content, "it is no evaluation, or a broken one: give another --json")
    check_identity(path, content["of"], identity, what="is an evaluation")
    return ResultsFile(path, content)


def check_identity(path: Path, found: Identity, wanted: Identity, *, what: str) -> None:
    """Refuse results of something else; ``what`` begins the message, such as "is an evaluation".

    Raises:
        InputError: which names what differs.
    """
    differing = [key for key, value in wanted.items() if found.get(key) != value]
    if differing:
        raise InputError(f"{path} {what} with another {', '.join(differing)}; give another --json")
