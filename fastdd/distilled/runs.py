"""The sets of a run: one for each arm, and what the run's folder says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..config import CONTROL, RANDOM_REAL, Method, Recipe
from ..errors import InputError, suggestion
from ..run_folder import (
    DataSplit,
    Manifest,
    Metrics,
    RunFolder,
    UnitLog,
    read,
    read_manifest,
    read_recipe,
    require_run,
)


@dataclass(frozen=True)
class RunSource:
    """Where the set of a run comes from.

    Attributes:
        arm: name of the set's arm; ``random`` is the control of random real images.
        metrics: the results; None: the run has not come so far.
        splits: the real training images, those of the validation split where there is one, and the test
            images; None: the run has not come so far.
    """

    folder: RunFolder
    arm: str
    recipe: Recipe
    manifest: Manifest
    metrics: Metrics | None
    splits: tuple[DataSplit, ...] | None

    @property
    def method(self) -> Method:
        """How the images were made."""
        return self.recipe.arms.get(self.arm, RANDOM_REAL)

    def require_unchanged(self, split: str, fingerprint: str, option: str) -> None:
        """Refuse real images of the run's recipe that are others than when the run was made.

        Args:
            split: ``train``, ``validation`` or ``test``.
            fingerprint: that of the split now.
            option: the option with which other images are given.
        """
        known = self.manifest.fingerprints.get(split, fingerprint)
        if known != fingerprint:
            root = self.recipe.data.root
            raise InputError(
                f"{root} has changed since {self.folder} was made from it: fingerprint of {split} "
                f"{known[:12]} then, {fingerprint[:12]} now; put it back, or give {option} {root} "
                "to take it as it is"
            )


def read_source(run: RunFolder, arm: str) -> RunSource:
    """What a run's folder says of an arm's set."""
    return RunSource(
        folder=run,
        arm=arm,
        manifest=read_manifest(run),
        recipe=read_recipe(run),
        metrics=read(run.metrics, Metrics) if run.metrics.is_file() else None,
        splits=read(run.data, tuple[DataSplit, ...]) if run.data.is_file() else None,
    )


def learned_lr(run: RunFolder, arm: str) -> float | None:
    """The learning rate that an arm's method learned with its images (MTT); None: it learned none."""
    units = run.units(arm)
    return read(units[0], UnitLog).learned.get("lr") if units else None


def run_of(path: Path) -> tuple[RunFolder, str | None] | None:
    """The run that a path belongs to, and the arm that the path names; None: it belongs to no run.

    Args:
        path: the folder of a run, of the images of all its arms, or of the images of one arm.

    Raises:
        InputError: it is a run's folder whose recipe is gone.
    """
    run, above, top = RunFolder(path), RunFolder(path.parent), RunFolder(path.parent.parent)
    if run.manifest.is_file() and run.all_images.is_dir():
        require_run(path)
    if run.is_run():
        return run, None
    if path == above.all_images and above.is_run():
        return above, None
    if path == top.images(path.name) and top.is_run():
        return top, path.name
    return None


def arm_of(run: RunFolder, arm: str | None) -> str:
    """The arm that is meant: the one that is named, or else the only one beside the control."""
    arms = run.arms()
    if not arms:
        raise InputError(f"{run} has no distilled images yet; start the run again, it continues")
    listed = ", ".join(map(repr, arms))
    if arm is not None and arm not in arms:
        raise InputError(f"{run} has no images of arm {arm!r}{suggestion(arm, arms)}; it has {listed}")
    own = [name for name in arms if name != CONTROL]
    if arm is None and len(own) != 1:
        raise InputError(f"{run} holds {listed}; name one of them (--arm)")
    return arm or own[0]


def arms_of(path: Path, arm: str | None) -> list[str | None]:
    """The arms that a command looks at: the one that is named, or else all of a run beside the control.

    Args:
        path: a set, of a run or not.
        arm: the name that was given.

    Returns:
        Names; None alone where the path tells which set is meant.
    """
    found = run_of(path)
    if arm is not None or found is None or found[1] is not None:
        return [arm]
    return [name for name in found[0].arms() if name != CONTROL] or [None]


def channels_of(path: Path) -> Literal[1, 3]:
    """Channels of the images of a run, as its recipe says; 3 for a set that is no run's.

    Raises:
        InputError: the recipe is damaged.
    """
    found = run_of(path)
    return 3 if found is None else read_recipe(found[0]).data.channels
