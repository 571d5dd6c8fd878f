"""Regimes: the same students with the classes of the images, with stored labels and with a teacher's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import fastdd
from fastdd.cli import main
from fastdd.config import Recipe, Student
from fastdd.config.student import REGIMES, in_regime, read_regimes, regime_of
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve, table
from fastdd.run_folder import Metrics

pytestmark = pytest.mark.usefixtures("one_thread")
STUDENT = "{network: resnet8, steps: 3, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}"
RECIPE = f"""\
ipc: 1
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{deda: {{method: deda, steps: 1}}}}
student: {STUDENT}
students: {{plain: {{network: convnet1, labels: hard}}}}
student_arms: {{plain: [deda]}}
"""


def write(path: Path, text: str = RECIPE) -> str:
    (path / "own.yaml").write_text(text)
    return str(path / "own.yaml")


def kinds(recipe: Recipe) -> dict[str, str]:
    return {name: regime_of(each) for name, each in {"": recipe.student, **recipe.students}.items()}


def test_a_regime_changes_the_labels_alone() -> None:
    online = Student(hard_weight=0.1, steps=7)
    hard, fixed = in_regime(online, "hard"), in_regime(online, "fixed")
    assert [regime_of(each) for each in (hard, fixed, online)] == list(REGIMES)
    assert {**dict(hard), "labels": "online", "hard_weight": 0.1} == dict(online)
    assert {**dict(fixed), "labels": "online"} == dict(online)
    assert in_regime(online, "online") is online


def test_every_kind_of_students_is_there_in_every_regime(tmp_path: Path) -> None:
    recipe = resolve(write(tmp_path), ["regimes=hard,fixed,online", "student.lr=0.01"]).recipe
    assert kinds(recipe) == {
        "": "online",
        "hard": "hard",
        "fixed": "fixed",
        "plain": "hard",
        "plain-fixed": "fixed",
        "plain-online": "online",
    }
    assert {each.lr for name, each in recipe.students.items() if "plain" not in name} == {0.01}
    assert set(recipe.student_arms) == {"plain", "plain-fixed", "plain-online"}


def test_a_recipe_that_was_written_out_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = resolve(write(tmp_path, RECIPE + "regimes: [fixed, hard]\n")).recipe
    assert kinds(recipe) == {"": "fixed", "hard": "hard", "plain": "hard", "plain-fixed": "fixed"}
    again = resolve(write(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json")))).recipe
    assert again == recipe


def test_show_says_which_regime_set_a_value(tmp_path: Path) -> None:
    rows = {row.path: row for row in table(resolve(write(tmp_path), ["regimes=hard,online"]))}
    assert (rows["students.hard.labels"].value, rows["students.hard.labels"].origin) == (
        "hard",
        "regime hard",
    )
    assert rows["students.hard.steps"].origin.endswith("own.yaml")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("hrad", "unknown regime 'hrad' (did you mean 'hard'?)"),
        ("hard,hard", "each once"),
        ("", "expected one or more of hard, fixed, online"),
        (3, "expected one or more of"),
    ],
)
def test_other_regimes_are_refused(given: object, told: str) -> None:
    with pytest.raises(InputError, match="regimes") as error:
        read_regimes(given, "regimes")
    assert told in str(error.value)


def test_the_judge_of_cifar10_has_six_kinds_of_students() -> None:
    recipe = resolve("cifar10-judge").recipe
    found = {(each.network, regime_of(each)) for each in (recipe.student, *recipe.students.values())}
    assert found == {(network, regime) for network in ("resnet20", "convnet3") for regime in REGIMES}
    assert len(recipe.students) == 5
    assert {"kmeans", "el2n", "ccs", "sre2l+dire", "fadrm", "cim", "dm", "mtt", "best"} <= set(recipe.arms)


def test_students_of_a_regimes_name_are_refused(tmp_path: Path) -> None:
    text = RECIPE.replace("plain", "fixed")
    with pytest.raises(InputError, match=r"students\.fixed is there already"):
        resolve(write(tmp_path, text), ["regimes=fixed,online"])


def test_a_run_has_a_column_and_a_hash_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RECIPE.replace("students: {plain: {network: convnet1, labels: hard}}\n", "")
    recipe = write(tmp_path, text.replace("student_arms: {plain: [deda]}\n", ""))
    out = tmp_path / "run"
    assert main(["run", recipe, "--regimes", "hard,fixed,online", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    metrics = Metrics.model_validate_json((out / "metrics.json").read_text())
    protocols = {"": metrics.protocol, **metrics.students}
    assert {each.regime for each in protocols.values()} == {"hard", "fixed", "online"}
    assert {each.network for each in protocols.values()} == {"resnet8"}
    assert len({each.hash for each in protocols.values()}) == 3
    assert all(each.hash in told for each in protocols.values())
    assert "DEDA (1 image a class) beside as many random real images: a difference of one seed with" in told
    for arm in ("random", "deda"):
        steps = {metrics.last(name)[arm] and metrics.arms[arm].curves[0][0][0] for name in protocols}
        assert steps == {3}
    assert (out / "labels" / "deda.safetensors").is_file()
    page = (out / "report.html").read_text()
    assert all(f"resnet8, {kind}" in page for kind in ("hard labels", "soft labels", "stored soft labels"))
    # the finished run is the same recipe's, with the regimes in the recipe and on the command line
    before = (out / "metrics.json").read_bytes()
    fastdd.run(recipe, out, ["regimes=hard,fixed,online"])
    assert (out / "metrics.json").read_bytes() == before


def test_a_set_is_evaluated_in_every_regime(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    words = ["evaluate", str(run), "--arm", "deda", "--regimes", "hard,fixed,online", "--seeds", "1"]
    assert main([*words, "student.steps=2"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith(" resnet")] == list(REGIMES)
    assert "online labels in place of stored ones" in out
    assert main([*words[:-4], "--regimes", "soft"]) == 2
    assert "unknown regime 'soft'" in capsys.readouterr().err
