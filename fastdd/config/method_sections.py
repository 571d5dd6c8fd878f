"""The sections of a method: batches, augmentation, formation, stages, and what some methods alone have."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from .base import All, BelowOne, Border, Config, Count, Positive, Probability, Text, Whole


class BatchSize(Config):
    """How many classes, and how many images of each, the method optimizes as one batch.

    Statistics of a batch (``bn.target: global``) span all of its images, statistics of a class those of one
    class in it.
    """

    classes: Count | All = "all"
    """classes of a batch; all: every class of the data set"""
    slots: Count | All = 1
    """images of each class; a slot is the number of an image within its class"""


class Augment(Config):
    """Random crop, flip and roll at every step."""

    per_image: bool = False
    """true: each image has a draw of its own; false: the images of a batch share one, as in all released
    code"""
    scale: tuple[Probability, Probability] | None = None
    """range of the crop's area, as a share of the image's, before it is resized; null: no resized crop"""
    curriculum: Literal["none", "step", "linear", "cosine"] = "none"
    """how the low end of ``scale`` falls from the high end to its value over the steps (CDA). none: it has
    its value from the start; step: it falls at the milestone; linear: on a line; cosine: on half a cosine"""
    milestone: Positive = 1.0
    """share of the steps after which the curriculum has ended"""
    flip: Probability = 0.0
    """probability of a horizontal flip"""
    pad: Border = 0
    """pixels of the mean color added on each side before a random crop of the image's size; 0: no such
    crop"""
    cutout: BelowOne = 0.0
    """side of a rectangle of the mean color around any pixel, as a share of the image's, after all else;
    0: there is none"""
    roll: tuple[Whole, Whole] = (0, 4)
    """range in pixels of a cyclic shift, both ends included, drawn for each axis"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augment:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if self.curriculum != "none" and self.scale is None:
            raise ValueError(
                "curriculum changes the crop's scale, but scale is null; give scale as [low, high]"
            )
        if self.pad and self.scale is not None:
            raise ValueError(
                f"pad and scale are two kinds of crop, got pad {self.pad} and scale {list(self.scale)}; set "
                "pad to 0 or scale to null"
            )
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [low, high] with low <= high, got {list(self.roll)}")
        return self


class Perturb(Config):
    """DWA: before the first step of a batch the teacher's weights climb the cross-entropy of that batch."""

    steps: Count = 12
    """ascent steps before the first step on the images"""
    rho: Positive = 0.015
    """largest L2 distance of all weights together from the teacher's, after all steps"""
    restore: bool = True
    """true: every batch starts from the teacher's weights; false: it starts from where the batches before it
    in its slots have led, as in the released code"""
    accumulate: bool = False
    """true: the first gradient of the images also holds that of the cross-entropy of each ascent step, which
    the released code never clears; false: it is that of the terms alone"""


class RDED(Config):
    """RDED: initial images tiled from crops of real images that the teacher chooses."""

    factor: Count | Literal["auto"] = "auto"
    """crops along a side; auto: 2 for images of more than 64 pixels, else 1"""
    images: Count = 300
    """real images of each class that crops are drawn from, a seeded choice"""
    crops: Count = 5
    """crops drawn from each real image; the one with the lowest loss is kept"""
    area: tuple[Probability, Probability] = (0.08, 1.0)
    """range of a crop's area, as a share of its image's"""
    source: Literal["original", "center"] = "original"
    """what crops are cut from. original: whole images as they are stored, as in the released code; center:
    images as the run reads them, resized and cut to their center, at ``factor`` times the size"""
    rank: Literal["surest", "medium"] = "surest"
    """which of a class's crops are taken. surest: those with the lowest loss; medium: those nearest in rank
    to the median loss (SRe2L++)"""

    @model_validator(mode="after")
    def _range_rises(self) -> RDED:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area must be [low, high] with 0 < low <= high, got {list(self.area)}")
        return self


class EarlyLate(Config):
    """DELT: the slots of a class join the optimization in groups, one a round, and stay to the end."""

    rounds: Count = 8
    """rounds of equal length that the steps are divided into"""


class Offset(Config):
    """INFER: the steps optimize offsets of real images, one a slot and teacher that all classes share."""

    before_last_step: bool = True
    """true: images are kept with the offset that the last step started from, as in the released code; false:
    with the offset after it"""


class Residual(Config):
    """FADRM: after each stage but the last, the images are blended with real ones (recover/stages.py)."""

    stages: Count = 4
    """number of stages that the steps are divided into"""
    alpha: Probability = 0.5
    """share of the optimized image in a blend; the real image has the rest"""
    reset: bool = True
    """true: the optimizer's moments are 0 again after each blend, as in the released code; false: they go
    on"""
    anchor: Literal["initial", "nearest", "unused"] = "initial"
    """real image that a slot is blended with. initial: the one that it started from; nearest: the one of its
    class that is nearest to what the image is by then, in the teacher's embeddings; unused: likewise, without
    those that another slot of the class started from, or another slot of the batch was blended with"""


class Formation(Config):
    """Several images stored in the pixels of one (distilled/formation.py)."""

    kind: Literal["frequencies", "zoom", "cells"] = "frequencies"
    """frequencies: the low frequencies of each; zoom (IDC) and cells (CIM): each is a tile of the stored
    image, which is enlarged. The two cut sides that the tiles do not divide in different ways
    (distilled/tiles.py). cells also puts what ``init`` ranks first into the first tiles of all stored images
    of a class, what comes next into the second tiles, and so on"""
    images: Count = 4
    """images in a stored one; students see this many times ``ipc`` images a class. zoom, cells: a square
    number, 4 for 2 x 2 tiles"""
    luma: Probability | None = None
    """frequencies: side of the block of frequencies kept of the brightness, as a share of the image's side;
    null: 0.75. zoom, cells: null"""
    chroma: Probability | None = None
    """frequencies: the same of the two color differences, which images of one channel do not have; null:
    0.25. zoom, cells: null"""

    @property
    def shares(self) -> tuple[float, float]:
        """frequencies: ``luma`` and ``chroma``, with what null means."""
        return 0.75 if self.luma is None else self.luma, 0.25 if self.chroma is None else self.chroma

    @property
    def tiled(self) -> bool:
        """Whether the images are tiles of a stored one."""
        return self.kind != "frequencies"

    @property
    def factor(self) -> int:
        """zoom, cells: tiles along a side of a stored image."""
        return math.isqrt(self.images)

    @model_validator(mode="after")
    def _tiles_form_a_square(self) -> Formation:
        if not self.tiled:
            return self
        if self.factor**2 != self.images:
            raise ValueError(
                f"kind {self.kind} stores f x f images in one, got images {self.images}; set it to 4 or 9, "
                "or another square number"
            )
        for key in ("luma", "chroma"):
            if (share := getattr(self, key)) is not None:
                raise ValueError(
                    f"kind {self.kind} keeps no frequencies, got {key} {share}; leave luma and chroma out or "
                    "set them to null"
                )
        return self


class Save(Config):
    """How recovered images are written."""

    format: Literal["png", "jpeg"] = "png"
    """png is lossless; most released code writes jpeg"""
    quality: Annotated[int, Field(ge=1, le=100)] = 75
    """quality of JPEG, 1 to 100; PNG ignores it"""
    rounding: Literal["round", "truncate"] = "round"
    """how values become whole grey levels; released code truncates"""


class GivenViews(Config):
    """Labels of the views of a finished set that came with it."""

    path: Text
    """folder of labels that fastdd stored, or of the released FKD layout"""
    fingerprint: Text
    """sha256 of the names and sizes of its files and of the first one"""


class Given(Config):
    """A finished set, whose images the arm takes as they are (`fastdd judge`)."""

    path: Text
    """folder of the set, in any layout that `fastdd evaluate` reads"""
    arm: Text | None = None
    """the arm, of a run; null: the set is no run's"""
    fingerprint: Text
    """sha256 of the images that are taken, with their classes and soft labels; another set in the folder's
    place is refused"""
    labels: bool = False
    """true: the set has a soft label of each image, which students with stored labels learn; false: the
    teacher makes them"""
    views: GivenViews | None = None
    """labels of its views, which students of a kind of their own learn (`student_views`); null: none came"""

    @model_serializer(mode="wrap")
    def _without_absent_views(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        values: dict[str, object] = handler(self)
        return {name: value for name, value in values.items() if name != "views" or value is not None}
