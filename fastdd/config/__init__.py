"""A run described by typed, validated values.

The types below are the whole vocabulary: every recipe, override and Python call is checked against
them, and an unknown key is an error that names the nearest known one. Lengths are in pixels, times in
optimization steps, and rates and weights are plain numbers.
"""

from .base import All, Config, Count, LayerKind, Layers, Precision
from .data import Data, Teacher
from .labels import Labels
from .matching import (
    Added,
    FeatureMatch,
    GradientMatch,
    Inner,
    KernelMatch,
    Match,
    Networks,
    Siamese,
    TrajectoryMatch,
)
from .method import BY_EMBEDDING, BY_SCORE, CONTROL, FULL, RANDOM_REAL, Method
from .method_sections import (
    RDED,
    Augment,
    BatchSize,
    EarlyLate,
    Formation,
    Given,
    GivenViews,
    Offset,
    Perturb,
    Residual,
    Save,
)
from .published import Published
from .recipe import Bank, Experts, Metrics, Point, Recipe, Recover, Sweep, Tracker, as_plain
from .student import RandAugment, Student, TemperatureSchedule
from .terms import Terms

__all__ = [
    "BY_EMBEDDING",
    "BY_SCORE",
    "CONTROL",
    "FULL",
    "RANDOM_REAL",
    "RDED",
    "Added",
    "All",
    "Augment",
    "Bank",
    "BatchSize",
    "Config",
    "Count",
    "Data",
    "EarlyLate",
    "Experts",
    "FeatureMatch",
    "Formation",
    "Given",
    "GivenViews",
    "GradientMatch",
    "Inner",
    "KernelMatch",
    "Labels",
    "LayerKind",
    "Layers",
    "Match",
    "Method",
    "Metrics",
    "Networks",
    "Offset",
    "Perturb",
    "Point",
    "Precision",
    "Published",
    "RandAugment",
    "Recipe",
    "Recover",
    "Residual",
    "Save",
    "Siamese",
    "Student",
    "Sweep",
    "Teacher",
    "TemperatureSchedule",
    "Terms",
    "Tracker",
    "TrajectoryMatch",
    "as_plain",
]
