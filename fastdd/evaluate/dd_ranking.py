"""DD-Ranking: what a distilled set is worth beside its soft labels and its augmentation.

Six groups of students under one protocol, all trained for the same number of steps in batches of the same
size, give the accuracies that the two scores need (fractions; the mean over seeds after the last step):

    real_hard                           the whole real training set, hard labels
    synthetic_hard                      the set, hard labels
    synthetic, random                   the set, and as many random real images, with the protocol's labels
    synthetic_plain, random_plain       the same two without any augmentation

    HLR = real_hard - synthetic_hard                              what is lost against the whole real set
    IOR = synthetic - random                                      what is gained over random real images
    alpha = w IOR - (1 - w) HLR                                   label-robust
    beta = w IOR + (1 - w) (synthetic_plain - random_plain)       augmentation-robust
    score(a) = (e^a - 1/e) / (e - 1/e)                            0 for a = -1, 0.269 for a = 0, 1 for a = 1

The released code takes percentages, and its exponentials explode. Hard labels are the classes of the images,
mixed as the batch is, by cross-entropy. Students are kept in the evaluation's file under the same protocol
(evaluation.py), so what ``fastdd evaluate`` has trained is not trained again.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ConfigDict, JsonValue, with_config
from typing_extensions import TypedDict

from ..config import CONTROL, FULL, Student
from ..config.student import PLAIN
from ..errors import InputError, refusals_explained
from ..protocols import SettledStudent, settle_student
from ..run_folder import read
from ..run_folder.comparison import of_all
from ..runtime.files import write_json
from .evaluation import Evaluation, EvaluationRequest, open_evaluation
from .protocol_text import protocol_hash, protocol_text
from .results_file import Identity, check_identity

# -- scores ----------------------------------------------------------------------------------------


class LabelRobustScore(NamedTuple):
    """The loss with hard labels (HLR), the gain over random (IOR), alpha, and the score in [0, 1]."""

    hard_label_loss: float
    over_random: float
    alpha: float
    score: float


class AugmentationRobustScore(NamedTuple):
    """The gain over random with and without augmentation, beta, and the score in [0, 1]."""

    augmented: float
    plain: float
    beta: float
    score: float


def label_robust(
    *, real_hard: float, synthetic_hard: float, synthetic: float, random: float, weight: float = 0.5
) -> LabelRobustScore:
    """The label-robust score of test accuracies, which are named as above.

    Raises:
        InputError: an accuracy or the weight w is no fraction.
    """
    _check_fractions(
        real_hard=real_hard, synthetic_hard=synthetic_hard, synthetic=synthetic, random=random, weight=weight
    )
    loss, gain = real_hard - synthetic_hard, synthetic - random
    alpha = weight * gain - (1 - weight) * loss
    return LabelRobustScore(loss, gain, alpha, score(alpha))


def augmentation_robust(
    *, synthetic: float, random: float, synthetic_plain: float, random_plain: float, weight: float = 0.5
) -> AugmentationRobustScore:
    """The augmentation-robust score of test accuracies, which are named as above.

    Raises:
        InputError: an accuracy or the weight w is no fraction.
    """
    _check_fractions(
        synthetic=synthetic,
        random=random,
        synthetic_plain=synthetic_plain,
        random_plain=random_plain,
        weight=weight,
    )
    augmented, plain = synthetic - random, synthetic_plain - random_plain
    beta = weight * augmented + (1 - weight) * plain
    return AugmentationRobustScore(augmented, plain, beta, score(beta))


def score(advantage: float) -> float:
    """Map an advantage in [-1, 1] to a score in [0, 1]."""
    return (math.exp(advantage) - math.exp(-1)) / (math.e - math.exp(-1))


def _check_fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(
                f"{name} is {value:g}, expected a fraction between 0 and 1; divide percentages by 100"
            )


# -- the students they need ------------------------------------------------------------------------

HARD: dict[str, JsonValue] = {"labels": "hard", "hard_weight": 0.0}
GROUPS: dict[str, tuple[str, dict[str, JsonValue]]] = {
    "real_hard": (FULL, HARD),
    "synthetic_hard": ("", HARD),
    "synthetic": ("", {}),
    "random": (CONTROL, {}),
    "synthetic_plain": ("", PLAIN),
    "random_plain": (CONTROL, PLAIN),
}
"""group -> the set that its students learn ("": the distilled set), and what differs from the protocol"""


@dataclass(frozen=True)
class StudentGroup:
    """Students of one set.

    Attributes:
        accuracies: accuracy after the last step, a fraction a seed; None: that student diverged.
        diverged: how students diverged, a line each.
    """

    arm: str
    config: SettledStudent
    accuracies: list[float | None]
    diverged: list[str]


@dataclass(frozen=True)
class NetworkScores:
    """The groups of students of one network, by the names of GROUPS, and their scores.

    There are no scores where a student that they need diverged.
    """

    groups: dict[str, StudentGroup]
    label: LabelRobustScore | None
    augmentation: AugmentationRobustScore | None


class Entry(TypedDict):
    """The scores of students of one network, under one protocol, with one weight.

    ``accuracies`` has the groups by the names of GROUPS; scores are null where students diverged.
    """

    network: str
    protocol: str
    weight: float
    steps: int
    batch: int
    accuracies: dict[str, JsonValue]
    label_robust: dict[str, float] | None
    augmentation_robust: dict[str, float] | None


@with_config(ConfigDict(extra="forbid"))
class Content(TypedDict):
    """The content of the file of scores, one entry for each network, protocol and weight."""

    of: Identity
    scores: list[Entry]


@dataclass(frozen=True)
class DDRanking:
    """Everything that the scores of a set need.

    Attributes:
        evaluation: the set, its controls, and the file of students.
        path: the file of scores.
        kept: the scores that the file has.
        weight: w of both scores, in [0, 1].
    """

    evaluation: Evaluation
    path: Path
    kept: list[Entry]
    weight: float
    steps: int
    batch: int

    def run(self) -> dict[str, NetworkScores]:
        """Train the students that the file lacks, and return scores by network; written after each network.

        Scores of other networks, protocols and weights stay in the file.
        """
        found: dict[str, NetworkScores] = {}
        kept = list(self.kept)
        for config in self.evaluation.configs:
            scores = found[config.network] = self._scores(config)
            _put(kept, self._entry(config.network, scores))
            content: Content = {"of": self.evaluation.results.content["of"], "scores": kept}
            write_json(self.path, content)
        return found

    def _scores(self, config: Student) -> NetworkScores:
        groups = {name: self._group(config, *group) for name, group in GROUPS.items()}
        mean: dict[str, float] = {}
        for name, group in groups.items():
            if (fractions := of_all(group.accuracies)) is None:
                return NetworkScores(groups, label=None, augmentation=None)
            mean[name] = statistics.fmean(fractions)
        label = label_robust(
            real_hard=mean["real_hard"],
            synthetic_hard=mean["synthetic_hard"],
            synthetic=mean["synthetic"],
            random=mean["random"],
            weight=self.weight,
        )
        augmentation = augmentation_robust(
            synthetic=mean["synthetic"],
            random=mean["random"],
            synthetic_plain=mean["synthetic_plain"],
            random_plain=mean["random_plain"],
            weight=self.weight,
        )
        return NetworkScores(groups, label, augmentation)

    def _group(self, config: Student, name: str, changes: dict[str, JsonValue]) -> StudentGroup:
        evaluation = self.evaluation
        learned = next(each for each in evaluation.sets if each.name == (name or evaluation.name))
        changed, classes = config.model_copy(update=changes), len(evaluation.teacher.card.classes)
        evaluation.results.train_missing(
            [learned], [changed], evaluation.teacher, test=evaluation.real.evaluation, seed=evaluation.seed
        )
        found = evaluation.results.accuracies(learned, changed, classes)
        settled = learned.protocol(changed, classes)
        return StudentGroup(learned.name, settled, found["last"], diverged=found["diverged"])

    def _entry(self, network: str, scores: NetworkScores) -> Entry:
        groups: dict[str, JsonValue] = {
            name: {
                "arm": group.arm,
                "protocol": protocol_hash(group.config),
                "text": protocol_text(group.config),
                "last": list(group.accuracies),
            }
            for name, group in scores.groups.items()
        }
        return {
            "network": network,
            "protocol": protocol_hash(scores.groups["synthetic"].config),
            "weight": self.weight,
            "steps": self.steps,
            "batch": self.batch,
            "accuracies": groups,
            "label_robust": scores.label and scores.label._asdict(),
            "augmentation_robust": scores.augmentation and scores.augmentation._asdict(),
        }


def _put(kept: list[Entry], entry: Entry) -> None:
    """Put scores in the place of those of the same students and weight, or behind the others."""
    for place, each in enumerate(kept):
        if all(each[key] == entry[key] for key in ("network", "protocol", "weight")):
            kept[place] = entry
            return
    kept.append(entry)


@refusals_explained()
def open_dd_ranking(request: EvaluationRequest, device: torch.device, weight: float = 0.5) -> DDRanking:
    """Open everything that the scores of a set need, and check it before the first student is trained.

    Args:
        request: what is evaluated; both controls are needed, whatever it says. Its ``json`` is the file of
            scores, and of X.json the students are in X-students.json; None: robust-HASH.json beside the set.
        device: where students are trained.

    Raises:
        InputError: something is missing or does not fit; the message says what, and what to do.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"--weight is {weight:g}, expected a fraction between 0 and 1, such as 0.5")
    given = request.json
    students = None if given is None else given.with_name(f"{given.stem}-students.json")
    request = replace(request, control=True, full="auto", json=students)
    evaluation = open_evaluation(request, device, is_choice=True)
    if evaluation.full_left_out is not None:
        raise InputError(
            "DD-Ranking's scores need students of the whole real training set, but "
            f"{evaluation.full_left_out}; choose a smaller batch or fewer steps, so that fewer of its images "
            "are shown, or a machine with more memory"
        )
    if evaluation.name == CONTROL:
        raise InputError(
            f"{evaluation.set.path} is called {CONTROL!r}, as the real images that a set is compared with; "
            "name another arm with --arm"
        )
    results = evaluation.results
    path = given or results.path.with_name(f"robust-{results.path.name.removeprefix('evaluation-')}")
    kept = _kept(path, results.content["of"])
    classes = len(evaluation.teacher.card.classes)
    per_file = evaluation.set.storage.per_file
    config = settle_student(evaluation.configs[0], len(evaluation.images), classes, per_file=per_file)
    return DDRanking(evaluation, path, kept, weight=weight, steps=config.training_steps, batch=config.batch)


def _kept(path: Path, identity: Identity) -> list[Entry]:
    """The scores that a file has; none where it is absent.

    Raises:
        InputError: it is something else, or has scores of another set.
    """
    if not path.exists():
        return []
    content = read(path, Content, "it has no DD-Ranking scores, or broken ones: give another --json")
    check_identity(path, content["of"], identity, what="has scores")
    return content["scores"]
