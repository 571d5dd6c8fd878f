"""What the students of a run need of each arm, in bytes, and what teachers do for one of them."""

from __future__ import annotations

from pathlib import Path

from ..labels import StoredLabels
from ..run_folder.results import Shipped
from .run import Run


def shipped(run: Run, arm: str, student: str = "") -> Shipped:
    """Measure the files that students of a kind read of an arm; its images where none are trained.

    Args:
        student: a name in the experiment's ``students``.
    """
    images = _bytes(run.folder.images(arm))
    protocol, labelling = run.experiment.protocol(arm, student), run.experiment.labelling(arm, student)
    if protocol.labels == "hard" or not run.experiment.recipe.metrics.students:
        return Shipped(images=images, labels=0, teacher=0, forwards=0)
    if protocol.labels == "online":
        names = [run.experiment.teachers[number].name for number in labelling]
        weights = sum(run.folder.teacher(name).stat().st_size for name in names)
        shown = protocol.soft_steps * min(protocol.batch, protocol.images)
        return Shipped(images=images, labels=0, teacher=weights, forwards=shown * len(labelling))
    per = run.experiment.recipe.labels_of(student).per
    path = run.folder.labels(arm, per, student)
    labelled = protocol.images if per == "image" else StoredLabels.open(path).manifest.pool.labels
    return Shipped(images=images, labels=_bytes(path), teacher=0, forwards=labelled * len(labelling))


def _bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
