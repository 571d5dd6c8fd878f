"""Labels stored in several ways in one run: bytes against accuracy in page, terminal and metrics.json."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

import fastdd
from fastdd.config import Labels, Student, TemperatureSchedule
from fastdd.config.naming import label_words
from fastdd.errors import InputError
from fastdd.labels import StoredLabels
from fastdd.recipes.resolve import resolve
from fastdd.report.bytes_figure import label_figure, label_rows
from fastdd.report.finished_run import read_run
from fastdd.run_folder import Metrics, read

STORED = "network: convnet1, labels: stored, steps: 8, batch: 5, pad: 1, flip: 0, seeds: 2, evaluations: 1"
RECIPE = f"""
ipc: 1
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{}}
labels: {{per: view, mix_per: sample}}
student: {{network: convnet1, steps: 4, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}}
students:
  plain: {{{STORED}}}
  three: {{{STORED}, temperature_schedule: {{low: 2.0}}, student_temperature: 1.0}}
  rank: {{{STORED}}}
  codes: {{{STORED}}}
  half: {{{STORED}, label_stages: [[soft, 0.5], [hard, 0.5]]}}
student_labels:
  plain: {{}}
  three: {{form: topk, topk: 3}}
  rank: {{form: lowrank, rank: 1}}
  codes: {{form: pq, codes: 2, keep: 0.5, replay: once}}
  half: {{form: int4}}
metrics: {{full_set: false}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run. Read only."""
    path = tmp_path_factory.mktemp("rates")
    (path / "rates.yaml").write_text(RECIPE)
    fastdd.run(path / "rates.yaml", path / "out")
    return path / "out"


def test_each_kind_of_students_has_labels_of_its_own(folder: Path) -> None:
    opened = {
        name: StoredLabels.open(folder / "labels" / name / "random")
        for name in ("plain", "three", "rank", "codes", "half")
    }
    forms = {name: labels.manifest.form for name, labels in opened.items()}
    assert forms == {"plain": "fp16", "three": "topk", "rank": "lowrank", "codes": "pq", "half": "int4"}
    assert {labels.manifest.augmentation.mix_per for labels in opened.values()} == {"sample"}
    assert opened["three"].manifest.rest == "none"  # since its temperature falls
    counts = {name: labels.manifest.pool.labels for name, labels in opened.items()}
    assert counts == {"plain": 40, "three": 40, "rank": 40, "codes": 20, "half": 20}


def test_metrics_tell_bytes_and_accuracies(folder: Path) -> None:
    arm = read(folder / "metrics.json", Metrics).arms["random"]
    assert set(arm.students) == {"plain", "three", "rank", "codes", "half"}
    for name, students in arm.students.items():
        assert students.shipped is not None
        assert len(students.last) == 2
        files = [file for file in (folder / "labels" / name / "random").iterdir() if file.is_file()]
        assert students.shipped.labels == sum(file.stat().st_size for file in files)
    hashes = {each["hash"] for each in json.loads((folder / "metrics.json").read_text())["students"].values()}
    assert len(hashes) == 5


def test_the_page_draws_bytes_against_accuracy(folder: Path) -> None:
    run = read_run(folder)
    assert list(run.students) == [""]  # the others have a table of their own
    rows, figure = label_rows(run), label_figure(run)
    assert [row.name for row in rows] == ["plain", "three", "rank", "codes", "half"]
    assert rows[1].words == "top 3 without a rest, T falls, the student's T 1"
    assert rows[3].words == "2 codes, 50 % kept"
    assert rows[4].words == "int4, 50 % of the steps soft"
    assert figure is not None
    (panel,) = figure.panels
    assert [mark.number for mark in panel.marks] == ["1", "2", "3", "4", "5"]
    page = html.unescape((folder / "report.html").read_text())
    assert "Labels at a rate" in page
    for row in rows:
        assert f"{row.number}. {row.words}" in page
        assert row.cells[0].size in page


def test_the_command_prints_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastdd.cli import main

    assert main(["run", str(folder.parent / "rates.yaml"), "--out", str(folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "three: top 3 without a rest" in out
    assert "protocol of three" not in out


def test_labels_of_students_are_laid_over_the_section(tmp_path: Path) -> None:
    (tmp_path / "rates.yaml").write_text(RECIPE)
    recipe = resolve(str(tmp_path / "rates.yaml"), ["labels.views=stored"]).recipe
    assert recipe.labels_of("codes").views == "stored"
    assert recipe.labels_of("codes").keep == 0.5
    assert recipe.labels_of("").form == "fp16"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  half: {form: int4}", "  other: {form: int4}", "student_labels.other is of no further student"),
        ("labels: {per: view, mix_per: sample}", "labels: {}", "set per to view"),
        ("  rank: {form: lowrank, rank: 1}", "  rank: {form: lowrank, rank: 8}", "smaller rank"),
        ("half: {form: int4}", "half: {from: int4}", "unknown key student_labels.half.from"),
    ],
)
def test_labels_that_fit_no_student_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert RECIPE.count(old) == 1
    (tmp_path / "rates.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(InputError, match=message):
        fastdd.run(tmp_path / "rates.yaml", tmp_path / "out")
    assert not (tmp_path / "out" / "images").exists()


def test_ways_to_store_labels_in_words() -> None:
    falls = Student(temperature_schedule=TemperatureSchedule())
    for labels, student, words in (
        (Labels(), Student(), "fp16"),
        (Labels(form="topk", topk=5), Student(), "top 5"),
        (Labels(form="topk", topk=5), falls, "top 5 without a rest, T falls"),
        (Labels(per="view", form="lowrank"), Student(), "mean + rank 2"),
        (Labels(per="view", form="pq", keep=0.1, replay="once"), falls, "8 codes, 10 % kept, T falls"),
    ):
        assert label_words(labels, student) == words


def test_the_built_in_recipe_has_every_form_on_one_image_set() -> None:
    recipe = resolve("cifar10-labels").recipe
    stored = {name: recipe.labels_of(name) for name in recipe.students}
    assert list(recipe.arms) == ["best"]
    assert set(recipe.student_labels) == set(recipe.students)
    assert {labels.form for labels in stored.values()} == {"fp16", "topk", "int8", "int4", "lowrank", "pq"}
    assert {(each.steps, each.batch) for each in recipe.students.values()} == {(1000, 20)}
    for labels, student in ((stored[name], recipe.students[name]) for name in stored):
        assert labels.keep == 1 or (labels.keep in (0.05, 0.1, 0.2, 0.5) and labels.replay == "once")
        assert (student.temperature_schedule is None) == (student.student_temperature is None)
    scheduled = [name for name, each in recipe.students.items() if each.temperature_schedule is not None]
    assert [name for name in scheduled if stored[name].keep < 1] == [
        "fp16-tenth-T",
        "top3-tenth-T",
        "codes2-tenth-T",
    ]
