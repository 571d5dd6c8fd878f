"""A finished run folder, read back: everything the page shows, checked before anything is drawn.

A file that is absent or broken is one clear error that names it. Files are written whole or not at all, so an
absent file means an unfinished run, and the command that made the run finishes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..config import Formation, Sweep
from ..distilled.formation import formation_of
from ..errors import InputError
from .sheets import Tile

CONTROL = "random"
SHOWN_CLASSES = 20
SHOWN_SLOTS = 10

ARM_KEYS = {"title", "last", "best", "coverage", "vendi", "cosine", "vendi_by_class", "cosine_by_class"}
METRICS_KEYS = {"recipe", "description", "classes", "ipc", "seed", "data", "teacher", "protocol", "k", "arms"}
AGAIN = "start the same `fastdd run` command again, it continues where it stopped"

MANIFEST_KEYS = {"fastdd", "versions", "machine", "fingerprints", "recipe_hash", "stages"}

Losses = dict[str, list[tuple[int, float]]]
"""term -> (step, value) with steps rising"""


@dataclass(frozen=True)
class Arm:
    """One compared set.

    Attributes:
        label: its title, followed by its key where two arms share a title.
        index: 0 for the control; picks color and marker.
        metrics: its entry in metrics.json.
        settings: how its images were made, in a line; empty for the control.
        formation: of several images in the pixels of one; None where files hold one image each.
        losses: mean of each term over the units; empty where none were recorded.
        seconds: of its recovery; None for the control.
    """

    key: str
    label: str
    index: int
    metrics: dict[str, Any]
    settings: str
    formation: Formation | None
    losses: Losses
    seconds: float | None

    @property
    def control(self) -> bool:
        return self.key == CONTROL


@dataclass(frozen=True)
class WholeSet:
    """Students of the whole real training set: accuracies as fractions, one a seed."""

    title: str
    last: list[float]
    best: list[float]


@dataclass(frozen=True)
class Run:
    """What a run folder holds; the arms begin with the control, and sweep tells which lie on a grid.

    ``whole`` is None where the whole training set was left out, and in runs of before there was such a thing.
    """

    path: Path
    recipe_text: str
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    arms: list[Arm]
    embeddings: dict[str, np.ndarray]
    sweep: Sweep
    whole: WholeSet | None

    @property
    def classes(self) -> list[str]:
        return list(self.metrics["classes"])

    @property
    def shown_classes(self) -> list[str]:
        """The classes that fit on a page: the first 20."""
        return self.classes[:SHOWN_CLASSES]

    @property
    def ipc(self) -> int:
        return int(self.metrics["ipc"])

    @property
    def shown_slots(self) -> int:
        """The images of a class that fit on a page, and that every arm has: at most the first ten."""
        return min(self.ipc, SHOWN_SLOTS, *(self.stored(arm) for arm in self.arms))

    def stored(self, arm: Arm) -> int:
        """Images a class of an arm; runs of before there were other numbers than ipc do not say it."""
        return int(arm.metrics.get("stored", self.ipc))

    def image(self, arm: Arm, class_name: str, slot: int) -> Tile:
        number, place = divmod(slot, arm.formation.images) if arm.formation else (slot, 0)
        file = self.path / "images" / arm.key / class_name / f"{number:05d}.png"
        return Tile(file, arm.formation, place)


def read_run(path: Path) -> Run:
    """Read a finished run folder.

    Raises:
        InputError: the folder or a file in it is missing, unreadable or incomplete; it is named.
    """
    if not path.is_dir():
        raise InputError(f"run folder {path} does not exist; make it with `fastdd run RECIPE --out {path}`")
    recipe_text = _text(path / "recipe.yaml")
    recipe = _parse(path / "recipe.yaml", recipe_text, yaml.safe_load)
    manifest = _require(path / "manifest.json", _json(path / "manifest.json"), MANIFEST_KEYS)
    metrics = _require(path / "metrics.json", _json(path / "metrics.json"), METRICS_KEYS)
    for key, values in metrics["arms"].items():
        _require(path / "metrics.json", values, ARM_KEYS, f"arms.{key}.")
    if next(iter(metrics["arms"]), None) != CONTROL:
        raise InputError(
            f"{path / 'metrics.json'} does not list the control {CONTROL!r} first among its arms; {AGAIN}"
        )
    arms = _arms(path, metrics, manifest, recipe)
    whole = _whole(path / "metrics.json", metrics.get("full_set"))
    return Run(
        path,
        recipe_text,
        manifest,
        metrics,
        arms,
        _embeddings(path, metrics),
        _sweep(path, recipe, arms),
        whole,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing, so the run is not finished; {AGAIN}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and {AGAIN}") from error


def _parse(file: Path, text: str, parser: Callable[[str], Any]) -> Any:
    try:
        content = parser(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file} is damaged ({error}); delete it and {AGAIN}") from error
    return _require(file, content, set())


def _json(file: Path) -> Any:
    return _parse(file, _text(file), json.loads)


def _require(file: Path, content: Any, keys: set[str], prefix: str = "") -> Any:
    """content, if it is a mapping with all keys."""
    if not isinstance(content, dict):
        raise InputError(f"{file} must hold a mapping, got {type(content).__name__}; delete it and {AGAIN}")
    if missing := sorted(keys - content.keys()):
        raise InputError(f"{file} has no {prefix}{missing[0]}; delete it and {AGAIN}")
    return content


def _arms(path: Path, metrics: dict[str, Any], manifest: dict[str, Any], recipe: dict[str, Any]) -> list[Arm]:
    titles = [values["title"] for values in metrics["arms"].values()]
    arms = []
    for index, (key, values) in enumerate(metrics["arms"].items()):
        title = values["title"] or key
        label = title if titles.count(title) < 2 else f"{title} ({key})"
        method = (recipe.get("arms") or {}).get(key) or {}
        stage = manifest["stages"].get(f"recover {key}", {})
        seconds = None if key == CONTROL else stage.get("seconds")
        losses = _losses(path / "recover" / key)
        arms.append(Arm(key, label, index, values, _settings(method), formation_of(method), losses, seconds))
    return arms


def _whole(file: Path, values: Any) -> WholeSet | None:
    if values is None:
        return None
    _require(file, values, {"title", "last", "best"}, "full_set.")
    return WholeSet(values["title"], values["last"], values["best"])


def _sweep(path: Path, recipe: dict[str, Any], arms: list[Arm]) -> Sweep:
    """The section of the recipe; runs of before there were sweeps have none."""
    file = path / "recipe.yaml"
    try:
        sweep = Sweep.model_validate(recipe.get("sweep", {}))
    except ValidationError as error:
        raise InputError(f"{file}: the section sweep is damaged ({error}); {AGAIN}") from error
    if missing := sweep.points.keys() - {arm.key for arm in arms}:
        raise InputError(f"{file}: sweep.points.{min(missing)} is of no arm of metrics.json; {AGAIN}")
    return sweep


def _settings(method: dict[str, Any]) -> str:
    """For example ``noise start, 400 steps, lr 0.1``; what the recipe does not say is left out."""
    said = [
        f"{method['init']} start" if "init" in method else "",
        f"{method['steps']} steps" if "steps" in method else "",
        f"lr {method['lr']:g}" if "lr" in method else "",
        f"{method['formation']['images']} images in the pixels of one" if method.get("formation") else "",
    ]
    return ", ".join(part for part in said if part)


def _losses(folder: Path) -> Losses:
    """Terms averaged over the units that recorded a step."""
    values: dict[str, dict[int, list[float]]] = {}
    for file in sorted(folder.glob("unit_*.json")):
        for record in _require(file, _json(file), {"losses"})["losses"]:
            for term, value in record.items():
                if term != "step":
                    values.setdefault(term, {}).setdefault(int(record["step"]), []).append(float(value))
    return {
        term: [(step, sum(units) / len(units)) for step, units in sorted(steps.items())]
        for term, steps in values.items()
    }


def _embeddings(path: Path, metrics: dict[str, Any]) -> dict[str, np.ndarray]:
    file = path / "embeddings.safetensors"
    if not file.is_file():
        raise InputError(f"{file} is missing, so the run is not finished; {AGAIN}")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and {AGAIN}") from error
    _require(file, tensors, {"real", "real_labels", *metrics["arms"]})
    wanted = {"real": len(tensors["real_labels"])}
    for arm, values in metrics["arms"].items():
        wanted[arm] = len(metrics["classes"]) * values.get("stored", metrics["ipc"])
    for name, count in wanted.items():
        if len(tensors[name]) != count:
            raise InputError(
                f"{file}: {name!r} has {len(tensors[name])} rows, expected {count}; delete it and {AGAIN}"
            )
        if not np.isfinite(tensors[name]).all():
            raise InputError(
                f"{file}: {name!r} holds NaN or infinite values; check the teacher and start with --fresh"
            )
    return tensors
