"""Many students on several sets: every network, seed and set under one protocol, kept in one JSON file as they come.

Work that was killed continues: a student that the file has, by set, network, protocol and seed, is not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import Student
from ..errors import InputError
from ..labels import label_images
from ..protocols import images_seen, settle_student
from ..runtime.files import write_json
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers import Teacher
from .protocol_text import protocol_hash, protocol_record
from .student import train_student


@dataclass(frozen=True)
class Arm:
    """Images whose worth is asked.

    Attributes:
        name: in the table.
        images: uint8 [N, C, H, W], on the device to train on.
        classes: int64 [N], in the teacher's order, on the same device.
        epoch_images: size of the set beside which these stand, where they are the whole real set: an epoch is that many
            of them, and the teacher labels online in place of stored labels; None: all.
    """

    name: str
    images: Tensor
    classes: Tensor
    epoch_images: int | None = None

    @property
    def size(self) -> int:
        """Images an epoch."""
        return len(self.images) if self.epoch_images is None else self.epoch_images

    def settled(self, config: Student, classes: int) -> Student:
        """The protocol of its students."""
        here = settle_student(config, self.size, classes)
        stored = self.epoch_images is not None and here.labels == "stored"
        return here.model_copy(update={"labels": "online"}) if stored else here


class Table:
    """The file of an evaluation.

    Args:
        path: of the JSON file, new or to be continued.
        identity: what the accuracies are of: set, teacher, real images, seed.

    Attributes:
        content: of the file: ``of`` (the identity), ``protocols`` by hash, and ``students``, each with arm, network,
            protocol, seed, last, best (fractions) and curve.

    Raises:
        InputError: the file is something else, or an evaluation of something else.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"of": identity, "protocols": {}, "students": []}
        if path.exists():
            self.content = _read(path)
            if self.content["of"] != identity:
                differing = [key for key, value in identity.items() if self.content["of"].get(key) != value]
                raise InputError(
                    f"{path} is an evaluation with another {', '.join(differing)}; give another --json"
                )

    def fill(
        self,
        arms: Sequence[Arm],
        configs: Sequence[Student],
        teacher: Teacher,
        test: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        """Train and test the students that the file lacks.

        Args:
            configs: the protocol, with each student's network.
            test: uint8 images and labels of the real test split.
            seed: of the evaluation; a student's is derived from it and its number, as in a run.
        """
        for config in configs:
            for arm in arms:
                here = arm.settled(config, len(teacher.card.classes))
                left = [number for number in range(config.seeds) if self.get(arm.name, here, number) is None]
                self._train(arm, here, left, teacher, test, seed)

    def _train(
        self,
        arm: Arm,
        config: Student,
        left: Sequence[int],
        teacher: Teacher,
        test: tuple[Tensor, Tensor],
        seed: int,
    ) -> None:
        total = len(left) * images_seen(config, arm.size)
        stored = None
        if left and config.labels == "stored":
            stored = label_images(teacher, arm.images, arm.name).float()
        with progress(f"{config.network} {arm.name}", total) as bar:
            for number in left:
                identity = derive(seed, "student", number)
                result = train_student(
                    config, teacher, arm.images, stored, test, identity, bar, arm.classes, arm.size
                )
                self.content["protocols"][protocol_hash(config)] = protocol_record(config)
                self.content["students"].append(
                    {
                        "arm": arm.name,
                        "network": config.network,
                        "protocol": protocol_hash(config),
                        "seed": number,
                    }
                    | asdict(result)
                )
                write_json(self.path, self.content)

    def get(self, arm: str, config: Student, number: int) -> dict[str, Any] | None:
        """What the file says of a student; None where it is not there."""
        wanted = (arm, config.network, protocol_hash(config), number)
        for entry in self.content["students"]:
            if (entry["arm"], entry["network"], entry["protocol"], entry["seed"]) == wanted:
                return dict(entry)
        return None

    def accuracies(self, arm: Arm, config: Student, classes: int) -> dict[str, list[float]]:
        """``last`` and ``best`` of the students of an arm, one number a seed; fractions."""
        here = arm.settled(config, classes)
        found = [self.get(arm.name, here, number) for number in range(config.seeds)]
        return {key: [entry[key] for entry in found if entry is not None] for key in ("last", "best")}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, or give another --json") from error
    if not isinstance(content, dict) or content.keys() != {"of", "protocols", "students"}:
        raise InputError(f"{path} is no evaluation; give another --json")
    return content
