"""A run described by typed, validated values.

The types below are the whole vocabulary: every recipe, override and Python call is checked against
them, and an unknown key is an error that names the nearest known one. Lengths are in pixels, times in
optimization steps, and rates and weights are plain numbers.
"""

from .base import All, Config, Count, LayerKind, Layers, Precision
from .controls import CONTROL, FULL, RANDOM_REAL
from .data import Data, Teacher
from .experts import Experts
from .labels import Labels
from .method import RDED, Augment, BatchSize, EarlyLate, Formation, Method, Offset, Perturb, Save
from .recipe import Bank, Metrics, Recipe, Recover, as_plain
from .student import RandAugment, Student
from .sweep import Point, Sweep
from .terms import Terms

__all__ = [
    "CONTROL",
    "FULL",
    "RANDOM_REAL",
    "RDED",
    "All",
    "Augment",
    "Bank",
    "BatchSize",
    "Config",
    "Count",
    "Data",
    "EarlyLate",
    "Experts",
    "Formation",
    "Labels",
    "LayerKind",
    "Layers",
    "Method",
    "Metrics",
    "Offset",
    "Perturb",
    "Point",
    "Precision",
    "RandAugment",
    "Recipe",
    "Recover",
    "Save",
    "Student",
    "Sweep",
    "Teacher",
    "Terms",
    "as_plain",
]
