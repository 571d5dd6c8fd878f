"""Evaluate: students under one protocol, and diversity metrics."""

from .batches import Augmented, Batch, Batches
from .features import Extractor, embed, network_features, teacher_features
from .metrics import Diversity, diversity
from .protocol import protocol_hash, protocol_record, protocol_text
from .replay import Replayed
from .robust import AugmentationRobust, LabelRobust, augmentation_robust, label_robust
from .scores import Measured, Scores, measure
from .statistics import require_statistics, smallest_batch
from .student import Result, train_student

__all__ = [
    "AugmentationRobust", "Augmented", "Batch", "Batches", "Diversity", "Extractor", "LabelRobust", "Measured",
    "Replayed", "Result", "Scores", "augmentation_robust", "diversity", "embed", "label_robust", "measure",
    "network_features", "protocol_hash", "protocol_record", "protocol_text", "require_statistics", "smallest_batch",
    "teacher_features", "train_student",
]  # fmt: skip
