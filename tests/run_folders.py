"""The files that say what a run is, with made-up values: manifest, recipe, index of the real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from fastdd.run_folder import FORMAT, DataSplit, Manifest, RunFolder, read_manifest, write
from fastdd.run_folder.manifest import settings_hash
from fastdd.run_folder.results import Machine, StageWork, Versions
from fastdd.runtime.files import write_json, write_text


def write_manifest(run: RunFolder, stages: Mapping[str, StageWork] | None = None) -> None:
    """manifest.json of a run of this version on an imaginary machine."""
    manifest = Manifest(
        format=FORMAT,
        fastdd="0.2.0",
        versions=Versions(torch="2.11.0", python="3.12.1"),
        machine=Machine(cpu="Abacus <9>", cores=None, threads=2, device="cpu"),
        recipe_hash="5ca1ab1e",
        fingerprints={"train": "f00d" * 16, "code": "c0de" * 16},
        stages=dict(stages or {}),
        full_set_left_out=None,
    )
    write(run.manifest, manifest)


def write_recipe(run: RunFolder, recipe: Mapping[str, object]) -> None:
    """recipe.yaml; keys that are not given have their defaults."""
    write_text(run.recipe, yaml.safe_dump(dict(recipe)))


def begin_with(run: RunFolder, recipe: Mapping[str, object]) -> None:
    """Make recipe and manifest of a finished run say that it began with this recipe."""
    write_recipe(run, recipe)
    write(run.manifest, read_manifest(run).model_copy(update={"settings_hash": settings_hash(dict(recipe))}))


def write_splits(run: RunFolder, classes: Sequence[str], images: int = 1234) -> None:
    """data.json of a training split and an equal test split."""
    split = DataSplit(
        layout="ImageFolder",
        split="train",
        images=images,
        classes=tuple(classes),
        counts=tuple(images // len(classes) for _ in classes),
        fingerprint="f00d",
        fingerprint_of="names",
    )
    splits = (split, split.model_copy(update={"split": "test"}))
    write_json(run.data, [each.model_dump(mode="json") for each in splits])


def make_run_folder(path: Path, recipe: Mapping[str, object], classes: Sequence[str]) -> RunFolder:
    """A run folder that has come as far as to know its recipe and its real images."""
    run = RunFolder(path)
    write_recipe(run, recipe)
    write_manifest(run)
    write_splits(run, classes)
    return run
