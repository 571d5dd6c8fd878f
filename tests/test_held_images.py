"""How many images are decoded and alive at once: of the control a class, of the sets that are learned one."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import pixels
from torch import Tensor, nn

import fastdd
from fastdd import teachers
from fastdd.config import CONTROL, FULL
from fastdd.cost.estimate import decoded_images
from fastdd.cost.subject import Subject
from fastdd.data import open_dataset, real_data
from fastdd.data.loading.resident import Resident, resident
from fastdd.distilled import open_set
from fastdd.distilled.images import Storage
from fastdd.errors import InputError
from fastdd.evaluate import TrainedStudent
from fastdd.recipes.resolve import resolve
from fastdd.recover import stage
from fastdd.runs import label_stage, student_stage, teacher_stage
from fastdd.runs.experiment import check
from fastdd.runs.run import Run
from fastdd.runs.student_stage import HeldSet, Job
from fastdd.runtime import memory
from fastdd.teachers.training import streamed_accuracy
from fastdd.teachers.weights import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")
TRAIN, TEST, SET = 16, 6, 6
"""images of the pets, and of a set of three a class"""
PIXELS = 3 * 16 * 16
FEW = ["teacher.epochs=1", "teacher.minimum_accuracy=0", "unit_images=3"]


def alive() -> int:
    """Decoded images that are in memory: those of all storages of uint8 images of the run's size."""
    found = {}
    for each in gc.get_objects():
        if type(each) is Tensor and each.dtype == torch.uint8 and each.shape[1:] == (3, 16, 16):
            storage = each.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes() // PIXELS
    return sum(found.values())


@pytest.fixture
def recipe(pets: Path, pets_recipe: Callable[[Path], Path]) -> Path:
    """The recipe of the pets, in which all arms are chosen real images."""
    file = pets_recipe(pets)
    text = file.read_text()
    arms = "arms: {first: {init: real, steps: 0}, herd: {init: herding, steps: 0}}"
    file.write_text(text[: text.index("arms:")] + arms + text[text.index("\nstudent:") :])
    return file


def test_of_the_control_a_class_is_decoded_at_a_time(
    pets: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fastdd.run(recipe, out, FEW, until="bank")
    gc.collect()
    held = list[tuple[int, int]]()

    def noted(*given: object, **named: object) -> Resident:
        before = alive()
        found = resident(*given, **named)  # type: ignore[arg-type]
        held.append((before, len(found)))
        return found

    monkeypatch.setattr(real_data, "resident", noted)
    monkeypatch.setattr(stage, "WRITTEN", 4)  # a class, since two have six images
    fastdd.run(recipe, out, FEW, until="recover")
    assert sum(images for _, images in held) == 2 * SET  # the control, and an arm that starts like it
    assert max(images for _, images in held) == 3
    assert max(before for before, _ in held) <= 3  # of the part before
    wanted = pixels(open_dataset(str(pets), "train"), (16, 16), 3)
    chosen = check(resolve(str(recipe), FEW).recipe, out).real.chosen
    assert torch.equal(open_set(out, CONTROL).images, wanted[chosen])


def test_one_set_is_held_while_students_learn_and_while_they_are_labelled(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a student of the whole training set comes first, as where processes share them."""
    out, few = tmp_path / "out", [*FEW, "student.seeds=2"]
    fastdd.run(recipe, out, few, until="recover")
    gc.collect()
    loaded, before, during = list[str](), list[int](), list[int]()
    stored, decoded, label = Run.stored, student_stage.HeldSet._decoded, label_stage.labels.label_images
    train = student_stage.train_student

    def noted_stored(self: Run, arm: str) -> tuple[Tensor, Tensor, Storage]:
        loaded.append(arm)
        before.append(alive())
        return stored(self, arm)

    def noted_decoded(self: HeldSet, job: Job) -> tuple[Tensor, Tensor, Storage]:
        before.append(alive())
        return decoded(self, job)

    def noted_train(*given: Any, **named: Any) -> TrainedStudent:
        during.append(alive())
        return train(*given, **named)

    def noted_label(*given: Any, **named: Any) -> Tensor:
        during.append(alive())
        return label(*given, **named)

    monkeypatch.setattr(Run, "stored", noted_stored)
    monkeypatch.setattr(student_stage.HeldSet, "_decoded", noted_decoded)
    monkeypatch.setattr(student_stage, "train_student", noted_train)
    monkeypatch.setattr(label_stage.labels, "label_images", noted_label)
    monkeypatch.setattr(
        student_stage, "longest_first", lambda run, jobs: sorted(jobs, key=lambda job: job.learned != FULL)
    )
    fastdd.run(recipe, out, few)
    arms = [CONTROL, "first", "herd"]
    assert loaded == arms + arms  # labelled, then learned: once for both of a set's students
    assert set(before[:3]) == {0}
    assert set(before[3:]) == {TEST}
    assert during == [SET] * 3 + [TEST + TRAIN] * 2 + [TEST + SET] * 6


def test_a_given_teacher_is_tested_on_a_batch_at_a_time(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastdd.run(recipe, tmp_path / "one", FEW, until="squeeze")
    weights = tmp_path / "one" / "teacher.safetensors"
    gc.collect()
    held = list[int]()

    def noted(network: nn.Module, normalize: Any, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        def looked() -> Iterator[tuple[Tensor, Tensor]]:
            for images, labels in batches:
                held.append(alive())
                yield images, labels

        return streamed_accuracy(network, normalize, looked())

    monkeypatch.setattr(teacher_stage, "streamed_accuracy", noted)
    monkeypatch.setattr(teachers, "EVALUATION_BATCH", 1)
    fastdd.run(recipe, tmp_path / "two", [*FEW, f"teacher.weights={weights}"], until="squeeze")
    assert len(held) == TEST
    assert max(held) < TEST
    one, two = (
        read_weights("teacher", tmp_path / out / "teacher.safetensors").card for out in ("one", "two")
    )
    assert one is not None
    assert two is not None
    assert one.accuracy == two.accuracy


def test_sets_that_students_cannot_hold_are_refused_before_any_work(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fits = math.ceil((SET * PIXELS + int(memory.BUDGET * TEST * PIXELS)) / memory.BUDGET) + 1
    monkeypatch.setattr(memory, "available_memory", lambda: fits - 4)
    wanted = (
        rf"students of arm 'random' hold its 6 images in memory, {SET * PIXELS:,} bytes beside "
        rf"{TEST * PIXELS:,} of the images that they are tested on, but only [\d,]+ may be used.*lower ipc"
    )
    with pytest.raises(InputError, match=wanted):
        fastdd.run(recipe, out, [*FEW, "full_set=false"])
    assert not out.exists()
    experiment = resolve(str(recipe), [*FEW, "full_set=false"]).recipe
    check(experiment, out, trains=False)
    monkeypatch.setattr(memory, "available_memory", lambda: fits)
    check(experiment, out)


def test_the_estimate_of_students_counts_the_images_that_they_hold(recipe: Path) -> None:
    subject = Subject.of(resolve(str(recipe), FEW).recipe)
    held = {
        stage: decoded_images(subject, stage, 1, memory=1e9)[1] // PIXELS
        for stage in ("label herd", "students herd", "students full")
    }
    assert held == {"label herd": SET, "students herd": SET + TEST, "students full": TRAIN + TEST}
