"""The label stage of a run: the soft labels of its arms' images, what its students learn from, and its bytes.

With ``labels.per=image`` an arm has one row of logits for each image. With ``labels.per=view`` it has a
folder that says what every sample of every epoch looked like, and its logits; views are those of a protocol,
so further students whose labels are stored have folders of their own; so have those that learn the views
which came with a set (given_views.py). The processes of torchrun share the arms, or the files of an arm's
views, before any student reads. A run stores what its students read; ``fastdd label`` stores labels in any
case, for an export.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path

from torch import Tensor

from .. import labels, teachers
from ..config import CONTROL, Labels, Student
from ..config.labels import rest_of
from ..distilled.fingerprint import labels_key
from ..evaluate import ReplayedBatches, StudentBatches, protocol_hash, protocol_text
from ..labels import StoredLabels
from ..labels.manifest import MANIFEST
from ..run_folder.results import Shipped, stage_of
from ..runtime.distributed import barrier, claims, from_main, is_main, say_once
from ..teachers import Teacher
from .given_stage import given_labels
from .given_views import label_given_views
from .run import Run

LATER = {"rest", "rank", "codes"}
"""values of section ``labels`` that are hashed only where they differ from their default, so that hashes
stay"""
OWN = "teacher"
"""name of the run's own teacher among those that label"""


def label_arms(run: Run) -> None:
    """Store the soft labels that students read and the run folder lacks."""
    for student in _readers(run):
        if warning := labels.warning_of(
            run.experiment.recipe.labels_of(student), run.experiment.students[student]
        ):
            say_once(f"label: {warning}")
    _label_arms(run, _readers(run))


def label_all_arms(run: Run) -> None:
    """Store what ``label_arms`` does, and the labels of the section ``student`` whether or not they are
    read."""
    _label_arms(run, list(dict.fromkeys(["", *_readers(run)])))


def _readers(run: Run) -> list[str]:
    """The students that read stored labels; whole images have the same for all, under an empty name."""
    if not run.experiment.recipe.metrics.students:
        return []
    stored = [name for name, config in run.experiment.students.items() if config.labels == "stored"]
    by_view = [name for name in stored if run.experiment.recipe.labels_of(name).per == "view"]
    return ([""] if len(by_view) < len(stored) else []) + by_view


def _label_arms(run: Run, students: Sequence[str]) -> None:
    recipe = run.experiment.recipe
    wanted = [each for each in product(students, run.experiment.arms) if recipe.learns(*each)]
    left = from_main(lambda: [each for each in wanted if not _is_labelled(run, each[1], each[0])])
    # Processes share the views of one arm after another, and whole images arm by arm.
    whole = [each for each in left if recipe.labels_of(each[0]).per == "image"]
    by_view = [each for each in left if recipe.labels_of(each[0]).per == "view"]
    for student, arm in chain((whole[number] for number in claims("label", len(whole))), by_view):
        with run.session.stage(stage_of("label", student, arm)) as work:
            _label(run, arm, student)
            work.images = run.experiment.seen(arm) * len(run.experiment.classes)
    barrier()
    if is_main():
        labelled = {labels_key(arm, student): run.image_fingerprints[arm] for student, arm in wanted}
        run.session.manifest.fingerprints.update(labelled)
        run.session.write_manifest()


def _is_labelled(run: Run, arm: str, student: str) -> bool:
    """Whether the run folder has labels of the images as they are now; labels of others are deleted."""
    per = run.experiment.recipe.labels_of(student).per
    path = run.folder.labels(arm, per, student)
    if not (labels.is_whole(path) if per == "view" else path.is_file()):
        return False
    if run.session.manifest.fingerprints.get(labels_key(arm, student)) == run.image_fingerprints[arm]:
        return True
    images, _ = run.distilled(arm)  # the files are others, or nothing was noted: the pixels decide
    by_view = per == "view"
    labelled = labels.StoredLabels.open(path).manifest.images if by_view else labels.read_labels(path).images
    if labelled in (None, labels.images_fingerprint(images)):
        return True
    say_once(f"label {arm}: its images have changed, so they are labelled again")
    if by_view:
        shutil.rmtree(path)
    else:
        path.unlink()
    return False


def _label(run: Run, arm: str, student: str) -> None:
    """Label an arm's images, which are in memory for as long; by view, as a student's protocol shows them."""
    recipe, labelling = run.experiment.recipe, _labelling_teachers(run, arm, student)
    path = run.folder.labels(arm, recipe.labels_of(student).per, student)
    if student in recipe.student_views:
        prints = tuple(run.session.manifest.fingerprints[_print_of(name)] for name in labelling)
        label_given_views(run, arm, student, labelling, teachers=prints)
        return
    images, _ = run.distilled(arm)
    if recipe.labels_of(student).per == "image":
        logits = given_labels(run, arm)
        if logits is None:
            logits = labels.label_images(labelling, images, arm, recipe.labels.average)
        labels.save_labels(path, logits, images)
        return
    planned = labels.plan_labels(
        recipe.labels_of(student),
        run.experiment.protocol(arm, student),
        images,
        classes=len(run.experiment.classes),
        teachers=tuple(run.session.manifest.fingerprints[_print_of(name)] for name in labelling),
        seed=recipe.seed,
    )
    labels.label_views(labelling, images, path, planned, name=arm)


def _labelling_teachers(run: Run, arm: str, student: str) -> dict[str, Teacher]:
    """The teachers that label an arm for students of a kind, by name; the run's own is ``teacher``."""
    numbers = run.experiment.labelling(arm, student)
    return {run.experiment.teachers[number].name or OWN: run.teachers[number] for number in numbers}


def _print_of(name: str) -> str:
    """Key of a labelling teacher's fingerprint in the manifest."""
    return OWN if name == OWN else f"{OWN}-{name}"


def stored_labels(
    run: Run, arm: str, images: Tensor, truth: Tensor, *, seed: int, student: str = ""
) -> Tensor | StudentBatches | None:
    """What the label stage has stored for a student of an arm.

    Args:
        images: uint8 [N, C, H, W] of the arm.
        truth: int64 [N], their classes.
        seed: seed of the student's order.
        student: a name in the experiment's ``students``.

    Returns:
        Logits [N, classes], or batches of labelled views; None: the protocol stores no labels.

    Raises:
        InputError: the labels are of other images or classes, damaged, or no finite numbers.
    """
    config, recipe = run.experiment.protocol(arm, student), run.experiment.recipe
    if config.labels != "stored":
        return None
    per = recipe.labels_of(student).per
    path, classes = run.folder.labels(arm, per, student), len(run.teacher.card.classes)
    if per == "image":
        return labels.load_labels(path, images, classes).to(images.device)
    stored = labels.StoredLabels.open(path, labels.images_fingerprint(images), classes)
    return ReplayedBatches(
        config,
        run.teacher,
        images,
        stored,
        seed=seed,
        hard_labels=truth if config.hard_weight or config.mixes_classes else None,
        replay=recipe.labels_of(student).replay,
    )


def learned_from(run: Run, arm: str, student: str = "") -> str:
    """The fingerprint of what an arm's students learn: its images, and its soft labels if those are stored.

    Of labels by view it takes the manifest, which says what determined them.
    """
    images, per = run.image_fingerprints[arm], run.experiment.recipe.labels_of(student).per
    if run.experiment.students[student].labels != "stored":
        return images
    path = run.folder.labels(arm, per, student)
    stored = teachers.fingerprint(path / MANIFEST if per == "view" else path)
    return hashlib.sha256(f"{images} {stored}".encode()).hexdigest()


def described_protocol(run: Run, student: str = "") -> tuple[str, str]:
    """A student's protocol on the control in a line, and its hash; both include how labels by view are
    stored, and whether several teachers label."""
    config, stored = run.experiment.protocol(CONTROL, student), run.experiment.recipe.labels_of(student)
    text, digest = protocol_text(config), protocol_hash(config)
    if config.labels != "stored" or stored.per == "image":
        arms = [arm for arm in run.experiment.recipe.arms if run.experiment.recipe.learns(student, arm)]
        counts = sorted({len(run.experiment.labelling(arm, student)) for arm in arms})
        if counts[-1:] in ([], [1]) or config.labels == "hard":
            return text, digest
        labelling = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        joined = f"{digest} {labelling} {stored.average}"
        text = f"{text}, labels of {labelling} teachers ({stored.average})"
        return text, hashlib.sha256(joined.encode()).hexdigest()[:8]
    kept = ""
    if stored.keep != 1:
        kept = f", {stored.keep:.0%} of the batches ({stored.choice}, {stored.replay})"
    unset = {name for name in LATER if getattr(stored, name) == Labels.model_fields[name].default}
    joined = digest + json.dumps(stored.model_dump(mode="json", exclude=unset), sort_keys=True)
    text = f"{text}, labels by view in {_form_text(stored, config)}{kept}"
    if (arm := run.experiment.recipe.student_views.get(student)) is not None:
        given = run.experiment.arms[arm].given
        assert given is not None  # the recipe has looked
        assert given.views is not None
        text = f"{text}; views and labels came with {arm}, and the control is labelled in the same views"
        joined += given.views.fingerprint
    return text, hashlib.sha256(joined.encode()).hexdigest()[:8]


def _form_text(stored: Labels, student: Student) -> str:
    """How logits are stored, in words."""
    if stored.form != "topk":
        shared = {"lowrank": f" {stored.rank}", "pq": f" of {stored.codes} codes"}
        return stored.form + shared.get(stored.form, "")
    rest = rest_of(stored, student)
    return "topk" if rest == "spread" else "topk without a rest"


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
