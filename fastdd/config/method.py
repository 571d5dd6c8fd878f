"""What recover optimizes: initial images, batches, augmentation, terms and schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import All, BelowOne, Config, Count, Positive, Probability
from .terms import Terms


class Batch(Config):
    """What the method itself calls a batch: global statistics span it, class statistics its classes."""

    classes: Count | All = "all"
    slots: Count | All = 1


class Augment(Config):
    """Random crop, flip and roll at every step."""

    per_image: bool = False
    """false: one draw a batch and step, shared by its images, as in all released code"""
    scale: tuple[Probability, Probability] | None = None
    """area range of a random resized crop; null: no crop"""
    curriculum: Literal["none", "step", "linear", "cosine"] = "none"
    """CDA: the low end of scale starts at the high end and falls to its value, at once or on a line or half cosine"""
    milestone: Positive = 1.0
    """part of the steps after which the curriculum has ended"""
    flip: Probability = 0.0
    pad: Annotated[int, Field(ge=0)] = 0
    """random crop of the image's own size after padding by this many pixels of the mean color"""
    roll: tuple[int, int] = (0, 4)
    """shift range in pixels, both ends included, drawn for each axis"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augment:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be [low, high] with 0 < low <= high, got {list(self.scale)}")
        if self.curriculum != "none" and self.scale is None:
            raise ValueError(
                "curriculum is of the crop's scale, but scale is null; give scale as [low, high]"
            )
        if self.pad and self.scale is not None:
            raise ValueError(
                f"pad and scale are two kinds of crop, got pad {self.pad} and scale {list(self.scale)}"
            )
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll must be [low, high] with low <= high, got {list(self.roll)}")
        return self


class Perturb(Config):
    """DWA: before the first step of a batch the teacher's weights climb the cross-entropy of that batch."""

    steps: Count = 12
    rho: Positive = 0.015
    """largest distance from the teacher's weights, in all"""
    restore: bool = True
    """false: as released, a teacher carries the climbs of the earlier batches of its slots on"""


class Mosaic(Config):
    """RDED: initial images put together from the crops of real ones that the teacher is surest of."""

    factor: Count | Literal["auto"] = "auto"
    """crops along a side; auto: 2 for images of more than 64 pixels, else 1"""
    images: Count = 300
    """real images a class that are looked at, a seeded choice"""
    crops: Count = 5
    """of each, of which the best one remains"""
    area: tuple[Probability, Probability] = (0.08, 1.0)
    """of a crop, as a part of its image: the range"""

    @model_validator(mode="after")
    def _range_rises(self) -> Mosaic:
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area must be [low, high] with 0 < low <= high, got {list(self.area)}")
        return self


class EarlyLate(Config):
    """DELT: the slots of a class join the optimization in groups, one a round, and stay to the end."""

    rounds: Count = 8


class Offset(Config):
    """INFER: what is optimized is an offset, shared by the real images of a batch, one for each slot and teacher."""

    before_last_step: bool = True
    """as released, images are kept with the offset that the last step started from"""


class Formation(Config):
    """Several images in the pixels of one, as their low frequencies (distilled/formation.py)."""

    images: Count = 4
    """in a stored image, so students see so many times as many as ipc says"""
    luma: Probability = 0.75
    """side of what is kept, as a part of the image's"""
    chroma: Probability = 0.25
    """of images with colors"""


class Save(Config):
    """How recovered images are written."""

    format: Literal["png", "jpeg"] = "png"
    """png is lossless; jpeg is what most released code writes"""
    quality: Annotated[int, Field(ge=1, le=100)] = 75
    """of jpeg"""
    rounding: Literal["round", "truncate"] = "round"
    """to whole grey levels; truncate is what released code does"""


class Method(Config):
    """What recover optimizes: initial images, batches, augmentation, terms and schedule."""

    title: str = ""
    init: Literal["noise", "real", "confident", "medium", "kmeans", "herding", "rded"] = "noise"
    """real: a random choice; then four choices by rank of the teacher's probability or place among the embeddings"""
    rded: Mosaic = Mosaic()
    batch: Batch = Batch()
    augment: Augment = Augment()
    terms: Terms = Field(default_factory=Terms)
    perturb: Perturb | None = None
    ensemble: Count | Literal["first", "all", "round_robin"] = "first"
    """which of several teachers a step listens to. first: the run's own; all; round_robin: one after the other; or a
    number of teachers that are drawn anew for each step"""
    early_late: EarlyLate | None = None
    offset: Offset | None = None
    formation: Formation | None = None
    save: Save = Save()
    steps: Annotated[int, Field(ge=0)] = 1000
    lr: Positive = 0.25
    betas: tuple[BelowOne, BelowOne] = (0.5, 0.9)

    @model_validator(mode="after")
    def _something_to_optimize(self) -> Method:
        if self.steps and not self.terms:
            raise ValueError(
                "terms are all null: give at least one, or set steps to 0 to keep the initial images"
            )
        if self.perturb is not None and self.augment.pad:
            raise ValueError(
                f"perturb climbs on images without padding, got augment.pad {self.augment.pad}; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Method:
        if self.early_late is not None and self.batch.slots != "all":
            raise ValueError(
                f"early_late cuts the slots of a class into groups, so a batch holds all of them: set batch.slots to "
                f"all, got {self.batch.slots}"
            )
        if self.offset is not None and self.init == "noise":
            raise ValueError(
                "offset is added to real images, but init is noise; set init to real or a selection"
            )
        if self.offset is not None and (self.early_late is not None or self.perturb is not None):
            raise ValueError("offset goes neither with early_late nor with perturb; set those to null")
        return self

    @model_validator(mode="after")
    def _whole_formations(self) -> Method:
        if self.formation is None:
            return self
        if self.offset is not None:
            raise ValueError("formation does not go with offset; set one of them to null")
        if self.save.format != "png":
            raise ValueError(f"formation needs exact bytes: set save.format to png, got {self.save.format}")
        if self.batch.slots != "all" and self.batch.slots % self.formation.images:
            raise ValueError(
                f"formation puts {self.formation.images} slots into an image, so a batch holds a multiple of them: set "
                f"batch.slots to all, got {self.batch.slots}"
            )
        return self
