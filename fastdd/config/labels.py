"""Soft labels that are stored for a student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Config, Count


class Labels(Config):
    """What is stored where the students' labels are `stored`; views, teacher mode and mixing are the protocol's."""

    per: Literal["image", "view"] = "image"
    """image: one label of each image as it is; view: one of each sample in each epoch as it is seen, cropped, flipped
    and mixed (FKD)"""
    form: Literal["fp16", "bf16", "topk", "int8", "int4"] = "fp16"
    """of the logits: 2 bytes a class, the k largest and one number for the rest, or one byte or half a byte a class"""
    topk: Count = 10
    """classes that topk keeps"""
    epochs: Count | None = None
    """view: epochs labelled; null: as many as a student trains"""
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    """view: share of the labelling batches that is kept (LPLD's pruning)"""
    choice: Literal["first", "random"] = "first"
    """of the batches that are kept: the first ones, as released, or a seeded choice"""
    replay: Literal["shuffle", "cycle", "draw"] = "shuffle"
    """what an epoch of training sees. shuffle: all samples of one labelled epoch, in an order and in batches of the
    student's; cycle: the kept batches in turn; draw: batches drawn from them with replacement, as LPLD does"""
    views: Literal["seed", "stored"] = "seed"
    """seed: views are drawn again, and checked; stored: also written, for machines that compute other crops"""
    batch: Count | None = None
    """samples of a labelling batch, which share what the mixing shares; null: the student's"""
    mix_per: Literal["batch", "sample"] = "batch"
    """who shares a ratio and a box of the mixing"""
    order: Literal["seed", "fkd"] = "seed"
    """of an epoch's labelling batches; fkd: the released loader's, for export in its layout"""
    teachers: Literal["first", "all"] = "first"
    """who labels: the run's teacher, or the whole committee"""
    average: Literal["mean", "norm"] = "mean"
    """of several teachers' logits; norm: brought to one Frobenius norm before (G-VBSM)"""
    parts: Count = 1
    """parts of a batch that a teacher sees one by one; CV-DD: 2, which matters to a teacher in train mode"""
