"""A recipe's section ``students``: all arms and both controls under several protocols in one run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from run_folders import begin_with
from test_report import Page, make_run

import fastdd
from fastdd.cli import main
from fastdd.config import Recipe, as_plain
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate.evaluation import EvaluationRequest, open_evaluation
from fastdd.export import export
from fastdd.recipes.resolve import resolve, table
from fastdd.report import report
from fastdd.report.figures import accuracy_figure
from fastdd.report.finished_run import read_run
from fastdd.run_folder import RunFolder
from fastdd.runs.experiment import check
from fastdd.runs.status import status

SOFT = "{network: resnet8, steps: 4, batch: 20, pad: 1, flip: 0.0, seeds: 1, evaluations: 2}"
TWO = f"""\
ipc: 1
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{deda: {{method: deda, steps: 2}}}}
student: {{network: convnet1, labels: hard, steps: 10, batch: 10, pad: 1, flip: 0, seeds: 2, evaluations: 1}}
students:
  resnet-soft: {SOFT}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with two kinds of students; beside it lies its recipe. Read only."""
    path = tmp_path_factory.mktemp("two")
    (path / "two.yaml").write_text(TWO)
    fastdd.run(path / "two.yaml", path / "out")
    return path / "out"


def write(path: Path, text: str) -> str:
    (path / "own.yaml").write_text(text)
    return str(path / "own.yaml")


# -- a run ----------------------------------------------------------------------------------------


def test_every_arm_and_both_controls_have_them(folder: Path) -> None:
    metrics = fastdd.run(folder.parent / "two.yaml", folder).metrics
    for arm in ("random", "deda"):
        assert len(metrics.arms[arm].last) == 2
        assert len(metrics.arms[arm].students["resnet-soft"].last) == 1
        assert [step for step, _ in metrics.arms[arm].students["resnet-soft"].curves[0]] == [2, 4]
    assert metrics.full_set is not None
    assert metrics.full_set.images == 106  # 10 steps of 10, and what rounding by class adds
    assert metrics.full_set.students["resnet-soft"].images == 46
    protocol = metrics.students["resnet-soft"]
    assert protocol.text.startswith("resnet8, 4 steps of 20 images")
    assert protocol.hash != metrics.protocol.hash
    assert metrics.last("resnet-soft")["deda"] == metrics.arms["deda"].students["resnet-soft"].last
    assert set(metrics.last()) == {"random", "deda", "full"}


def test_the_section_student_keeps_its_file_names(folder: Path) -> None:
    run = RunFolder(folder)
    files = sorted(str(path.relative_to(folder / "students")) for path in folder.glob("students/**/*.json"))
    assert files == [
        "deda/seed_0.json",
        "deda/seed_1.json",
        "full/seed_0.json",
        "full/seed_1.json",
        "random/seed_0.json",
        "random/seed_1.json",
        "resnet-soft/deda/seed_0.json",
        "resnet-soft/full/seed_0.json",
        "resnet-soft/random/seed_0.json",
    ]
    assert run.students("deda", "resnet-soft") == [run.student("deda", 0, "resnet-soft")]


def test_a_further_student_reaches_what_it_reaches_alone(
    folder: Path, tmp_path: Path, one_thread: None
) -> None:
    shutil.copytree(folder, tmp_path / "two")
    (tmp_path / "two" / "metrics.json").unlink()
    shutil.rmtree(tmp_path / "two" / "students")
    several = fastdd.run(folder.parent / "two.yaml", tmp_path / "two", until="evaluate").metrics
    given = f"teacher.weights={folder / 'teacher.safetensors'}"
    alone = write(tmp_path, TWO.split("student:")[0] + f"student: {SOFT}")
    metrics = fastdd.run(alone, tmp_path / "one", [given], until="evaluate").metrics
    assert metrics.last() == several.last("resnet-soft")
    assert metrics.protocol == several.students["resnet-soft"]


def test_what_is_missing_of_them_is_made_again(folder: Path, tmp_path: Path, one_thread: None) -> None:
    command = ["run", str(folder.parent / "two.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    run = RunFolder(tmp_path / "out")
    names = (run.student("deda", 0, "resnet-soft"), run.student("full", 0, "resnet-soft"), run.metrics)
    before = [file.read_bytes() for file in names]
    for file in names:
        file.unlink()
    rows = {row.stage: (row.done, row.total) for row in status(run.path)}
    assert rows["students deda"] == (2, 2)
    assert rows["students resnet-soft deda"] == rows["students resnet-soft full"] == (0, 1)
    state = run.student_state(run.student("deda", 0, "resnet-soft"))
    state.touch()
    under_way = {row.stage: str(row).split()[-3] for row in status(run.path)}
    assert under_way["students resnet-soft deda"].endswith("part")
    assert under_way["students resnet-soft full"].endswith("do")
    state.unlink()
    assert main(command) == 0
    assert [file.read_bytes() for file in names] == before
    assert main([*command, "--fresh", "students.resnet-soft.steps=2"]) == 0
    assert [file.read_bytes() for file in names] != before


def test_many_kinds_have_rows_that_fit_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastdd.cli.stages.MOST_COLUMNS", 1)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["evaluate", str(folder.parent / "two.yaml"), "--out", str(folder)]) == 0
    text = capsys.readouterr().out
    tables = text.split("protocol ")[0]
    assert "…" not in tables
    rows = [line.split() for line in tables.splitlines()]
    kinds = [index for index, row in enumerate(rows) if row[:1] in (["convnet1,"], ["resnet8,"])]
    assert len(kinds) == 2
    for first in kinds:
        assert " ".join(rows[first][3:6]) == "random real images"
        assert rows[first + 1][0] == "DEDA"
        assert " ".join(rows[first + 2][:3]) == "whole training set,"


def test_the_table_has_a_column_for_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder.parent / "two.yaml"), "--out", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "(convnet1, hard labels)" in text
    assert "(resnet8, soft labels)" in text
    last = fastdd.run(folder.parent / "two.yaml", folder).metrics.last("resnet-soft")
    gain = 100 * (last["deda"][0] - last["random"][0])
    assert f"{100 * last['deda'][0]:.1f} ({gain:+.1f})" in text
    assert re.search("protocol of resnet-soft .*; 1 seed\n", text)
    assert re.search("protocol [0-9a-f]{8}: .*; 2 seeds\n", text)
    assert "two: 1 image a class" in text


def test_labels_that_no_students_read_are_stored_only_where_they_are_asked_for(
    folder: Path, tmp_path: Path, one_thread: None
) -> None:
    out = Path(shutil.copytree(folder, tmp_path / "out"))
    assert not (out / "labels").exists()
    assert main(["label", str(folder.parent / "two.yaml"), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.glob("labels/*")) == ["deda.safetensors", "random.safetensors"]
    assert main(["run", str(folder.parent / "two.yaml"), "--out", str(out)]) == 0


def test_labels_of_images_are_stored_where_any_students_read_them(folder: Path, tmp_path: Path) -> None:
    given = [f"teacher.weights={folder / 'teacher.safetensors'}", "students.resnet-soft.labels=stored"]
    out = fastdd.run(folder.parent / "two.yaml", tmp_path / "out", given, until="evaluate").path
    assert sorted(path.name for path in out.glob("labels/*")) == ["deda.safetensors", "random.safetensors"]


def test_labels_of_views_are_those_of_each_protocol(tmp_path: Path, folder: Path) -> None:
    text = TWO.split("students:")[0] + "students: {soft: {network: convnet1, labels: stored, steps: 2}}\n"
    recipe = write(tmp_path, text + "labels: {per: view, form: fp16}\nmetrics: {full_set: false}\n")
    given = [f"teacher.weights={folder / 'teacher.safetensors'}", "student.labels=stored"]
    out = fastdd.run(recipe, tmp_path / "out", given, until="evaluate").path
    assert {path.parent.name for path in out.glob("labels/*/manifest.json")} == {"random", "deda"}
    assert {path.parent.name for path in out.glob("labels/soft/*/manifest.json")} == {"random", "deda"}
    with pytest.raises(InputError, match=r"students\.soft has randaugment.*students\.soft\.labels=online"):
        fastdd.run(recipe, tmp_path / "no", [*given, "students.soft.pad_color=black"])
    assert not (tmp_path / "no").exists()


def test_the_page_tells_network_labels_and_the_best_of_all(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["student"] = {"network": "convnet1", "labels": "hard"}
    recipe["students"] = {"soft": {"network": "resnet8"}}
    begin_with(RunFolder(run), recipe)
    with pytest.raises(InputError, match=r"metrics\.json is damaged \(students and .* differ in 'soft'\)"):
        report(run)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["students"] = {"soft": {"text": "resnet8, 7 steps", "hash": "cafe0bad", "seeds": 1}}
    for arm, value in {"random": 0.85, "sre2l": 0.95, "deda+x": 0.8}.items():
        metrics["arms"][arm]["students"] = {"soft": {"last": [value], "best": [value], "curves": [[]]}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = Page(report(run))
    assert "convnet1, hard labels; resnet8, soft labels" in page.text
    assert (
        "The best set, SRe2L with resnet8, soft labels, is 10.0 points above random real images" in page.text
    )
    # the sentences on every set are below the table: a page begins with them where sets are judged
    assert page.text.index("The best set, SRe2L") < page.text.index("SRe2L (2 images a class) beside as many")
    table = page.source[page.source.index("<tbody>") : page.source.index("</tbody>")]
    bold = re.findall(r'<b>([0-9.]+)</b>(?: <small>.*?</small>)? <span class="gain">([^<]*)', table)
    assert bold == [("95.0", "+10.0"), ("91.0", "+9.0 ± 2.5")]
    marked = re.findall(
        r'([0-9.]+)(?:</b>)? <span class="gain">[^<]*</span> <span class="mark">([^<]*)', table
    )
    assert marked == [("85.0", "best random"), ("95.0", "best of all")]
    for expected in ("7 steps; 1 seed", "cafe0bad", "0badcafe"):
        assert expected in page.text
    figures = [accuracy_figure(read_run(run), name) for name in ("", "soft")]
    assert figures[0].axis == figures[1].axis
    assert figures[1].rows[1].gain == pytest.approx(10)


def test_a_set_is_evaluated_under_the_protocol_of_any_of_them(
    folder: Path, tmp_path: Path, one_thread: None
) -> None:
    request = EvaluationRequest(
        folder, protocol="resnet-soft", full=False, overrides=["seeds=2"], json=tmp_path / "found.json"
    )
    evaluation = open_evaluation(request, torch.device("cpu"))
    assert [(config.network, config.labels) for config in evaluation.configs] == [("resnet8", "online")]
    found = evaluation.run()[0]
    metrics = fastdd.run(folder.parent / "two.yaml", folder).metrics
    assert found["deda"]["last"][:1] == pytest.approx(metrics.last("resnet-soft")["deda"], abs=0.02)


def test_the_card_of_an_export_has_a_column_for_each(folder: Path, tmp_path: Path) -> None:
    made = export(open_set(folder, "deda", channels=1), "imagefolder", tmp_path / "out")
    text = (made / "README.md").read_text()
    assert (
        "| | top-1 % (last, convnet1, hard labels) | top-1 % (last, resnet8, soft labels) | coverage |"
        in text
    )
    (row,) = (line for line in text.splitlines() if line.startswith("| random real images |"))
    assert "(2 students) |" in row
    assert "(1 student) |" in row
    assert "of resnet8, soft labels: resnet8, 4 steps" in text


# -- the recipe -----------------------------------------------------------------------------------


def test_a_recipe_without_them_is_saved_as_before(tiny: Path, tmp_path: Path) -> None:
    assert "students" not in as_plain(resolve(str(tiny)).recipe)
    plain = as_plain(resolve(write(tmp_path, TWO)).recipe)
    assert Recipe.model_validate(plain) == resolve(write(tmp_path, TWO)).recipe


def test_each_has_its_own_protocol_over_the_data_sets_student(tmp_path: Path) -> None:
    text = "dataset: cifar10cpu\narms: {deda: {method: deda}}\nstudent: {lr: 0.5}\n"
    name = write(
        tmp_path, text + "students: {a: {protocol: sre2l-cifar, pad: 1}, b: {protocol: rded}, c: {}}"
    )
    resolved = resolve(name, ["students.b.protocol=dire", "students.c.seeds=7"])
    a, b, c = resolved.recipe.students.values()
    assert (a.protocol, a.network, a.epochs, a.steps, a.pad) == (
        "sre2l-cifar",
        "resnet18_small",
        400,
        None,
        1,
    )
    assert (b.protocol, b.seeds, b.lr) == ("dire", 5, 0.001)
    assert (c.protocol, c.steps, c.seeds, c.precision) == ("house", 400, 7, "auto")
    origins = {row.path: row.origin for row in table(resolved)}
    assert origins["students.a.epochs"] == "protocol sre2l-cifar"
    assert origins["students.a.precision"] == "data set cifar10cpu"
    assert origins["students.c.seeds"] == "command line"
    assert origins["students.c.lr"] == "default"


def test_overrides_name_one_of_them(tmp_path: Path) -> None:
    recipe = resolve(write(tmp_path, TWO), ["students.resnet-soft.steps=100", "student.steps=7"]).recipe
    assert (recipe.student.steps, recipe.students["resnet-soft"].steps) == (7, 100)


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("{../a: {}}", [], r"students\.\.\./a: the name becomes a folder name"),
        ("{deda: {}}", [], r"students\.deda has the name of an arm"),
        ("{random: {}}", [], r"students\.random has the name of an arm"),
        ("{a: {steps: 1}, a: {steps: 2}}", [], r"key written twice: a"),
        ("{a: {protocol: sre3l-cifar}}", [], r"students\.a\.protocol: unknown protocol 'sre3l-cifar'"),
        ("{a: {stps: 1}}", [], r"unknown key students\.a\.stps \(did you mean 'steps'\?\)"),
        ("{a: {lr: -1}}", [], r"students\.a\.lr: .*greater than 0 .*got -1"),
        ("{a: {steps: null}}", [], r"students\.a: give one of steps and epochs"),
        ("{a: 3}", [], r"students\.a: .*got 3"),
        ("3", [], r"students: .*got 3"),
        ("{resnet: {}}", ["students.rsnet.steps=1"], r"unknown student 'rsnet' \(did you mean 'resnet'\?\)"),
        (
            "{}",
            ["students.a.steps=1"],
            r"students\.a\.steps: unknown student 'a'; .*write a section `students`",
        ),
    ],
)
def test_a_bad_section_is_refused_by_its_key(
    tmp_path: Path, text: str, overrides: list[str], expected: str
) -> None:
    name = write(tmp_path, f"arms: {{deda: {{method: deda}}}}\nstudents: {text}\n")
    with pytest.raises(InputError, match=expected):
        resolve(name, overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("network=resnet80", r"students\.resnet-soft\.network: unknown network 'resnet80'"),
        ("network=convnet3", r"students\.resnet-soft\.network: convnet3 cannot take images of 1 x 8 x 8"),
        ("batch=9", r"students\.resnet-soft\.batch=9 and students\.resnet-soft\.accumulate=1"),
        ("batch=by_ipc", r"students\.resnet-soft\.batch=by_ipc is known for 1, 10, .* 100 images a class"),
    ],
)
def test_a_student_that_cannot_be_trained_is_refused_before_any_work(
    tmp_path: Path, override: str, expected: str
) -> None:
    given = [f"students.resnet-soft.{override}", f"ipc={3 if 'by_ipc' in override else 1}"]
    with pytest.raises(InputError, match=expected):
        fastdd.run(write(tmp_path, TWO), tmp_path / "out", given)
    assert not (tmp_path / "out").exists()


# -- students of some arms alone ------------------------------------------------------------------

SOME = TWO.replace(
    "arms: {deda: {method: deda, steps: 2}}",
    "arms: {deda: {method: deda, steps: 2}, sre2l: {steps: 1, method: sre2l}}",
)
SOME += "student_arms: {resnet-soft: [deda]}\n"


def test_students_learn_from_the_arms_that_are_named_and_from_the_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", write(tmp_path, SOME), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["arms"]["deda"]["students"]) == ["resnet-soft"]
    assert "students" not in metrics["arms"]["sre2l"]
    assert list(metrics["arms"]["random"]["students"]) == ["resnet-soft"]
    assert list(metrics["full_set"]["students"]) == ["resnet-soft"]
    assert not (out / "students/resnet-soft/sre2l").exists()
    run = read_run(out)
    assert [row.arm.key for row in accuracy_figure(run, "resnet-soft").rows] == ["random", "deda"]
    assert len(accuracy_figure(run).rows) == 3
    line = next(line for line in shown.splitlines() if line.startswith(" SRe2L"))
    assert re.search(r"\) +- +0\.", line), line  # no accuracy with those students
    cells = [row.stage for row in status(out)]
    assert "students resnet-soft deda" in cells
    assert "students resnet-soft sre2l" not in cells
    assert export(open_set(out, "sre2l", channels=1), "imagefolder", tmp_path / "set")


def test_a_protocol_that_is_only_known_for_some_numbers_of_images_is_asked_for_the_arms_it_is_for(
    tmp_path: Path,
) -> None:
    offsets = "infer: {method: infer, steps: 1, batch: {slots: all}, augment: {roll: [0, 0]}}"
    own = f"  by-ipc: {SOFT.replace('batch: 20', 'batch: by_ipc')}\nstudent_arms: {{by-ipc: [ARM]}}\n"
    text = TWO.replace("arms: {deda:", f"arms: {{{offsets}, deda:") + own
    seen = "students.by-ipc.batch=by_ipc is known for .* but the set has"
    with pytest.raises(InputError, match=seen):
        check(resolve(write(tmp_path, text.replace("ARM", "infer")), ["ipc=10"]).recipe, tmp_path / "out")
    check(resolve(write(tmp_path, text.replace("ARM", "deda")), ["ipc=10"]).recipe, tmp_path / "out")


def test_students_of_arms_that_are_not_chosen_are_left_out(tmp_path: Path) -> None:
    name = write(tmp_path, SOME)
    assert resolve(name, arms=["sre2l"]).recipe.students == {}
    chosen = resolve(name, arms=["deda"]).recipe
    assert (list(chosen.students), chosen.student_arms) == (["resnet-soft"], {"resnet-soft": ("deda",)})
    added = resolve(name, add=["dire"]).recipe
    assert added.student_arms == {"resnet-soft": ("deda+dire",)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{resnet-hard: [deda]}",
            r"student_arms\.resnet-hard names no further student; students: resnet-soft",
        ),
        ("{resnet-soft: [dedda]}", r"student_arms\.resnet-soft: there is no arm 'dedda'; arms: deda, sre2l"),
        ("{resnet-soft: deda}", r"student_arms\.resnet-soft"),
        ("[deda]", "student_arms"),
    ],
)
def test_arms_of_students_that_are_not_there(tmp_path: Path, given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(write(tmp_path, SOME.replace("{resnet-soft: [deda]}", given)))
