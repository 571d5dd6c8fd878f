"""Scores that take the labels and the augmentation out of a set's accuracy (DD-Ranking).

    HLR = acc(real, hard labels) - acc(set, hard labels)         what is lost against the whole real set
    IOR = acc(set) - acc(random real images)                     what is gained, with the same labels and augmentation
    alpha = w IOR - (1 - w) HLR                                  label-robust
    beta = w (set - random, augmented) + (1 - w) (set - random, not augmented)      augmentation-robust
    score(a) = (e^a - 1/e) / (e - 1/e)                           0 for a = -1, 1 for a = 1, 0.269 for a = 0

All accuracies are fractions: the released version takes percentages, and its exponentials explode.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..errors import InputError


class LabelRobust(NamedTuple):
    """Hard-label loss, improvement over random, what both come to, and the score in [0, 1]."""

    hard_label_loss: float
    over_random: float
    alpha: float
    score: float


class AugmentationRobust(NamedTuple):
    """Improvement over random with and without augmentation, what both come to, and the score in [0, 1]."""

    augmented: float
    plain: float
    beta: float
    score: float


def label_robust(
    *, real_hard: float, synthetic_hard: float, synthetic: float, random: float, weight: float = 0.5
) -> LabelRobust:
    """Label-robust score.

    Args:
        real_hard: test accuracy of students of the whole real set, with hard labels.
        synthetic_hard: of students of the distilled set, with hard labels.
        synthetic, random: of students of the distilled set and of as many random real images, with one and the
            same kind of labels.
        weight: of the improvement over random, against the loss to the real set.

    Raises:
        InputError: an accuracy or the weight is no fraction.
    """
    _check(
        real_hard=real_hard, synthetic_hard=synthetic_hard, synthetic=synthetic, random=random, weight=weight
    )
    loss, gain = real_hard - synthetic_hard, synthetic - random
    alpha = weight * gain - (1 - weight) * loss
    return LabelRobust(loss, gain, alpha, score(alpha))


def augmentation_robust(
    *,
    synthetic_augmented: float,
    random_augmented: float,
    synthetic_plain: float,
    random_plain: float,
    weight: float = 0.5,
) -> AugmentationRobust:
    """Augmentation-robust score.

    Args:
        synthetic_augmented, random_augmented: test accuracies of students of the distilled set and of as many random
            real images, trained with augmentation.
        synthetic_plain, random_plain: without.
        weight: of the augmented ones.

    Raises:
        InputError: an accuracy or the weight is no fraction.
    """
    _check(
        synthetic_augmented=synthetic_augmented,
        random_augmented=random_augmented,
        synthetic_plain=synthetic_plain,
        random_plain=random_plain,
        weight=weight,
    )
    augmented, plain = synthetic_augmented - random_augmented, synthetic_plain - random_plain
    beta = weight * augmented + (1 - weight) * plain
    return AugmentationRobust(augmented, plain, beta, score(beta))


def score(advantage: float) -> float:
    """An advantage in [-1, 1] on the scale from 0 to 1."""
    return (math.exp(advantage) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise InputError(
                f"{name} is {value:g}, expected a fraction between 0 and 1; divide percentages by 100"
            )
