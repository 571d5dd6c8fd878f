"""The sets of a run: one for each arm, and what the run's folder says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml

from ..config import CONTROL
from ..errors import InputError, suggestion

RECIPE, MANIFEST = "recipe.yaml", "manifest.json"


def run_of(path: Path) -> tuple[Path, str | None] | None:
    """The run that a path belongs to, and the arm that it names; None for what is no run's.

    Args:
        path: RUN, RUN/images or RUN/images/ARM.
    """
    for run, arm in ((path, None), (path.parent, None), (path.parent.parent, path.name)):
        is_run = all((run / name).is_file() for name in (RECIPE, MANIFEST)) and (run / "images").is_dir()
        if is_run and path in (run, run / "images", run / "images" / str(arm)):
            return run, arm
    return None


def arm_of(run: Path, arm: str | None) -> str:
    """The arm that is meant: the one that is named, or the only one beside the control.

    Raises:
        InputError: no such arm, or several and none is named.
    """
    arms = sorted(entry.name for entry in (run / "images").iterdir() if entry.is_dir())
    if arm is not None and arm not in arms:
        raise InputError(f"{run} has no images of arm {arm!r}{suggestion(arm, arms)}; it has {_listed(arms)}")
    own = [name for name in arms if name != CONTROL]
    if arm is None and len(own) != 1:
        raise InputError(f"{run} holds {_listed(arms)}; name one with --arm")
    return arm or own[0]


def _listed(arms: list[str]) -> str:
    return ", ".join(map(repr, arms)) or "no images yet"


def read_source(run: Path, arm: str) -> dict[str, Any]:
    """What a run's folder says of an arm's set.

    Returns:
        arm; recipe and manifest; metrics, and data (the index of both splits), each None where the run has
        not come so far.

    Raises:
        InputError: one of them is damaged.
    """
    return {
        "arm": arm,
        "recipe": _read(run / RECIPE, yaml.safe_load),
        "manifest": _read(run / MANIFEST, json.loads),
        "metrics": _read(run / "metrics.json", json.loads),
        "data": _read(run / "data.json", json.loads),
    }


def channels_of(path: Path) -> Literal[1, 3]:
    """Of the images of a run, as its recipe says; 3 for what is no run's.

    Raises:
        InputError: the recipe is damaged.
    """
    belongs = run_of(path)
    recipe = _read(belongs[0] / RECIPE, yaml.safe_load) if belongs else {}
    return 1 if (recipe.get("data") or {}).get("channels") == 1 else 3


def _read(file: Path, parser: Callable[[str], Any]) -> Any:
    try:
        return parser(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())  # a YAML error has several lines
        raise InputError(f"{file} cannot be read ({reason}); start the run again") from error
