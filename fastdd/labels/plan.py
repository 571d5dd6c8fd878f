"""From a recipe to what is to be labelled: the labels' own settings, and the views of the students' protocol."""

from __future__ import annotations

from torch import Tensor

from ..config import Labels, Student
from ..errors import InputError
from .manifest import Facts, fingerprint
from .views import Augmentation


def planned(
    config: Labels, student: Student, images: Tensor, classes: int, teachers: tuple[str, ...], seed: int
) -> Facts:
    """The facts of the labels of a set.

    Args:
        student: settled protocol, whose batch is a number.
        images: uint8 [N, C, H, W].
        teachers: fingerprints of those who label.

    Raises:
        InputError: the protocol shows images in a way that views do not record, or the pool leaves nothing to replay.
    """
    assert student.batch != "by_ipc"  # settled
    if (
        student.randaugment is not None
        or student.shuffle_patches > 1
        or (student.pad and student.padding == "black")
    ):
        raise InputError(
            "labels.per view records crops, flips and mixing alone, but student has randaugment, shuffle_patches or "
            "black padding; set student.labels=online, or leave those out"
        )
    if config.keep < 1 and config.replay == "shuffle":
        raise InputError(
            f"labels.keep {config.keep:g} leaves parts of epochs; set labels.replay to draw or cycle, got shuffle"
        )
    how = Augmentation(
        (images.shape[2], images.shape[3]),
        student.scale,
        pad=0 if student.scale else student.pad,
        flip=student.flip,
        mix=student.mix,
        mix_alpha=student.mix_alpha,
        mix_per=config.mix_per,
        batch=config.batch or student.batch,
        order=config.order,
    )
    passes = student.epochs or -(-(student.steps or 1) // -(-len(images) // student.batch))
    return Facts(
        fingerprint(images),
        teachers,
        classes,
        len(images),
        config.epochs or passes,
        how,
        seed,
        config.keep,
        config.choice,
        config.views,
        config.form,
        config.topk,
        student.temperature,
        student.teacher_mode,
        config.parts,
        config.average,
    )
