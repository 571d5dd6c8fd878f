"""The page of several runs: accuracy against images a class, from run folders or from a sweep's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from run_folders import begin_with
from test_report import Page, make_run, write_losses

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.report import report, report_runs
from fastdd.report.axis import grid_axis
from fastdd.report.figures import loss_figure
from fastdd.report.finished_run import read_run
from fastdd.run_folder import RunFolder


def with_students(run: Path, accuracy: float) -> Path:
    """A run with a second kind of students, all of one accuracy."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["students"] = {"hard": {"network": "convnet1", "labels": "hard"}}
    begin_with(RunFolder(run), recipe)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["students"] = {"hard": {"text": "convnet1, 7 steps", "hash": "cafe0bad", "seeds": 1}}
    for arm in metrics["arms"].values():
        arm["students"] = {"hard": {"last": [accuracy], "best": [accuracy], "curves": [[]]}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_a_panel_for_each_kind_of_students_and_a_column_for_each_ipc(tmp_path: Path) -> None:
    runs = [
        with_students(make_run(tmp_path / str(ipc), ipc=ipc), accuracy)
        for ipc, accuracy in ((4, 0.5), (1, 0.3))
    ]
    report(runs[0])
    page = Page(report_runs(runs, tmp_path / "page" / "all.html"))
    assert "Sets of 1 and 4 images a class" in page.text
    assert "student = resnet20, soft labels" in page.text
    assert "student = convnet1, hard labels" in page.text
    assert page.text.count("With 1 image a class the best, DEDA <&> mine with resnet20, soft labels") == 1
    head = re.findall(r"(\d+) a class<br>", page.source)
    assert head == ["1", "4", "1", "4"]
    table = page.source[page.source.index("<tbody>") : page.source.index("</tbody>")]
    assert re.findall(r"([0-9.]+)(?:</b>)?(?: <small>| <span)", table)[:4] == ["82.0", "82.0", "30.0", "50.0"]
    assert page.source.count('class="curve"') == 2 * 2
    assert [link for link in page.links if link.endswith(".html")] == ["../4/report.html"]
    assert len(set(page.ids)) == len(page.ids)


def test_runs_of_one_kind_of_students_have_one_panel(tmp_path: Path) -> None:
    runs = [str(make_run(tmp_path / str(ipc), ipc=ipc)) for ipc in (1, 2)]
    assert main(["report", *runs]) == 0
    page = Page(tmp_path / "runs.html")
    assert "student =" not in page.text
    assert page.source.count('class="panel"') == 1


def test_runs_of_as_many_images_a_class_stand_side_by_side_each_with_its_control(tmp_path: Path) -> None:
    protocol = {"text": "another one", "hash": "beadbead", "seeds": 3}
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", protocol=protocol)]
    assert main(["report", *map(str, runs)]) == 0
    page = Page(tmp_path / "runs.html")
    assert "Sets of 2 images a class" in page.text
    assert page.text.count("In one the best,") == page.text.count("In two the best,") == 1
    assert re.findall(r'<th scope="col">(\w+)<br>', page.source) == ["one", "two"]
    assert page.source.count('class="panel"') == 1
    assert "another one; 3 seeds. Accuracies under other protocols do not compare." in page.text
    several = report_runs([*runs, make_run(tmp_path / "three", ipc=1)], tmp_path / "all.html")
    assert re.findall(r'<th scope="col">([^<]+)<br>', several.read_text()) == [
        "three, 1 a class",
        "one, 2 a class",
        "two, 2 a class",
    ]


def test_images_a_class_lie_on_a_logarithmic_axis_however_little_they_span() -> None:
    places = grid_axis([1, 2, 4], log=True).places
    assert places[1] == pytest.approx((places[0] + places[2]) / 2)
    assert grid_axis([1, 2, 4]).places[1] < places[1]


def test_runs_that_are_no_series_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run(tmp_path / "one", ipc=1)
    for second, expected in (
        (one, "is given twice; give each run once"),
        (make_run(tmp_path / "classes", classes=("x", "y")), "other classes"),
        (with_students(make_run(tmp_path / "students"), 0.5), "give runs with the same students"),
    ):
        with pytest.raises(InputError, match=expected):
            report_runs([one, second], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    assert main(["report", str(one), "--out", str(tmp_path / "page.html")]) != 0
    assert "--out goes with several runs" in capsys.readouterr().err


@pytest.mark.parametrize("out", [None, "thesis.html"])
def test_a_file_that_is_no_page_of_ours_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str | None
) -> None:
    runs = [str(make_run(tmp_path / name)) for name in ("one", "two")]
    file = tmp_path / (out or "runs.html")
    file.write_text("<!DOCTYPE html><title>My thesis</title>")
    command = ["report", *runs, *(["--out", str(file)] if out else [])]
    assert main(command) == 2
    assert f"{file} exists and is no page of fastdd; name another file with --out" in capsys.readouterr().err
    assert "My thesis" in file.read_text()
    file.unlink()
    assert main(command) == main(command) == 0  # a page of ours is written again


def test_a_sweep_over_ipc_has_the_page(pets_recipe: object, pets: Path, tmp_path: Path) -> None:
    assert callable(pets_recipe)
    recipe = pets_recipe(pets)
    recipe.write_text(recipe.read_text() + "students: {hard: {network: resnet8, labels: hard, steps: 2}}\n")
    out = tmp_path / "sweep"
    command = ["sweep", str(recipe), "--grid", "ipc=1,2", "--seeds", "1", "--out", str(out)]
    assert main([*command, "arms.deda.steps=1", "arms.sre2l.steps=1", "metrics.full_set=false"]) == 0
    text = (out / "report.html").read_text()
    assert "student = resnet8, hard labels" in text
    assert len(list(out.glob("ipc-*/students/hard/deda/seed_*.json"))) == 2
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == text


def test_losses_of_any_name_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    losses = [
        {"step": 0, "trajectory": 0.9, "features": 30.0},
        {"step": 20, "trajectory": 0.5, "features": 4.0},
    ]
    write_losses(run, "sre2l", [losses, losses])
    figure = loss_figure(read_run(run))
    assert figure is not None
    assert [line.term for line in figure.panels[0][1]] == ["trajectory", "features"]
    text = Page(report(run)).text
    assert "trajectory" in text
    assert ", Values" not in text
