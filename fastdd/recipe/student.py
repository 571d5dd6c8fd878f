"""The protocol by which every image set is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Config, Count, NotNegative, Positive, Precision, Probability


class Student(Config):
    """The protocol by which every image set is judged: knowledge distillation from the teacher."""

    network: str = "resnet20"
    steps: Count = 400
    batch: Count = 100
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.01
    temperature: Positive = 30.0
    labels: Literal["online", "stored"] = "online"
    """online: the teacher labels each mixed, augmented batch; stored: the one soft label of each image"""
    teacher_mode: Literal["eval", "train"] = "eval"
    """train: the released CIFAR scripts' teacher, which normalises by batch statistics"""
    mix: Literal["none", "mixup", "cutmix"] = "mixup"
    mix_alpha: Positive = 0.8
    pad: Annotated[int, Field(ge=0)] = 4
    flip: Probability = 0.5
    seeds: Count = 3
    evaluations: Count = 4
    """test passes a student, evenly spaced, the last at the end; `best` is the best of them"""
    precision: Precision = "fp32"
