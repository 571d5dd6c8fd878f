"""What a run folder holds: each stage, how much of it is done, and how much there is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..bank import store
from ..config import CONTROL, FULL, RANDOM_REAL, Recipe
from ..errors import InputError
from ..recover import all_units, speakers
from .folder import MANIFEST, RECIPE
from .student_stage import LEFT_OUT


@dataclass(frozen=True)
class Progress:
    """A stage with its finished and all its parts, and what a part is; total is None where that is not known yet."""

    stage: str
    done: int
    total: int | None
    unit: str

    def __str__(self) -> str:
        state = "done" if self.done == self.total else "to do" if not self.done else "in part"
        return (
            f"{self.stage:<28} {state:<8} {self.done}/{'?' if self.total is None else self.total} {self.unit}"
        )


def status(folder: Path) -> list[Progress]:
    """The stages of a run in order; reads names of files, not their content.

    Raises:
        InputError: no run folder.
    """
    try:
        recipe = Recipe.model_validate(yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{folder} is no run folder: it has no {RECIPE} of a run") from error
    _, classes = _bank(folder, "")
    rows = []
    for suffix in ("", *(f"-{name}" for name in recipe.committee)):
        taught = int((folder / f"teacher{suffix}.safetensors").is_file())
        rows += [Progress(f"squeeze{suffix}", taught, 1, "teacher"), _bank(folder, suffix)[0]]
    for arm in (CONTROL, *recipe.arms):
        rows.append(
            Progress(f"recover {arm}", *_units(folder / "recover" / arm, recipe, arm, classes), "units")
        )
        rows.append(
            Progress(f"students {arm}", _files(folder / "students" / arm), recipe.student.seeds, "students")
        )
    if _facts(folder).get(LEFT_OUT, "") is None:
        rows.append(
            Progress(f"students {FULL}", _files(folder / "students" / FULL), recipe.student.seeds, "students")
        )
    rows.append(Progress("report", int((folder / "report.html").is_file()), 1, "page"))
    return rows


def _facts(folder: Path) -> dict[str, Any]:
    """The manifest; empty where a run was killed before it had one."""
    file = folder / MANIFEST
    return json.loads(file.read_text()) if file.is_file() else {}


def _files(folder: Path) -> int:
    return len(list(folder.glob("[!.]*.json")))


def _bank(run: Path, suffix: str) -> tuple[Progress, int | None]:
    """Finished classes, and how many classes there are."""
    stage, folder = f"bank{suffix}", run / f"bank{suffix}"
    done = sum(shard.last - shard.first + 1 for shard in store.shards(folder))
    for name in (store.MANIFEST, store.PLAN):
        if (folder / name).is_file():
            total = len(json.loads((folder / name).read_text())["classes"])
            return Progress(stage, done, total, "classes"), total
    return Progress(stage, done, None, "classes"), None


def _units(folder: Path, recipe: Recipe, arm: str, classes: int | None) -> tuple[int, int | None]:
    done = len(list(folder.glob("unit_*.json")))
    method, size = {CONTROL: RANDOM_REAL, **recipe.arms}[arm], recipe.recover.unit_images
    planned: dict[str, Any] = (
        json.loads((folder / "plan.json").read_text()) if (folder / "plan.json").is_file() else {}
    )
    size = planned.get("unit_images", size)
    if classes is None or size == "auto":
        return done, None
    teachers = speakers(method, 1 + len(recipe.committee))
    return done, len(all_units(method, recipe.ipc, classes, teachers, size))
