"""Evaluation of distilled sets: students under one protocol, with controls, and metrics of diversity."""

from .batches import (
    AugmentedBatches,
    ReplayedBatches,
    StudentBatch,
    StudentBatches,
    check_batch_norm,
    smallest_batch,
)
from .features import Extractor, batch_of, embed, network_features, teacher_features
from .learner import StudentCheckpoint
from .protocol_text import protocol_hash, protocol_record, protocol_text
from .scores import Diversity, Scores, SetScores, diversity, measure
from .student import TrainedStudent, train_student

__all__ = [
    "AugmentedBatches",
    "Diversity",
    "Extractor",
    "ReplayedBatches",
    "Scores",
    "SetScores",
    "StudentBatch",
    "StudentBatches",
    "StudentCheckpoint",
    "TrainedStudent",
    "batch_of",
    "check_batch_norm",
    "diversity",
    "embed",
    "measure",
    "network_features",
    "protocol_hash",
    "protocol_record",
    "protocol_text",
    "smallest_batch",
    "teacher_features",
    "train_student",
]
