"""Evaluate: students under one protocol, and diversity metrics."""

from .metrics import Diversity, diversity, embed
from .student import Result, protocol_hash, protocol_text, train_student

__all__ = ["Diversity", "Result", "diversity", "embed", "protocol_hash", "protocol_text", "train_student"]
