"""The labels of views that a recipe asks for, from its sections ``labels`` and ``student``."""

from __future__ import annotations

import math

from torch import Tensor

from ..config import Labels, Student
from ..config.labels import rest_of
from ..errors import InputError
from ..protocols import SettledStudent
from ..runtime.console import counted
from .manifest import LabelManifest, images_fingerprint
from .pruning import LabelPool
from .views import Augmentation


def check_views(config: Labels, student: Student, key: str = "student") -> None:
    """Refuse a protocol whose views cannot be labelled one by one.

    Args:
        key: the recipe's section that holds the protocol, for messages.
    """
    black = bool(student.pad) and student.pad_color == "black"
    siamese = student.siamese or student.siamese_always
    if student.randaugment is not None or student.shuffle_patches > 1 or black or siamese:
        raise InputError(
            f"labels.per view records crops, flips and mixing alone, but {key} has randaugment, "
            f"shuffle_patches, siamese or black padding; set {key}.labels=online, or leave those out"
        )
    if student.whole or student.per_epoch == "stored":
        raise InputError(
            f"labels.per view labels each image that students see once a pass, but {key} has per_epoch "
            f"stored or whole; set {key}.labels=online, or leave those out"
        )
    if student.mix != "none" and student.mix_probability < 1:
        raise InputError(
            f"labels.per view mixes every batch, but {key}.mix_probability is {student.mix_probability:g}; "
            f"set it to 1, or set {key}.labels=online"
        )
    if config.keep < 1 and config.replay == "shuffle":
        raise InputError(
            f"labels.keep {config.keep:g} leaves parts of epochs; set labels.replay to once, draw or cycle, "
            "got shuffle"
        )
    if config.form == "topk" and rest_of(config, student) == "none" and student.loss != "kl":
        raise InputError(
            f"labels.rest none gives the classes beyond labels.topk no probability, but {key}.loss "
            f"{student.loss} takes logits; set labels.rest=spread, or another labels.form"
        )


def check_pool(config: Labels, student: SettledStudent) -> None:
    """Refuse a share of the labelling batches of which none would be left."""
    LabelPool(student.images, config.batch or student.batch, label_epochs(config, student), keep=config.keep)


def check_form(config: Labels, epochs: int, classes: int) -> None:
    """Refuse a form that this many labelled epochs and classes do not have room for."""
    if config.form == "topk" and config.topk > classes:
        raise InputError(
            f"labels.topk keeps {config.topk} classes and there are {classes}; set it to {classes} or less"
        )
    if config.form == "lowrank" and config.rank >= min(epochs, classes):
        raise InputError(
            f"labels.form lowrank wants more views and classes than labels.rank, got rank {config.rank} for "
            f"{counted(epochs, 'epoch')} of {counted(classes, 'class')}; set a smaller rank, or another form"
        )
    if config.form == "pq" and config.codes > classes:
        raise InputError(
            f"labels.codes {config.codes} cuts {counted(classes, 'class')} into more runs than there are; "
            f"set it to {classes} or less"
        )


def warning_of(config: Labels, student: Student) -> str:
    """What whoever stores these labels should know; empty: nothing."""
    if config.form == "topk" and config.rest == "spread" and student.temperature_schedule is not None:
        return (
            f"labels.rest spread is right at temperature {student.temperature:g} alone, and "
            "temperature_schedule changes it; labels.rest=none is right at every one"
        )
    return ""


def label_epochs(config: Labels, student: SettledStudent) -> int:
    """How many epochs are labelled, before pruning: as many as students learn soft labels."""
    steps_an_epoch = math.ceil(student.images / student.batch)
    return config.epochs or math.ceil(student.soft_steps / steps_an_epoch)


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
        student: the protocol, which says how views look and how many epochs there are.
        images: uint8 [N, C, H, W], the set.
        teachers: fingerprints of the teachers that label.
        seed: seed of the views and of the pool's random choice.

    Raises:
        InputError: as check_views and check_form.
    """
    check_views(config, student)
    check_form(config, label_epochs(config, student), classes)
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
    return LabelManifest(
        images=images_fingerprint(images),
        teachers=teachers,
        classes=classes,
        samples=len(images),
        epochs=label_epochs(config, student),
        augmentation=augmentation,
        seed=seed,
        keep=config.keep,
        choice=config.choice,
        views=config.views,
        form=config.form,
        k=config.topk,
        rest=rest_of(config, student),
        rank=config.rank,
        codes=config.codes,
        temperature=student.temperature,
        mode=student.teacher_mode,
        parts=config.parts,
        average=config.average,
    )
