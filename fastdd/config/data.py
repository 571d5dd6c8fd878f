"""The real images, and the teachers that are trained on them or given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import BelowOne, Config, Count, NotNegative, Positive, Precision, Probability


class Data(Config):
    root: str = "digits"
    """folder in ImageFolder layout, .tar, .tar.gz or .tar.xz of one, or the built-in `digits`"""
    size: Count | None = None
    """side of the square images in pixels; null keeps them as stored"""
    resize: Count | None = None
    """shorter side in pixels before the center of `size` is cut out, such as 256 for 224; null: as large as `size`"""
    channels: Literal[1, 3] = 3
    backend: Literal["auto", "dali", "torchvision"] = "auto"
    """who reads the stream for the bank; the pixels agree to 1/255"""
    on_error: Literal["fail", "skip"] = "fail"
    """an image that cannot be read. fail: the run stops and names it; skip: it is left out, counted and listed"""
    fingerprint: Literal["names", "contents"] = "names"
    """of names and sizes, or of every byte (which reads everything once more)"""


class Teacher(Config):
    """The network whose statistics are matched, and how squeeze trains it where no weights are given."""

    network: str = "resnet20"
    weights: str | None = None
    """safetensors file, used as it is; null: the squeeze stage trains the network"""
    init: str | None = None
    """safetensors file of the weights that training starts with; null: random ones"""
    new_head: bool = False
    """start the last layer anew where `init` knows other classes, which is an error otherwise"""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    epochs: Count = 30
    batch: Count = 128
    lr: Positive = 0.1
    """of SGD, at its highest"""
    schedule: Literal["onecycle", "cosine"] = "onecycle"
    """onecycle: from lr / 25 up and down to lr / 250000; cosine: up on a straight line, and down to 0"""
    warmup: BelowOne = 0.2
    """part of all steps in which the learning rate rises"""
    momentum: BelowOne = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 5e-4
    decay_norms: bool = False
    """also let BatchNorm parameters and biases decay"""
    label_smoothing: Probability = 0.0
    ema: BelowOne = 0.0
    """decay of a moving average of the weights, which is then the teacher; 0: the last weights are"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop, such as [0.08, 1] for large images; null: a shift by `pad`"""
    pad: Annotated[int, Field(ge=0)] = 4
    """random crop after padding by this many pixels"""
    flip: Probability = 0.5
    precision: Precision = "fp32"
    """of squeeze; statistics and embeddings are taken in fp32"""
    minimum_accuracy: Probability = 0.0
    """squeeze fails below this test accuracy: a bad teacher spoils everything after it"""

    @model_validator(mode="after")
    def _one_start(self) -> Teacher:
        if self.weights is not None and self.init is not None:
            raise ValueError("weights are used as they are and init is trained on: give one of the two")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        return self
