"""Which images the results of a run are of: a fingerprint of the files of an arm.

It is the sha256 of the names and bytes of all files, class after class. Nothing is decoded, so it costs what
reading the files costs. Students, embeddings, soft labels and metrics note it; where it has changed they are
made again (runs/), or refused where they are only read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..config import RANDOM_REAL, Method, Recipe
from ..errors import InputError
from ..run_folder import Metrics, RunFolder, image_file
from .images import unreadable
from .runs import RunSource


def arm_fingerprint(run: RunFolder, arm: str, classes: Sequence[str], slots: int, *, method: Method) -> str:
    """The fingerprint of an arm's image files, hex.

    Args:
        slots: images a class that students see.

    Raises:
        InputError: an image is missing or unreadable; the message says how it is made again.
    """
    digest = hashlib.sha256()
    for file in _files(run.images(arm), classes, slots, method=method):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise unreadable(file, error) from error
        digest.update(f"{file.parent.name}/{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path, classes: Sequence[str], slots: int, *, method: Method) -> Iterator[Path]:
    """The image files of an arm, in the order in which they are read."""
    files = slots if method.formation is None else slots // method.formation.images
    for name in classes:
        for number in range(files):
            yield image_file(folder, name, number, method.save.format)


def labels_key(arm: str, student: str = "") -> str:
    """Where manifest.json notes of which images an arm's soft labels are, among its fingerprints."""
    return " ".join(part for part in ("labels", student, arm) if part)


def require_same_images(run: RunFolder, recipe: Recipe, metrics: Metrics) -> None:
    """Refuse results of other images than those that lie in a run folder.

    Results of earlier versions, which did not note their images, are taken as they are.
    """
    for arm, result in metrics.arms.items():
        if result.images is not None:
            method = recipe.arms.get(arm, RANDOM_REAL)
            now = arm_fingerprint(run, arm, metrics.classes, result.seen, method=method)
            if now != result.images:
                raise _changed(run, arm, "results")


def require_same_set(source: RunSource, classes: Sequence[str], slots: int) -> None:
    """Refuse a set of a run whose results or soft labels are of other images."""
    noted = {"soft labels": source.manifest.fingerprints.get(labels_key(source.arm))}
    if source.metrics is not None and source.arm in source.metrics.arms:
        noted["results"] = source.metrics.arms[source.arm].images
    if any(noted.values()):
        now = arm_fingerprint(source.folder, source.arm, classes, slots, method=source.method)
        for what, known in noted.items():
            if known not in (None, now):
                raise _changed(source.folder, source.arm, what)


def _changed(run: RunFolder, arm: str, what: str) -> InputError:
    return InputError(
        f"the images in {run.images(arm)} have changed since its {what} were made; start the same "
        "`fastdd run` command again, which makes again what depends on them"
    )
