"""Teachers: networks by name, squeeze, weights and cards, and taps."""

from .load import Card, Teacher, fingerprint, load_teacher, save_teacher
from .networks import build, outline
from .squeeze import accuracy, squeeze
from .taps import Features, Taps, layer_names

__all__ = [
    "Card", "Features", "Taps", "Teacher", "accuracy", "build", "fingerprint", "layer_names", "load_teacher",
    "outline", "save_teacher", "squeeze",
]  # fmt: skip
