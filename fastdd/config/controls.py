"""What stands beside the arms of a recipe: the control of random real images, and the whole training set."""

from __future__ import annotations

from .method import BatchSize, Method
from .terms import Terms

CONTROL = "random"
"""name of the control of random real images, which every run has"""
RANDOM_REAL = Method(
    title="random real images", init="real", batch=BatchSize(slots="all"), terms=Terms.none(), steps=0
)
"""the method that makes those images: chosen, and not optimized"""
FULL = "full"
"""name of the reference: students of the whole real training set"""
