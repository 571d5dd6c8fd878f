"""Soft labels inside a run: by image and by view, who reads them, and what the protocol says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import fastdd
from fastdd.errors import InputError
from fastdd.labels import StoredLabels
from fastdd.runs.pipeline import RunResult

VIEWS = ["student.labels=stored", "labels.per=view", "labels.form=int8"]


@pytest.fixture
def images(finished: Path, tmp_path: Path) -> Path:
    """A run folder whose teacher, bank and images are there, of the recipe that the overrides make."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "students")
    for name in (
        "embeddings.safetensors",
        "metrics.json",
        "report.html",
        "recipe.yaml",
        "manifest.json",
        "log.jsonl",
    ):
        (out / name).unlink()
    return out


def begun(finished: Path, out: Path, overrides: list[str]) -> RunResult:
    fresh = out.with_name("begun")
    fastdd.run(finished.parent / "tiny.yaml", fresh, overrides, until="squeeze")
    for name in ("recipe.yaml", "manifest.json"):
        shutil.copy(fresh / name, out / name)
    return fastdd.run(finished.parent / "tiny.yaml", out, overrides)


def test_students_replay_labelled_views(finished: Path, images: Path, one_thread: None) -> None:
    result = begun(finished, images, VIEWS)
    assert "labels by view in int8" in result.metrics.protocol.text
    online = json.loads((finished / "metrics.json").read_text())["protocol"]
    assert result.metrics.protocol.hash != online["hash"]
    classes = len(result.metrics.classes)
    for arm in result.metrics.arms:
        stored = StoredLabels.open(images / "labels" / arm, classes=classes)
        views, logits = stored.get(stored.epochs[0], torch.arange(classes))
        assert logits.shape == (classes, classes)
        assert logits.isfinite().all()
        assert views.ids.tolist() == list(range(classes))
    first = (images / "students" / "deda" / "seed_0.json").read_bytes()
    (images / "students" / "deda" / "seed_0.json").unlink()
    (images / "metrics.json").unlink()
    fastdd.run(finished.parent / "tiny.yaml", images, VIEWS)
    assert (images / "students" / "deda" / "seed_0.json").read_bytes() == first


def test_labels_of_other_images_are_refused(finished: Path, images: Path, one_thread: None) -> None:
    begun(finished, images, VIEWS)
    shutil.rmtree(images / "labels" / "deda")
    shutil.copytree(images / "labels" / "random", images / "labels" / "deda")
    shutil.rmtree(images / "students" / "deda")
    with pytest.raises(InputError, match="of other images"):
        fastdd.run(finished.parent / "tiny.yaml", images, VIEWS)
