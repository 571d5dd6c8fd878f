"""The arms that stand beside those of a recipe: random real images, and the whole real training set."""

from __future__ import annotations

from .method import Batch, Method
from .terms import Terms

CONTROL = "random"


RANDOM_REAL = Method(
    title="random real images", init="real", batch=Batch(slots="all"), terms=Terms.none(), steps=0
)
"""the control that is run beside every arm"""


FULL = "full"
"""the control of students of the whole real training set"""
