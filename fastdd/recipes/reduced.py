"""Arms that do less than their method declares, whose results are none of the method's.

What is compared is what runs and what the method's file declares for the data set and the images a class: the
steps, and the number of teachers. Images of no known data set have no declared values.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import Recipe
from ..config.origins import value_at
from ..methods import METHODS
from ..methods.declaration import SAME_IMAGES
from .arms import arm_values, base_method
from .presets import Document


def reduced_arms(recipe: Recipe, document: Document) -> dict[str, str]:
    """What each arm has less of than its method: arm -> text such as ``400 of the method's 4,000 steps``.

    Args:
        recipe: the resolved recipe, whose arms ``--add`` may have renamed.
        document: the recipe as it is written, on its data set.
    """
    if recipe.dataset is None:
        return {}
    found = {}
    for arm, method in recipe.arms.items():
        written = _written(arm, document)
        values = document.arms.get(written)
        if not isinstance(values, dict) or "method" not in values:
            continue
        declared = replace(document, method={}, arms={written: {"method": values["method"]}})
        steps = value_at(arm_values(written, declared, recipe.ipc), "steps")
        images = SAME_IMAGES.get(recipe.dataset, recipe.dataset)
        further = METHODS[base_method(str(values["method"]))].committee.get(images, {})
        used = recipe.committee if method.committee is None else method.committee
        parts = []
        if isinstance(steps, int) and method.steps < steps:
            parts.append(f"{method.steps:,} of the method's {steps:,} steps")
        if len(used) < len(further):
            parts.append(f"{len(used) + 1} of the method's {len(further) + 1} teachers")
        if parts:
            found[arm] = ", ".join(parts)
    return found


def _written(arm: str, document: Document) -> str:
    """The name that the recipe's file gives to an arm which additions may have renamed."""
    if arm in document.arms:
        return arm
    names = [name for name in document.arms if arm.startswith((f"{name}+", f"{name}-as-"))]
    return max(names, key=len, default=arm)
