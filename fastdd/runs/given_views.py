"""Labels of views that came with a finished set: those of a run, or a folder of the released FKD layout.

In the regime ``fixed`` every set is learned with one label an image. A set that came with labels of its views
is also learned with those, by students of a kind of its own, beside random real images that the teacher
labels in the same views: same windows, flips and mixtures, as many epochs, stored in the same form. Whose
teacher gave a set's labels is not known, so that what a better teacher does counts for the set; its protocol
says that they came with it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from .. import labels
from ..config import GivenViews, Labels, Student
from ..distilled.runs import RunSource
from ..errors import InputError
from ..labels.fkd_files import batch_path
from ..labels.manifest import MANIFEST
from ..runtime.console import counted
from ..runtime.distributed import barrier, from_main, is_main
from ..runtime.new_folders import new_folder
from ..teachers import Teacher
from .given_sets import OpenSet
from .run import Run

LEAVE_OUT = "leave the regime fixed out with --regimes hard,online"
"""what to do where labels of views cannot be used"""


def views_of_run(source: RunSource) -> Path | None:
    """The labels of views that a run stored of an arm; None: it stored none.

    Raises:
        InputError: further students have several, and the section ``student`` none.
    """
    own = source.folder.labels(source.arm, "view")
    further = sorted((source.folder.path / "labels").glob(f"*/{source.arm}"))
    whole = [path for path in (own, *further) if (path / MANIFEST).is_file() and labels.is_whole(path)]
    if len(whole) > 1 and whole[0] != own:
        raise InputError(
            f"{source.folder.path}:{source.arm} has labels of views in {whole[0]} and in {whole[1]}; choose "
            "with --labels FOLDER"
        )
    return whole[0] if whole else None


def fingerprint_of_views(path: Path) -> str:
    """sha256 of the names and sizes of all files below a folder, and of the content of the first one."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [f"{file.relative_to(path)} {file.stat().st_size}" for file in files]
    digest = hashlib.sha256("\n".join(named).encode())
    first = path / MANIFEST if (path / MANIFEST).is_file() else batch_path(path, 0, 0)
    digest.update(first.read_bytes() if first.is_file() else b"")
    return digest.hexdigest()


def open_views(path: Path, found: OpenSet, ipc: int) -> labels.LabelManifest:
    """What labels of views are of, checked against the set that they came with.

    Args:
        ipc: stored images of each class that are judged.

    Raises:
        InputError: they cannot be read, or are of other images or classes; or part of the images is judged.
    """
    rows, images = found.rows(ipc), len(found.set)
    if len(rows) < images:
        raise InputError(
            f"{found.set.path} came with labels of views of all its {counted(images, 'image')}, which "
            f"mix them; --ipc {ipc} takes {len(rows)}: leave --ipc out, or {LEAVE_OUT}"
        )
    if (path / MANIFEST).is_file():
        return labels.StoredLabels.open(path, found.images_fingerprint(ipc), len(found.counts)).manifest
    if found.set.source is None and not torch.equal(rows, torch.arange(len(rows))):
        raise InputError(
            f"{path} labels images in the order of their files, and the class folders of {found.set.path} "
            "are in another order than the real classes; name them new000/class000_id000.jpg by number"
        )
    _, height, width = found.set.shape
    shape = (images, height, width)
    return labels.plan_import(path, shape, found.images_fingerprint(ipc), len(found.counts))


def given_views(path: Path) -> GivenViews:
    """What a recipe notes of labels of views."""
    return GivenViews(path=str(path), fingerprint=fingerprint_of_views(path))


def students_of_views(student: Student, manifest: labels.LabelManifest) -> tuple[Student, Labels]:
    """Students of a kind that learns stored labels, as students of views, and how these are stored.

    Of imported labels the whole training set, which has none, is augmented as the released code does.
    """
    how, is_imported = manifest.augmentation, bool(manifest.source)
    changed = student.model_copy(
        update={
            "labels": "stored",
            "randaugment": None,
            "shuffle_patches": 1,
            "siamese": None,
            "siamese_always": None,
            "whole": 0.0,
            "per_epoch": "seen",
            "scale": (0.08, 1.0) if is_imported else how.scale,
            "pad": how.pad,
            "pad_color": "mean",
            "flip": how.flip,
            "mix": how.mix,
            "mix_alpha": 1.0 if is_imported else how.mix_alpha,
            "mix_probability": 1.0,
        }
    )
    stored = Labels(
        per="view",
        form=manifest.form,
        topk=manifest.k,
        rest=manifest.rest,
        rank=manifest.rank,
        codes=manifest.codes,
        epochs=manifest.epochs,
        keep=manifest.keep,
        choice=manifest.choice,
        replay="shuffle" if manifest.keep == 1 else "once",
        views="stored" if manifest.views == "stored" else "seed",
        batch=how.batch,
        mix_per=how.mix_per,
        order=how.order,
        parts=manifest.parts,
        average=manifest.average,
    )
    return Student.model_validate(dict(changed)), stored


def label_given_views(
    run: Run, arm: str, student: str, labelling: Mapping[str, Teacher], teachers: tuple[str, ...]
) -> None:
    """Put labels of views into the run folder: of an arm those that came with it, of the control in the same
    views those of the teacher. All processes come together.

    Args:
        arm: the arm, or the control.
        student: the kind of students that learns them.
        labelling: the teachers that label, by name.
        teachers: their fingerprints.

    Raises:
        InputError: what came with the set is gone, has changed, or is damaged.
    """
    of = run.experiment.recipe.student_views[student]
    own = run.folder.labels(of, "view", student)
    if not from_main(lambda: labels.is_whole(own)):
        if is_main():
            _take(run, of, own)
        barrier()
    if arm == of:
        return
    images, _ = run.distilled(arm)
    there = labels.StoredLabels.open(own)
    manifest = replace(
        there.manifest,
        images=labels.images_fingerprint(images),
        samples=len(images),
        teachers=teachers,
        mode="eval" if there.manifest.mode == "unknown" else there.manifest.mode,
        source="",
    )
    is_stored = manifest.views == "stored"
    if is_stored and manifest.samples != there.manifest.samples:
        raise InputError(
            f"the stored views of {of} are of {counted(there.manifest.samples, 'image')}, but {arm} has "
            f"{len(images)}; {LEAVE_OUT}"
        )
    folder = run.folder.labels(arm, "view", student)
    labels.label_views(
        labelling, images, folder, manifest, name=arm, views_of=there.views if is_stored else None
    )


def _take(run: Run, arm: str, folder: Path) -> None:
    """Copy or import the labels of views that came with an arm's set."""
    given = run.experiment.arms[arm].given
    assert given is not None  # the recipe has looked
    assert given.views is not None
    path = Path(given.views.path)
    if fingerprint_of_views(path) != given.views.fingerprint:
        raise InputError(
            f"{path} is gone or has changed since it was first judged; put it back, or judge the set anew in "
            "another folder with --out"
        )
    if not (path / MANIFEST).is_file():
        images, truth = run.distilled(arm)
        labels.import_fkd(path, folder, images.cpu(), len(run.experiment.classes), truth=truth.cpu())
        return
    if folder.is_dir():  # of one that was killed by an earlier version
        shutil.rmtree(folder)
    with new_folder(folder) as written:
        shutil.copytree(path, written, dirs_exist_ok=True)
