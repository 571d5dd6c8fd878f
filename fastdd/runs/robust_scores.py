"""DD-Ranking's scores of a run's sets, computed from the kinds of students that it has anyway.

A kind with soft labels tells the label-robust score where another kind is the same with hard labels and the
whole training set was learned with those, and the augmentation-robust score where another kind is the same
without augmentation (``augment: none``). Nothing is trained for it, and no learning rate is searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from ..config import CONTROL, FULL, Student
from ..config.student import PLAIN, in_regime, regime_of
from ..evaluate.dd_ranking import augmentation_robust, label_robust
from ..run_folder import Metrics
from ..run_folder.comparison import of_all
from ..run_folder.results import RobustScores

ALIKE = {"protocol", "seeds", "reported", "augment"}
"""values in which two kinds may differ that are the same otherwise"""


def with_robust_scores(metrics: Metrics, students: Mapping[str, Student]) -> Metrics:
    """The results with the scores of each set and kind of students that tell them.

    Args:
        students: the kinds of students, those of the section ``student`` under an empty name.
    """
    arms = dict(metrics.arms)
    for name in metrics.arms:
        if name == CONTROL:
            continue
        for kind, config in students.items():
            found = _scores(metrics, name, kind, config, students)
            if found is None:
                continue
            arm = arms[name]
            if kind:
                own = arm.students[kind].model_copy(update={"robust": found})
                arms[name] = arm.model_copy(update={"students": {**arm.students, kind: own}})
            else:
                arms[name] = arm.model_copy(update={"robust": found})
    return metrics.model_copy(update={"arms": arms})


def _scores(
    metrics: Metrics, arm: str, kind: str, config: Student, students: Mapping[str, Student]
) -> RobustScores | None:
    """The scores of a set with students of a kind; None: they are not told."""
    if regime_of(config) == "hard":
        return None
    plain = config.model_copy(update=PLAIN)
    hard_twin = _twin(in_regime(config, "hard"), students)
    plain_twin = None if _same(plain, config) else _twin(plain, students)
    synthetic, random = _mean(metrics, kind, arm), _mean(metrics, kind, CONTROL)
    if synthetic is None or random is None:
        return None
    scores: dict[str, float] = {}
    if hard_twin is not None:
        real, hard = _mean(metrics, hard_twin, FULL), _mean(metrics, hard_twin, arm)
        if real is not None and hard is not None:
            told = label_robust(real_hard=real, synthetic_hard=hard, synthetic=synthetic, random=random)
            scores["label"] = told.score
    if plain_twin is not None:
        ours, theirs = _mean(metrics, plain_twin, arm), _mean(metrics, plain_twin, CONTROL)
        if ours is not None and theirs is not None:
            scores["augmentation"] = augmentation_robust(
                synthetic=synthetic, random=random, synthetic_plain=ours, random_plain=theirs
            ).score
    return RobustScores.model_validate(scores) if scores else None


def _twin(wanted: Student, students: Mapping[str, Student]) -> str | None:
    """The kind of students that is as wanted; None: there is none."""
    return next((name for name, config in students.items() if _same(config, wanted)), None)


def _same(one: Student, other: Student) -> bool:
    return one.model_dump(exclude=ALIKE) == other.model_dump(exclude=ALIKE)


def _mean(metrics: Metrics, kind: str, learned: str) -> float | None:
    """Mean accuracy of the students of a kind; None: there are none, or one diverged."""
    fractions = of_all(metrics.last(kind).get(learned, ()))
    return fmean(fractions) if fractions else None
