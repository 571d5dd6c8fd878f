"""Robust scores of a distilled set: what it is worth beside its soft labels and its augmentation (dd_ranking.py).

Six groups of students under one protocol, all for one number of steps in batches of one size:

    real_hard                           the whole real training set, hard labels
    synthetic_hard                      the set, hard labels
    synthetic, random                   the set and as many random real images, the protocol's labels
    synthetic_plain, random_plain       the same two without augmentation: no crop, flip, mixing, RandAugment, shuffling

Hard labels are the classes of the images, mixed as the batch is, by cross-entropy. Scores are of the mean over seeds of
the accuracy after the last step. Students are kept in the file of the evaluation under the same protocol (evaluation.py),
so what ``fastdd evaluate`` has trained is not trained again, nor after a kill.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..config import CONTROL, FULL, Student
from ..errors import InputError
from ..protocols import settle_student, steps_of
from ..runtime.files import write_json
from . import AugmentationRobust, LabelRobust, augmentation_robust, label_robust, protocol_hash, protocol_text
from .evaluation import Judgement, Question
from .results_file import Arm

HARD: dict[str, Any] = {"labels": "hard", "hard_weight": 0.0}
PLAIN: dict[str, Any] = {
    "randaugment": None,
    "shuffle_patches": 1,
    "scale": None,
    "pad": 0,
    "flip": 0.0,
    "mix": "none",
}
GROUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "real_hard": (FULL, HARD),
    "synthetic_hard": ("", HARD),
    "synthetic": ("", {}),
    "random": (CONTROL, {}),
    "synthetic_plain": ("", PLAIN),
    "random_plain": (CONTROL, PLAIN),
}
"""name -> set that its students learn (empty: the one that is judged), and what differs from the protocol"""
KEYS = ("of", "weight", "steps", "batch", "networks")
"""of the file of scores, in this order"""


class Group(NamedTuple):
    """Students of one set: its name, their settled protocol, and last accuracies, a fraction a seed."""

    arm: str
    config: Student
    accuracies: list[float]


@dataclass(frozen=True)
class Robust:
    """Groups of students of one network by name (GROUPS), and the scores that they come to."""

    groups: dict[str, Group]
    label: LabelRobust
    augmentation: AugmentationRobust

    def as_plain(self) -> dict[str, Any]:
        """JSON-like."""
        groups = {
            name: {
                "arm": group.arm,
                "protocol": protocol_hash(group.config),
                "text": protocol_text(group.config),
                "last": group.accuracies,
            }
            for name, group in self.groups.items()
        }
        scores = {"label_robust": self.label._asdict(), "augmentation_robust": self.augmentation._asdict()}
        return {"accuracies": groups, **scores}


class Robustness:
    """A set with what its scores need, all of it checked before the first student is trained.

    Args:
        question: what is asked; ``control`` and ``full`` say nothing here, both are needed. ``json``: of the scores;
            None: robust-HASH.json beside the set.
        device: to train on.
        weight: of the improvement over random against the hard-label loss, and of augmented against plain.

    Attributes:
        judgement: the question with its controls, and the file of students.
        path: of the scores.
        steps, batch: of every student.

    Raises:
        InputError: something is missing or does not fit; one message says what, and what to do.
    """

    def __init__(self, question: Question, device: torch.device, weight: float = 0.5) -> None:
        if not 0 <= weight <= 1:
            raise InputError(f"--weight is {weight:g}, expected a fraction between 0 and 1, such as 0.5")
        own = question.json
        students = None if own is None else own.with_name(f"{own.stem}-students.json")
        self.weight = weight
        self.judgement = judgement = Judgement(
            replace(question, control=True, full="auto", json=students), device
        )
        if judgement.full_left_out is not None:
            raise InputError(
                f"robust scores need students of the whole real training set, but {judgement.full_left_out}; choose a "
                "smaller batch or fewer steps, so that fewer of its images are shown, or a machine with more memory"
            )
        table = judgement.table
        self.path = own or table.path.with_name(f"robust-{table.path.name.removeprefix('evaluation-')}")
        _require_scores(self.path, table.content["of"])
        first = settle_student(judgement.configs[0], len(judgement.images), self._classes)
        assert first.batch != "by_ipc"  # settled
        self.steps, self.batch = steps_of(first, len(judgement.images)), first.batch

    @property
    def _classes(self) -> int:
        return len(self.judgement.teacher.card.classes)

    @cached_property
    def _arms(self) -> dict[str, Arm]:
        """The set under an empty name, and the controls under theirs."""
        own, *controls = self.judgement.arms
        if own.name == CONTROL:
            raise InputError(
                f"{self.judgement.set.path} is called {CONTROL!r}, as the real images that a set is compared with; "
                "name another arm with --arm, or rename the folder"
            )
        return {"": own, **{arm.name: arm for arm in controls}}

    def answer(self) -> dict[str, Robust]:
        """Scores by network, written after each; trains what the file of students lacks."""
        found: dict[str, Robust] = {}
        for config in self.judgement.configs:
            found[config.network] = self._of(config)
            write_json(self.path, self._content(found))
        return found

    def _of(self, config: Student) -> Robust:
        groups = {name: self._group(config, *group) for name, group in GROUPS.items()}
        means = {name: statistics.fmean(group.accuracies) for name, group in groups.items()}
        label = label_robust(
            real_hard=means["real_hard"],
            synthetic_hard=means["synthetic_hard"],
            synthetic=means["synthetic"],
            random=means["random"],
            weight=self.weight,
        )
        augmentation = augmentation_robust(
            synthetic_augmented=means["synthetic"],
            random_augmented=means["random"],
            synthetic_plain=means["synthetic_plain"],
            random_plain=means["random_plain"],
            weight=self.weight,
        )
        return Robust(groups, label, augmentation)

    def _group(self, config: Student, arm_name: str, changes: dict[str, Any]) -> Group:
        judgement, arm = self.judgement, self._arms[arm_name]
        changed = config.model_copy(update=changes)
        judgement.table.fill([arm], [changed], judgement.teacher, judgement.real.test, judgement.seed)
        found = judgement.table.accuracies(arm, changed, self._classes)["last"]
        return Group(arm.name, arm.settled(changed, self._classes), found)

    def _content(self, found: dict[str, Robust]) -> dict[str, Any]:
        """Of the file of scores."""
        networks = {network: robust.as_plain() for network, robust in found.items()}
        of = self.judgement.table.content["of"]
        return dict(zip(KEYS, (of, self.weight, self.steps, self.batch, networks), strict=True))


def _require_scores(path: Path, of: dict[str, Any]) -> None:
    """Refuse to write over a file that is no scores, or scores of something else."""
    if not path.exists():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, or give another --json") from error
    if not isinstance(content, dict) or tuple(content) != KEYS:
        raise InputError(f"{path} is no robust scores; give another --json")
    if content["of"] != of:
        differing = [key for key, value in of.items() if content["of"].get(key) != value]
        raise InputError(f"{path} has scores with another {', '.join(differing)}; give another --json")
