"""How soft labels are stored, where the students' labels are `stored`, and which teachers label."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Config, Count
from .student import Student


class Labels(Config):
    """Stored labels. How views look, and the teachers' mode, are the students' protocol's. `teachers` and
    `average` hold for labels that are not stored too."""

    per: Literal["image", "view"] = "image"
    """image: one label of each image as it is; view (FKD): one label of each sample in each epoch as a
    student sees it, cropped, flipped and mixed"""
    form: Literal["fp16", "bf16", "topk", "int8", "int4", "lowrank", "pq"] = "fp16"
    """view: how logits are stored; 2 bytes a class, the k largest and one number for the rest, 1 or 1/2
    byte; lowrank: of each image's views their mean and the `rank` directions in which they differ most; pq:
    a product quantizer, `codes` bytes a label"""
    topk: Count = 10
    """number of classes that topk keeps"""
    rest: Literal["spread", "none"] | None = None
    """topk: what the other classes get. spread: the probability that is left at the student's temperature,
    in equal shares, which is right at that temperature alone; none: nothing, so that the probabilities are
    those of the kept classes alone (LPQLD's MR-k). null: none with student.temperature_schedule, else
    spread"""
    rank: Count = 2
    """number of directions that lowrank keeps of an image's views; less than there are views"""
    codes: Count = 8
    """pq: number of runs into which the classes are cut, a byte each; at most one a class"""
    epochs: Count | None = None
    """view: number of epochs that are labelled; null: as many as a student trains"""
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    """view: share of the labelling batches that is kept (LPLD's pruning)"""
    choice: Literal["first", "random"] = "first"
    """which batches are kept: the first ones, as LPLD released, or a seeded choice"""
    replay: Literal["shuffle", "cycle", "draw", "once"] = "shuffle"
    """what an epoch of training sees. shuffle: all samples of one labelled epoch, in a new order and in the
    student's batches; cycle: the kept batches in turn; draw: kept batches drawn with replacement, as LPLD
    does; once: kept batches drawn without replacement, from anew when all are drawn, as LPQLD does"""
    views: Literal["seed", "stored"] = "seed"
    """seed: views are drawn again from the seed, and checked; stored: they are also written, for machines
    that draw other ones"""
    batch: Count | None = None
    """samples of a labelling batch; null: as many as in the student's batch"""
    mix_per: Literal["batch", "sample"] = "batch"
    """batch: a labelling batch shares one ratio and one box of the mixing; sample: every sample has its
    own"""
    order: Literal["seed", "fkd"] = "seed"
    """order of an epoch's samples. seed: a seeded permutation; fkd: the released loader's, for export to
    it"""
    teachers: Literal["first", "all"] = "first"
    """first: the run's teacher labels; all: the whole committee does, or of it what the arm names"""
    average: Literal["mean", "norm"] = "mean"
    """how several teachers' logits are averaged; norm: after scaling them to one Frobenius norm (G-VBSM)"""
    parts: Count = 1
    """number of parts of a batch that a teacher sees one by one, which matters in train mode; CV-DD has 2"""

    @model_validator(mode="after")
    def _form_has_its_views(self) -> Labels:
        if self.form in ("lowrank", "pq") and self.per == "image":
            raise ValueError(
                f"form {self.form} needs the labels of many views, but per is image, one label an image; set "
                "per to view"
            )
        if self.form == "lowrank" and self.keep < 1:
            raise ValueError(
                f"form lowrank needs all views of each image, but keep is {self.keep:g}; set keep to 1 or "
                "another form"
            )
        return self


def rest_of(labels: Labels, student: Student) -> Literal["spread", "none"]:
    """What topk gives the classes that it does not keep: ``rest``, or what suits the protocol."""
    if labels.rest is not None:
        return labels.rest
    return "spread" if student.temperature_schedule is None else "none"
