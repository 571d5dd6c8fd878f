"""Experts: networks that learn from the real images; trajectories are made of their weights."""

from __future__ import annotations

from typing import Literal

from .base import Config, Count, Positive, Precision
from .matching import Siamese


class Experts(Config):
    """The networks whose trajectories are matched (MTT, TESLA), and how they are trained.

    Only arms with ``match.trajectory`` use them; the network is that of those arms. Learning rate, batch and
    augmentation are those of the released MTT code: SGD without momentum, decay or schedule.
    """

    path: str | None = None
    """another run, or its folder `experts`, whose finished experts are used as they are; null: the experts
    stage trains them"""
    count: Count = 100
    """experts, each from other random weights"""
    keep: Count | Literal["auto"] = "auto"
    """epochs that an expert is trained and its weights are kept. auto: as far as trajectories reach,
    latest_start - 1 + epochs, which changes nothing because the learning rate is constant"""
    images_per_class: Count | None = None
    """real images of each class that experts learn from, a seeded choice; null: all of them"""
    lr: Positive = 0.01
    """learning rate of SGD"""
    batch: Count = 256
    """images a step"""
    siamese: Siamese = Siamese()
    """augmentation: each step draws one of the operations, with parameters an image"""
    group: Count | Literal["auto"] = "auto"
    """experts trained together, which changes their weights by rounding alone. auto: 1 on a CPU, where one
    after another is faster, 10 on a GPU"""
    precision: Precision = "fp32"
    """arithmetic of the training; weights are float32"""
