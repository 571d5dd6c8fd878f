"""The labels of views that a recipe asks for, from its sections ``labels`` and ``student``."""

from __future__ import annotations

import math

from torch import Tensor

from ..config import Labels, Student
from ..errors import InputError
from ..protocols import SettledStudent
from .manifest import LabelManifest, images_fingerprint
from .views import Augmentation


def check_views(config: Labels, student: Student, key: str = "student") -> None:
    """Refuse a protocol whose views cannot be labelled one by one.

    Args:
        config: how labels are stored, by view.
        student: the protocol, which says how views look.
        key: the recipe's section that holds the protocol, for messages.

    Raises:
        InputError: the protocol augments in a way that views do not record, or pruning asks for another
            replay.
    """
    black = bool(student.pad) and student.pad_color == "black"
    siamese = student.siamese or student.siamese_always
    if student.randaugment is not None or student.shuffle_patches > 1 or black or siamese:
        raise InputError(
            f"labels.per view records crops, flips and mixing alone, but {key} has randaugment, "
            f"shuffle_patches, siamese or black padding; set {key}.labels=online, or leave those out"
        )
    if student.mix != "none" and student.mix_probability < 1:
        raise InputError(
            f"labels.per view mixes every batch, but {key}.mix_probability is {student.mix_probability:g}; "
            f"set it to 1, or set {key}.labels=online"
        )
    if config.keep < 1 and config.replay == "shuffle":
        raise InputError(
            f"labels.keep {config.keep:g} leaves parts of epochs; set labels.replay to draw or cycle, got "
            "shuffle"
        )


def plan_labels(
    config: Labels,
    student: SettledStudent,
    images: Tensor,
    *,
    classes: int,
    teachers: tuple[str, ...],
    seed: int,
) -> LabelManifest:
    """Plan the labels of a set's views.

    Args:
        config: how labels are stored.
        student: the protocol, which says how views look and how many epochs there are.
        images: uint8 [N, C, H, W], the set.
        classes: number of classes of the teachers.
        teachers: fingerprints of the teachers that label.
        seed: seed of the views and of the pool's random choice.

    Raises:
        InputError: as check_views.
    """
    check_views(config, student)
    augmentation = Augmentation(
        (images.shape[2], images.shape[3]),
        scale=student.scale,
        pad=0 if student.scale else student.pad,
        flip=student.flip,
        mix=student.mix,
        mix_alpha=student.mix_alpha,
        mix_per=config.mix_per,
        batch=config.batch or student.batch,
        order=config.order,
    )
    steps_an_epoch = math.ceil(len(images) / student.batch)
    passes = student.epochs or math.ceil(student.training_steps / steps_an_epoch)
    return LabelManifest(
        images=images_fingerprint(images),
        teachers=teachers,
        classes=classes,
        samples=len(images),
        epochs=config.epochs or passes,
        augmentation=augmentation,
        seed=seed,
        keep=config.keep,
        choice=config.choice,
        views=config.views,
        form=config.form,
        k=config.topk,
        temperature=student.temperature,
        mode=student.teacher_mode,
        parts=config.parts,
        average=config.average,
    )
