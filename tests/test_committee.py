"""Several teachers in one run: each is squeezed and has a bank, and only methods that ask use them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import fastdd
from fastdd.bank import Bank
from fastdd.cli import main
from fastdd.cost.storage import storage
from fastdd.cost.subject import Subject
from fastdd.errors import InputError
from fastdd.labels import MeanLogits
from fastdd.recipes.used_teachers import working_teachers
from fastdd.runs.experiment import check
from fastdd.runs.status import status
from fastdd.runs.teacher_stage import rough

RECIPE = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, flip: 0.0}
committee: {large: {network: resnet20, mean: [0.305], std: [0.376], epochs: 1, pad: 1, flip: 0.0}}
method: {steps: 3, augment: {roll: [-1, 1]}}
arms:
  sre2l: {method: sre2l}
  gvbsm: {method: gvbsm}
  infer: {method: infer}
  cvdd: {method: cvdd, ensemble: 2}
student: {network: resnet8, steps: 3, pad: 1, flip: 0.0, seeds: 1, evaluations: 1}
"""
WEIGHTS = {"teacher": "teacher", "committee.large": "teacher-large"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("committee")
    (folder / "own.yaml").write_text(RECIPE)
    fastdd.run(folder / "own.yaml", folder / "out")
    return folder / "out"


def test_each_teacher_has_weights_and_a_bank(run: Path) -> None:
    networks = []
    for suffix in ("", "-large"):
        with safe_open(str(run / f"teacher{suffix}.safetensors"), framework="pt") as file:
            networks.append(json.loads(file.metadata()["fastdd"])["network"])
        bank = Bank(run / f"bank{suffix}")
        assert len(bank) == 10
        assert sum(bank.counts) == 1438
    assert networks == ["resnet8", "resnet20"]
    prints = json.loads((run / "manifest.json").read_text())["fingerprints"]
    assert prints["teacher"] != prints["teacher-large"]


def test_squeeze_says_which_teachers_it_trains_and_lists_what_there_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, given = tmp_path / "out", f"teacher.weights={run / 'teacher.safetensors'}"
    command = ["squeeze", str(run.parent / "own.yaml"), given, "--out", str(out)]
    assert main([*command, "--committee"]) == 0
    shown = capsys.readouterr()
    said = "squeeze: 1 of 2 teachers to be trained, about 1 s in all, without reading and testing:\n"
    said += "  committee.large: resnet20, 1 epoch of 1,438 images, about "
    assert re.sub(r"about \d+ s", "about 1 s", shown.err).startswith(said)
    own, large = (out / f"teacher{suffix}.safetensors" for suffix in ("", "-large"))
    assert re.search(rf"committee\.large +resnet20 +\d+\.\d +{re.escape(str(large))}", shown.out)
    assert (
        f"another recipe takes them with teacher.weights={own} committee.large.weights={large}" in shown.out
    )
    before = large.read_bytes()
    assert main(command) == 0  # all are there: nothing is trained, and nothing listed
    again = capsys.readouterr()
    assert "to be trained" not in again.err
    assert "another recipe" not in again.out
    assert large.read_bytes() == before


def test_the_rest_of_an_interrupted_training_is_told(tmp_path: Path) -> None:
    from fastdd.models.build import build
    from fastdd.teachers.checkpoint import Epoch, State, epochs_done

    network, path = build("resnet8", 10, 1), tmp_path / "training.safetensors"
    assert epochs_done(path) == 0
    curve: list[Epoch] = [{"epoch": e, "lr": 0.1, "loss": 1.0, "accuracy": 0.5} for e in (1, 2)]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    State(network, optimizer, curve=curve).save(path, "owner")
    assert epochs_done(path) == 2


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h"), (40_000, "11 h")]
)
def test_estimates_in_words(seconds: float, text: str) -> None:
    assert rough(seconds) == text


def test_the_status_counts_every_teacher_and_unit(run: Path) -> None:
    rows = {row.stage: (row.done, row.total) for row in status(run)}
    assert rows["bank"] == rows["bank-large"] == (10, 10)
    assert rows["recover infer"] == (3, 3)
    assert all(done == total for done, total in rows.values())


def test_methods_store_what_they_say(run: Path) -> None:
    stored = {
        arm: len(list((run / "images" / arm).rglob("*.png"))) for arm in ("sre2l", "gvbsm", "infer", "cvdd")
    }
    assert stored == {
        "sre2l": 20,
        "gvbsm": 20,
        "infer": 30,
        "cvdd": 20,
    }  # 1 untouched image, and 1 for each teacher


def test_a_method_that_hears_the_first_alone_is_not_changed_by_the_others(run: Path, tmp_path: Path) -> None:
    alone = "".join(line for line in RECIPE.splitlines(keepends=True) if not line.startswith("committee"))
    alone = "".join(
        line for line in alone.splitlines(keepends=True) if "infer" not in line and "gvbsm" not in line
    )
    alone = alone.replace("ensemble: 2", "ensemble: 1")
    (tmp_path / "own.yaml").write_text(alone)
    fastdd.run(tmp_path / "own.yaml", tmp_path / "out", until="recover")
    for arm, same in (("sre2l", True), ("cvdd", False)):
        files = sorted((tmp_path / "out" / "images" / arm).rglob("*.png"))
        assert len(files) == 20
        equal = [
            file.read_bytes() == (run / file.relative_to(tmp_path / "out")).read_bytes() for file in files
        ]
        assert all(equal) is same


def test_all_teachers_may_label_for_students_whose_labels_are_not_stored(run: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "".join(line for line in RECIPE.splitlines(keepends=True) if not line.startswith("  infer"))
        .replace("  gvbsm: {method: gvbsm}\n", "")
        .replace("  cvdd: {method: cvdd, ensemble: 2}\n", "")
    )
    weights = [f"{key}.weights={run / name}.safetensors" for key, name in WEIGHTS.items()]
    found = {}
    for teachers in ("first", "all"):
        overrides = [*weights, f"labels.teachers={teachers}", "student.lr=0.01"]
        found[teachers] = fastdd.run(tmp_path / "own.yaml", tmp_path / teachers, overrides, until="evaluate")
    first, every = (found[teachers].metrics for teachers in ("first", "all"))
    assert first.arms["sre2l"].last != every.arms["sre2l"].last
    assert first.protocol.hash != every.protocol.hash
    assert every.protocol.text == f"{first.protocol.text}, labels of 2 teachers (mean)"
    one, two = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    images = torch.rand(5, 4)
    both = MeanLogits([one, two], "mean")(images)
    torch.testing.assert_close(both, (one(images) + two(images)) / 2)


def test_all_teachers_see_the_same_images(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        RECIPE.replace(
            "committee: {large: {network: resnet20, mean: [0.305]",
            "committee: {large: {network: resnet20, mean: [0.5]",
        )
    )
    with pytest.raises(InputError, match=r"committee\.large has another mean or std than teacher"):
        fastdd.run(tmp_path / "own.yaml", tmp_path / "out")


@pytest.mark.parametrize("name", ["weights", "init"])
def test_errors_of_a_committees_teacher_name_its_own_key(run: Path, tmp_path: Path, name: str) -> None:
    given = f"committee.large.{name}"
    for path, fault in ((run / "teacher.safetensors", "resnet8"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError) as caught:
            fastdd.run(run.parent / "own.yaml", tmp_path / "out", [f"{given}={path}"])
        assert str(caught.value).startswith(f"{given}: {path} ")
        assert fault in str(caught.value)
        assert "teacher.weights" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_arm_may_use_some_of_the_teachers(run: Path, tmp_path: Path) -> None:
    """Its images are those of a run that has no other teachers."""
    third = "  third: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, flip: 0.0}\n"
    large = RECIPE.split("committee: {")[1].split("\n")[0].removesuffix("}")
    three = RECIPE.replace(f"committee: {{{large}}}\n", f"committee:\n{third}  {large}\n")
    three = three.replace("{method: gvbsm}", "{method: gvbsm, committee: [large]}")
    three = three.replace("{method: infer}", "{method: infer, committee: [large]}")
    three = "".join(line for line in three.splitlines(keepends=True) if "cvdd" not in line)
    (tmp_path / "own.yaml").write_text(three)
    fastdd.run(tmp_path / "own.yaml", tmp_path / "out", until="recover")
    for arm in ("gvbsm", "infer"):
        files = sorted(path.relative_to(run) for path in (run / "images" / arm).rglob("*.png"))
        assert files
        for file in files:
            assert (tmp_path / "out" / file).read_bytes() == (run / file).read_bytes()
    rows = {row.stage: (row.done, row.total) for row in status(tmp_path / "out")}
    assert rows["recover infer"] == (3, 3)


def test_a_teacher_that_no_chosen_arm_uses_is_neither_trained_nor_needed(run: Path, tmp_path: Path) -> None:
    """A member before it that an arm uses, or one after it, has the same images."""
    own, unused = str(run.parent / "own.yaml"), "committee.large.weights=nowhere.safetensors"
    with pytest.raises(InputError, match=r"committee\.large\.weights"):
        check(fastdd.resolve(own, [unused]), tmp_path / "all")
    fastdd.run(own, tmp_path / "one", [unused], arms=["sre2l"], until="recover")
    assert [path.name for path in (tmp_path / "one").glob("teacher*.safetensors")] == ["teacher.safetensors"]
    assert not (tmp_path / "one" / "bank-large").exists()
    assert not [row for row in status(tmp_path / "one") if "large" in row.stage]
    for file in (run / "images" / "sre2l").rglob("*.png"):
        assert (tmp_path / "one" / file.relative_to(run)).read_bytes() == file.read_bytes()

    third = "  third: {network: resnet8, mean: [0.305], std: [0.376], weights: nowhere.safetensors}\n"
    large = RECIPE.split("committee: {")[1].split("\n")[0].removesuffix("}")
    text = RECIPE.replace(f"committee: {{{large}}}\n", f"committee:\n{third}  {large}\n")
    (tmp_path / "own.yaml").write_text(text.replace("{method: gvbsm}", "{method: gvbsm, committee: [large]}"))
    fastdd.run(tmp_path / "own.yaml", tmp_path / "two", arms=["gvbsm"], until="recover")
    for file in (run / "images" / "gvbsm").rglob("*.png"):
        assert (tmp_path / "two" / file.relative_to(run)).read_bytes() == file.read_bytes()


def test_teachers_that_label_are_needed(run: Path) -> None:
    chosen = fastdd.resolve(str(run.parent / "own.yaml"), arms=["sre2l"])
    assert working_teachers(chosen) == {0: ""}
    labelled = fastdd.resolve(str(run.parent / "own.yaml"), ["labels.teachers=all"], arms=["sre2l"])
    assert working_teachers(labelled) == {0: "", 1: "large"}


def test_a_run_that_has_trained_teachers_of_no_use_is_continued(run: Path, tmp_path: Path) -> None:
    """Runs of earlier versions trained all; theirs stay as they are."""
    out, own = tmp_path / "out", run.parent / "own.yaml"
    fastdd.run(own, out, arms=["sre2l"], until="recover")
    shutil.copytree(run / "bank-large", out / "bank-large")
    shutil.copy(run / "teacher-large.safetensors", out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["fingerprints"]["teacher-large"] = json.loads((run / "manifest.json").read_text())[
        "fingerprints"
    ]["teacher-large"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".safetensors", ".png")}
    fastdd.run(own, out, arms=["sre2l"], until="recover")
    assert {path: path.read_bytes() for path in before} == before


def test_costs_count_the_teachers_that_are_used(run: Path) -> None:
    sizes = {"classes": 10, "train": 1438, "test": 359}
    one = Subject.of(fastdd.resolve(str(run.parent / "own.yaml"), arms=["sre2l"]), sizes)
    assert [name for name in storage(one) if name.startswith(("teacher", "bank"))] == ["teacher", "bank"]
    every = Subject.of(fastdd.resolve(str(run.parent / "own.yaml")), sizes)
    assert {"teacher of large", "bank of large"} <= storage(every).keys()


def test_a_teacher_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        RECIPE.replace("{method: infer}", "{method: infer, committee: [larg]}")
    )
    with pytest.raises(
        InputError, match=r"arms\.infer\.committee: there is no further teacher 'larg'; committee: large"
    ):
        fastdd.resolve(str(tmp_path / "own.yaml"))


def test_each_arm_is_labelled_by_its_own_teachers(tmp_path: Path) -> None:
    """The control is labelled by those that label every arm which the same students learn from."""
    third = "  third: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, flip: 0.0}\n"
    large = RECIPE.split("committee: {")[1].split("\n")[0].removesuffix("}")
    text = RECIPE.replace(f"committee: {{{large}}}\n", f"committee:\n{third}  {large}\n")
    text = text.replace("{method: sre2l}", "{method: sre2l, committee: []}")
    text = text.replace("{method: infer}", "{method: infer, committee: [large]}")
    text += "students: {own: {network: resnet8, steps: 3}}\nstudent_arms: {own: [infer, gvbsm]}\n"
    (tmp_path / "own.yaml").write_text(text + "labels: {teachers: all}\n")
    experiment = check(fastdd.resolve(str(tmp_path / "own.yaml")), tmp_path / "out")
    labelling = {arm: experiment.labelling(arm) for arm in ("sre2l", "gvbsm", "infer", "random", "full")}
    assert labelling == {"sre2l": (0,), "gvbsm": (0, 1, 2), "infer": (0, 2), "random": (0,), "full": (0,)}
    assert experiment.labelling("random", "own") == experiment.labelling("full", "own") == (0, 2)
    (tmp_path / "own.yaml").write_text(text)
    first = check(fastdd.resolve(str(tmp_path / "own.yaml")), tmp_path / "out")
    assert first.labelling("gvbsm") == (0,)
