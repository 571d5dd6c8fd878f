"""A validation split: which images it withholds, from what, and which numbers are of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fastdd
from fastdd import cli
from fastdd.config import Recipe, as_plain
from fastdd.data import open_dataset, with_validation
from fastdd.data.real_data import RealData
from fastdd.errors import InputError
from fastdd.evaluate.evaluation import EvaluationRequest, open_evaluation
from fastdd.evaluate.full_set import FullSet
from fastdd.protocols import settle_student
from fastdd.run_folder import Metrics, RunFolder, read
from fastdd.runs.sweep import sweep

CPU = torch.device("cpu")


@pytest.fixture
def recipe(pets: Path, pets_recipe: Callable[[Path], Path]) -> str:
    """DEDA and SRe2L on the pets: 8 training images a class, of which a quarter are two."""
    return str(pets_recipe(pets))


def real_data(**data: object) -> RealData:
    given = {"root": "digits", "channels": 1, **data}
    return RealData(Recipe(name="x", ipc=2, data=given, teacher={"mean": [0.3], "std": [0.4]}, arms={}), CPU)


# -- the split ---------------------------------------------------------------------------------------


def test_each_class_gives_its_share_and_the_rest_stays() -> None:
    whole = open_dataset("digits", "train")
    kept, taken = with_validation(whole, 0.1, 0)
    assert taken.counts == tuple(round(0.1 * count) for count in whole.counts)
    assert Counter([*kept.names, *taken.names]) == Counter(whole.names)
    assert (kept.split, taken.split) == ("train", "validation")
    assert len({whole.fingerprint, kept.fingerprint, taken.fingerprint}) == 3
    assert torch.equal(taken.labels, taken.labels.sort().values)
    index = whole.names.index(taken.names[5])
    assert torch.equal(taken.reader.pixels(5, 1), whole.reader.pixels(index, 1))


def test_the_draw_depends_on_its_seed_alone() -> None:
    first, again, other = (
        with_validation(open_dataset("digits", "train"), 0.1, seed)[1] for seed in (0, 0, 1)
    )
    assert list(first.names) == list(again.names) != list(other.names)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    one = real_data(validation=0.1).validation_set
    assert one is not None
    assert one.fingerprint == first.fingerprint


def test_one_image_of_a_class_stays(pets: Path) -> None:
    kept, taken = with_validation(open_dataset(pets, "train"), 0.99, 0)
    assert (kept.counts, taken.counts) == ((1, 1), (7, 7))


def test_a_share_without_an_image_is_refused(pets: Path) -> None:
    with pytest.raises(InputError, match=r"data.validation 0.01 takes no image: .* set it to 0.12 or more"):
        with_validation(open_dataset(pets, "train"), 0.01, 0)


# -- what it is withheld from ------------------------------------------------------------------------


def test_no_set_and_no_full_set_has_a_validation_image() -> None:
    real, without = real_data(validation=0.1), real_data()
    withheld = real.validation_set
    assert withheld is not None
    assert len(real.train) + len(withheld) == len(without.train)
    assert len(real.stream().names) == len(real.train)
    names = set(withheld.names)
    assert not names & set(real.train.names)
    full = FullSet(real, settle_student(fastdd.config.Student(), 20, 10), 0)
    assert len(full.chosen) == len(real.train)
    assert real.train.names != without.train.names


def test_choices_look_at_the_validation_images_and_students_until_asked() -> None:
    real = real_data(validation=0.1)
    assert real.evaluation_set is real.choice_set is real.validation_set
    assert real.evaluation[0] is real.choice[0]
    asked = real_data(validation=0.1, evaluate="test")
    assert asked.choice_set is asked.validation_set
    assert asked.evaluation_set is asked.test_set
    none = real_data()
    assert none.choice_set is none.evaluation_set is none.test_set
    assert [split.split for split in real.splits] == ["train", "validation", "test"]


def test_without_the_key_a_recipe_is_saved_as_before() -> None:
    data = as_plain(fastdd.resolve("digits"))["data"]
    assert isinstance(data, dict)
    assert not data.keys() & {"validation", "validation_seed", "evaluate"}
    data = as_plain(fastdd.resolve("digits", ["data.validation=0.1"]))["data"]
    assert isinstance(data, dict)
    assert (data["validation"], data["validation_seed"], data["evaluate"]) == (0.1, 0, "validation")


# -- a run -------------------------------------------------------------------------------------------


def test_a_run_tests_on_validation_images_and_evaluate_reads_the_test_images(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["run", recipe, "data.validation=0.25", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "students are tested on the 4 validation images; nothing has looked at the 6 test images" in said
    assert "best on validation %" in said
    data = read(RunFolder(out).metrics, Metrics).data
    assert (data.train, data.validation, data.test, data.evaluated_on, data.seen_by) == (
        12,
        4,
        6,
        "validation",
        (),
    )
    splits = [split["split"] for split in json.loads((out / "data.json").read_text())]
    assert splits == ["train", "validation", "test"]
    assert "4 validation images" in (out / "report.html").read_text()
    card = fastdd.teachers.open_teacher(out / "teacher.safetensors", CPU).card
    assert card.accuracy_on == "validation"
    request = EvaluationRequest(out, arm="deda")
    assert open_evaluation(request, CPU).real.evaluated_on == "validation"
    tested = open_evaluation(EvaluationRequest(out, arm="deda", on="test"), CPU)
    assert (len(tested.real.evaluation_set), len(tested.real.train)) == (6, 12)
    with pytest.raises(InputError, match=r"data\.validation"):
        fastdd.run(recipe, out, ["data.validation=0.5"])


def test_a_given_teacher_may_have_seen_the_validation_images(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, withheld = tmp_path / "whole", tmp_path / "withheld"
    fastdd.run(recipe, whole, until="squeeze")
    fastdd.run(recipe, withheld, ["data.validation=0.25"], until="squeeze")
    capsys.readouterr()
    for teacher, known in ((whole, True), (withheld, False)):
        weights = f"teacher.weights={teacher / 'teacher.safetensors'}"
        out = tmp_path / f"of-{teacher.name}"
        metrics = fastdd.run(recipe, out, ["data.validation=0.25", weights], arms=["deda"]).metrics
        assert ("may have been trained on the 4 validation images" in capsys.readouterr().err) == known
        assert metrics.data.seen_by == (("teacher",) if known else ())


# -- a sweep -----------------------------------------------------------------------------------------


def test_a_sweep_ranks_on_validation_and_reads_its_winner_on_the_test_images(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", recipe, "data.validation=0.25", "--grid", "method.gamma=0,10", "--out", str(out)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    results = json.loads((out / "sweep.json").read_text())
    assert results["evaluated_on"] == "validation"
    (winner,) = results["winners"]
    assert "On the test images, read once: the best on validation at" in said
    page = (out / "report.html").read_text()
    assert "On the test images, read once: the best on validation at" in page
    arms = results["runs"][0]["arms"]
    assert arms[winner["arm"]]["last"] == max(arm["last"] for arm in arms.values())
    read_on_test = {path.parent.name for path in (out / "students-test").rglob("seed_*.json")}
    assert read_on_test == {winner["arm"], "random"}
    before = (out / "sweep.json").read_bytes()
    alone = fastdd.run(
        recipe, tmp_path / "alone", ["data.validation=0.25", "data.evaluate=test"], arms=["deda"]
    )
    assert winner["control"] == list(alone.metrics.arms["random"].last)
    assert alone.metrics.data.evaluated_on == "test"
    assert cli.main(arguments) == 0
    assert (out / "sweep.json").read_bytes() == before


def test_a_sweep_refuses_to_choose_by_the_test_images(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.evaluate=test would let a sweep choose by the test images"):
        sweep(recipe, ["method.gamma=0,10"], tmp_path / "a", ["data.validation=0.25", "data.evaluate=test"])
    with pytest.raises(InputError, match=r"some runs of the grid have data\.validation and others have not"):
        sweep(recipe, ["data.validation=null,0.25"], tmp_path / "b")
    assert not (tmp_path / "a").exists()
