"""Evaluate: students under one protocol, and diversity metrics."""

from .batch_norm_check import require_statistics, smallest_batch
from .batches import Augmented, Batch, Batches
from .dd_ranking import AugmentationRobust, LabelRobust, augmentation_robust, label_robust
from .features import Extractor, embed, network_features, teacher_features
from .protocol_text import protocol_hash, protocol_record, protocol_text
from .replay import Replayed
from .scores import Diversity, Measured, Scores, diversity, measure
from .student import Result, train_student

__all__ = [
    "AugmentationRobust",
    "Augmented",
    "Batch",
    "Batches",
    "Diversity",
    "Extractor",
    "LabelRobust",
    "Measured",
    "Replayed",
    "Result",
    "Scores",
    "augmentation_robust",
    "diversity",
    "embed",
    "label_robust",
    "measure",
    "network_features",
    "protocol_hash",
    "protocol_record",
    "protocol_text",
    "require_statistics",
    "smallest_batch",
    "teacher_features",
    "train_student",
]
