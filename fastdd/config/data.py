"""The real images, and the teachers that are trained on them or given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from .base import (
    BelowOne,
    Border,
    Config,
    Count,
    NotNegative,
    Positive,
    Precision,
    Probability,
    Seed,
    Share,
    Side,
    Text,
)
from .yaml_text import shown


def _an_integer(channels: object) -> object:
    if isinstance(channels, bool | float):  # which equal 1, so that a Literal would take them
        raise ValueError(f"input should be 1 or 3, got {shown(channels)}")
    return channels


class Data(Config):
    """The real images: a training and a test split of the same classes."""

    root: Text = "digits"
    """image folder (`train/CLASS/*.jpg`), .tar, .tar.gz, .tar.xz or .zip of one, WebDataset shards, CIFAR or
    Tiny-ImageNet as distributed, Parquet files, or the built-in `digits`; `hf:ORG/NAME[@REVISION]` of the
    hub, from its cache or with --download; else `package.module:function` or `NAME:REST`"""
    follow_links: bool = False
    """follow links in a data folder that lead out of it, as in a hub's cache; only for data you trust"""
    size: Side | None = None
    """side of the square images in pixels; null: images stay as stored, which must be one size"""
    resize: Side | None = None
    """shorter side in pixels before the center of `size` is cut out, such as 256 for 224; null: `size`"""
    channels: Annotated[Literal[1, 3], BeforeValidator(_an_integer)] = 3
    """3: RGB; 1: grey"""
    backend: Literal["auto", "dali", "torchvision"] = "auto"
    """library that decodes images; pixels agree to 1/255. auto: DALI for JPEGs on a GPU, where installed"""
    on_error: Literal["fail", "skip"] = "fail"
    """what an unreadable image does. fail: the run stops and names it; skip: it is left out and listed"""
    fingerprint: Literal["names", "contents"] = "names"
    """what is hashed to notice changed data. names: file names and sizes; contents: every byte"""
    validation: Share | None = None
    """share of each class's training images, above 0 and below 1, that is withheld from every set and that
    every choice looks at; null: none is withheld, and students are tested on the test images"""
    validation_seed: Seed = 0
    """seed of the choice of the validation images, so that runs of any `seed` have the same"""
    evaluate: Literal["validation", "test"] = "validation"
    """images that students are tested on where `validation` is set; without it they are the test images"""

    @model_validator(mode="after")
    def _evaluates_on_what_there_is(self) -> Data:
        if self.evaluate == "test" and self.validation is None:
            raise ValueError(
                "evaluate is test, but validation is null, so students are tested on the test images anyway; "
                "leave evaluate out, or set data.validation=0.1"
            )
        return self


class Teacher(Config):
    """The network whose statistics are matched, and how squeeze trains it where no weights are given."""

    network: Text = "resnet20"
    """name of the network"""
    weights: Text | None = None
    """weights that are used as they are: a safetensors or torch.save file, or released ones that are in the
    cache or downloaded with --download, `torchvision:IMAGENET1K_V1` or `timm:resnet18.a1_in1k`, whose own
    mean and std then hold; null: squeeze trains the network"""
    init: Text | None = None
    """weights that training starts with, a file or released ones, as for `weights`; null: random weights"""
    new_head: bool = False
    """start the last layer anew where `init` knows other classes, which is an error otherwise"""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """mean of each channel, which is subtracted from pixels in [0, 1]"""
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    """standard deviation of each channel, by which they are divided"""
    epochs: Count = 30
    """passes over the training images"""
    batch: Count = 128
    """images a step"""
    lr: Positive = 0.1
    """highest learning rate of SGD"""
    schedule: Literal["onecycle", "cosine", "constant"] = "onecycle"
    """course of the learning rate. onecycle: from lr / 25 to lr to lr / 250000; cosine: from 0 to lr to 0;
    constant: from 0 to lr, which stays"""
    warmup: BelowOne = 0.2
    """part of all steps in which the learning rate rises"""
    momentum: BelowOne = 0.9
    """momentum of SGD"""
    nesterov: bool = True
    """Nesterov's momentum"""
    weight_decay: NotNegative = 5e-4
    """weight decay of SGD"""
    decay_norms: bool = False
    """also let BatchNorm parameters and biases decay"""
    label_smoothing: Probability = 0.0
    """probability that is spread over all classes in the target of the cross-entropy"""
    ema: BelowOne = 0.0
    """decay of a moving average of the weights, which becomes the teacher; 0: the last weights do"""
    sync_batch_norm: bool = True
    """where several processes squeeze: normalize by the statistics of the whole batch, as one process does;
    false: each process by those of its share, and the statistics of the first one are kept"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop, such as [0.08, 1] for large images; null: a shift by `pad`"""
    pad: Border = 4
    """pixels of padding before the random crop"""
    flip: Probability = 0.5
    """probability of a horizontal flip"""
    precision: Precision = "fp32"
    """arithmetic of squeeze; statistics and embeddings are always taken in fp32"""
    minimum_accuracy: Probability = 0.0
    """test accuracy below which squeeze fails: a bad teacher spoils everything after it"""
    scores: Text | None = None
    """file of `fastdd score`, or scores.safetensors of a run that trained a teacher, for arms that rank real
    images by how hard they were to learn; null: what this run's squeeze notes"""
    snapshots: tuple[Count, ...] = ()
    """epochs, rising, after which squeeze keeps the embeddings of some real images for a figure"""

    @model_validator(mode="after")
    def _one_start(self) -> Teacher:
        if self.weights is not None and self.init is not None:
            raise ValueError(
                f"weights {self.weights} are used as they are, and init {self.init} is trained further; set "
                "one of the two to null"
            )
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        return self

    @model_validator(mode="after")
    def _epochs_that_come(self) -> Teacher:
        kept = [epoch for epoch in sorted(set(self.snapshots)) if epoch <= self.epochs]
        if kept != list(self.snapshots):
            kept = kept or [self.epochs]
            raise ValueError(
                f"snapshots must be rising epochs of the {self.epochs} that the training has, such as "
                f"{kept}, got {list(self.snapshots)}"
            )
        return self
