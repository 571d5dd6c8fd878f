"""Add a term of one's own to the objective: total variation, which keeps recovered images smooth.

    python examples/own_term.py

It runs in seconds on the built-in digits: SRe2L with and without the term, and how rough the images are.
"""

import tempfile
from pathlib import Path
from typing import ClassVar

from torch import Tensor

import fastdd
from fastdd.config import Config
from fastdd.distilled import open_set
from fastdd.recover import Term, Unit
from fastdd.teachers import Features


class TotalVariation(Config):
    """The section ``terms.tv`` of a recipe."""

    weight: float = 0.1


class TotalVariationTerm(Term[TotalVariation, None]):
    """Mean absolute difference of neighboring pixels, summed over the images (Rudin et al., 1992)."""

    configuration = TotalVariation
    labels: ClassVar = {"tv": "total variation"}  # what figures call its values

    def targets(self, unit: Unit) -> None:
        """It compares with nothing; other terms return tensors of the unit's classes here."""

    def __call__(self, features: Features, images: Tensor, targets: None) -> dict[str, Tensor]:
        down, right = images.diff(dim=2).abs(), images.diff(dim=3).abs()
        return {"tv": self.config.weight * (down.mean((1, 2, 3)) + right.mean((1, 2, 3))).sum()}


fastdd.register_term("tv", TotalVariationTerm)

RECIPE = """
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 3, pad: 1, flip: 0.0}
method: {steps: 100, augment: {roll: [-1, 1]}}
arms: {plain: {method: sre2l}, smooth: {method: sre2l, terms: {tv: {weight: 0.1}}}}
"""

with tempfile.TemporaryDirectory() as folder:
    recipe = Path(folder) / "smooth.yaml"
    recipe.write_text(RECIPE)
    run = fastdd.run(recipe, out=Path(folder) / "run", until="recover")
    for arm in ("plain", "smooth"):
        images = open_set(run.path, arm, channels=1).images
        print(arm, round(float(images.float().diff(dim=3).abs().mean()), 1))
