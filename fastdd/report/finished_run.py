"""A finished run, read back from its folder: everything the page shows, checked before anything is drawn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import CONTROL, RANDOM_REAL, Method, Recipe
from ..config.naming import label_words, student_titles
from ..config.student import regime_of
from ..distilled.fingerprint import require_same_images
from ..experts import ExpertBuffer
from ..run_folder import (
    ArmResult,
    Manifest,
    Metrics,
    RunFolder,
    TensorFile,
    UnitLog,
    damaged,
    read,
    read_manifest,
    read_recipe,
    read_text,
    require_run,
)
from ..run_folder.manifest import require_unedited_results
from ..runtime.console import counted
from .sheets import Tile

SHOWN_CLASSES = 20
SHOWN_SLOTS = 10

Losses = dict[str, list[tuple[int, float]]]
"""(step, value) of each term, by rising step"""


@dataclass(frozen=True)
class FinishedArm:
    """One arm of a finished run.

    Attributes:
        key: its name in the recipe; ``random`` is the control.
        label: its title, followed by its key where two arms share a title, and of a set by ``(holds test
            images)`` where its accuracies say nothing.
        index: its place among the arms, 0 for the control; it picks color and marker.
        losses: each term averaged over the units; empty where none were recorded.
        seconds: time of its recovery; None for the control.
    """

    key: str
    label: str
    index: int
    result: ArmResult
    method: Method
    losses: Losses
    seconds: float | None

    @property
    def control(self) -> bool:
        """Whether the arm is the control of random real images."""
        return self.key == CONTROL

    @property
    def settings(self) -> str:
        """How the images were made, such as ``noise start, 400 steps, lr 0.1``; empty for the control."""
        if self.control:
            return ""
        method = self.method
        if method.given is not None:
            return "a finished set, taken as it is"
        start = f"{method.init} start"
        if method.candidates is not None:
            start = f"{method.init} of {Path(method.candidates).name}"
        text = f"{start}, {counted(method.steps, 'step')}, lr {method.lr:g}"
        if method.residual is not None:
            text += f", blended with real images {counted(method.residual.stages - 1, 'time')}"
        if method.sizes is not None:
            text += f", at {', '.join(map(str, method.sizes))} pixels"
        if method.formation is not None:
            how = "as tiles" if method.formation.tiled else "in the pixels"
            text += f", {method.formation.images} images {how} of one"
        return text


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        recipe_text: the resolved recipe as it is written.
        arms: the control, then the recipe's arms.
        experts: test accuracy, a fraction, of each expert that the run trained after each epoch from 0.
        embeddings: the teacher's embeddings, float16 [N, D]: those of the real images (``real``, with
            ``real_labels``) and one array an arm.
    """

    folder: RunFolder
    recipe: Recipe
    recipe_text: str
    manifest: Manifest
    metrics: Metrics
    arms: list[FinishedArm]
    experts: list[list[float]]
    embeddings: dict[str, np.ndarray]

    @property
    def students(self) -> dict[str, str]:
        """Network and labels of each kind of students by name; those of the section ``student`` are first,
        under an empty name. Kinds that only store their labels otherwise are in ``label_rates``."""
        return student_titles(self.recipe.shown_students)

    @property
    def label_rates(self) -> dict[str, str]:
        """How each kind of students of ``student_labels`` has its labels stored, in words, by name."""
        recipe = self.recipe
        return {name: label_words(own, recipe.students[name]) for name, own in recipe.label_rates.items()}

    @property
    def judged(self) -> bool:
        """Whether all sets are finished ones that were given (`fastdd judge`)."""
        return self.recipe.is_judgement

    @property
    def regimes(self) -> int:
        """In how many regimes students learn."""
        return len({regime_of(each) for each in self.recipe.all_students.values()})

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """The classes that fit on a page: the first 20."""
        return self.metrics.classes[:SHOWN_CLASSES]

    @property
    def shown_slots(self) -> int:
        """Images of a class that fit on a page and that every arm has: at most ten."""
        return min(self.metrics.ipc, SHOWN_SLOTS, *(arm.result.seen for arm in self.arms))

    def image(self, arm: FinishedArm, class_name: str, slot: int) -> Tile:
        """One image of an arm."""
        formation, number, place = arm.method.formation, slot, 0
        if formation is not None:
            number, place = divmod(slot, formation.images)
        file = self.folder.image(arm.key, class_name, number, arm.method.save.format)
        return Tile(file, formation, place)


def read_run(path: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        InputError: the folder or a file in it is missing, damaged or of another version, or the results are
            of other images; it is named.
    """
    folder = require_run(path)
    manifest, recipe = read_manifest(folder), read_recipe(folder)
    metrics = read(folder.metrics, Metrics)
    if recipe.is_judgement:
        require_unedited_results(folder.metrics)
    if next(iter(metrics.arms), None) != CONTROL:
        raise damaged(folder.metrics, f"the control {CONTROL!r} is not the first of its arms")
    if unknown := metrics.arms.keys() - {CONTROL, *recipe.arms}:
        raise damaged(folder.metrics, f"the recipe has no arm {min(unknown)!r}")
    _check_students(folder, recipe, metrics)
    require_same_images(folder, recipe, metrics)
    return FinishedRun(
        folder=folder,
        recipe=recipe,
        recipe_text=read_text(folder.recipe),
        manifest=manifest,
        metrics=metrics,
        arms=_arms(folder, recipe=recipe, manifest=manifest, metrics=metrics),
        experts=ExpertBuffer(folder.experts).accuracies().tolist() if folder.experts.is_dir() else [],
        embeddings=_embeddings(folder.embeddings, metrics),
    )


def _check_students(folder: RunFolder, recipe: Recipe, metrics: Metrics) -> None:
    """Refuse results that lack some of the recipe's further students, or have others."""
    every = set(recipe.students)
    results = {"students": (every, set(metrics.students))}
    for arm, result in metrics.arms.items():
        wanted = {name for name in recipe.students if recipe.learns(name, arm)}
        results[f"arms.{arm}.students"] = (wanted, set(result.students))
    if metrics.full_set is not None:
        results["full_set.students"] = (every, set(metrics.full_set.students))
    for key, (wanted, found) in results.items():
        if odd := wanted ^ found:
            raise damaged(folder.metrics, f"{key} and the recipe's students differ in {min(odd)!r}")


def _arms(folder: RunFolder, *, recipe: Recipe, manifest: Manifest, metrics: Metrics) -> list[FinishedArm]:
    titles = [result.title or key for key, result in metrics.arms.items()]
    arms = []
    for index, (key, result) in enumerate(metrics.arms.items()):
        title = titles[index]
        label = title if titles.count(title) < 2 else f"{title} ({key})"
        work = manifest.stages.get(f"recover {key}")
        arms.append(
            FinishedArm(
                key=key,
                label=f"{label} (holds test images)" if result.leaks and key != CONTROL else label,
                index=index,
                result=result,
                method=recipe.arms.get(key, RANDOM_REAL),
                losses=_losses(folder, key),
                seconds=None if key == CONTROL or work is None else work.seconds,
            )
        )
    return arms


def _losses(folder: RunFolder, arm: str) -> Losses:
    """Each term averaged over the units that recorded a step."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for file in folder.units(arm):
        for step, terms in read(file, UnitLog).by_step():
            for term, value in terms.items():
                values[term][step].append(value)
    return {
        term: [(step, sum(units) / len(units)) for step, units in sorted(steps.items())]
        for term, steps in values.items()
    }


def _embeddings(file: Path, metrics: Metrics) -> dict[str, np.ndarray]:
    """The embeddings, as many rows as there are images and all of them finite."""
    stored, labels = TensorFile(file), "real_labels"
    rows = {key: len(metrics.classes) * result.seen for key, result in metrics.arms.items()}
    stored.require({"real": (-1, -1)})
    count, width = stored.shapes["real"]
    stored.require({labels: (count,)}, integers=(labels,))
    stored.require({arm: (count, width) for arm, count in rows.items()})
    arrays = {name: tensor.numpy() for name, tensor in stored.tensors().items()}
    if not count or not 0 <= arrays[labels].min() <= arrays[labels].max() < len(metrics.classes):
        raise damaged(file, f"{labels!r} holds numbers of no class")
    return arrays
