"""`fastdd judge`: finished sets of anybody's as arms of a run, in every regime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from forked import together
from safetensors.torch import load_file, save_file

from fastdd.cli import main
from fastdd.distilled import open_set
from fastdd.export import export
from fastdd.run_folder import Metrics, RunFolder, read
from fastdd.runs.judgement import find_sets
from fastdd.runs.status import status
from fastdd.runtime.lock import at_work

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["steps=2", "batch=10", "pad=1", "evaluations=1", "--seeds", "2", "--student", "resnet8"]


@pytest.fixture(scope="module")
def sets(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of two images a class: a plain folder, a released one and an export. Read only."""
    here = tmp_path_factory.mktemp("sets")
    deda = finished / "images" / "deda"
    shutil.copytree(deda, here / "plain")
    for folder in sorted(deda.iterdir()):
        for number, file in enumerate(sorted(folder.iterdir())):
            c = int(folder.name)
            (here / "released" / f"new{c:03d}").mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here / "released" / f"new{c:03d}" / f"class{c:03d}_id{number:03d}.png")
    whole = open_set(finished, "deda", channels=1)
    export(whole, "webdataset", here / "shards")
    return here


def words(finished: Path, *given: object) -> list[str]:
    teacher = ["--teacher", str(finished / "teacher.safetensors"), "--data", "digits"]
    return ["judge", *map(str, given), *FEW[:4], *teacher, *FEW[4:]]


def metrics_of(out: Path) -> Metrics:
    return read(RunFolder(out).metrics, Metrics)


def test_sets_in_every_layout_are_worth_what_their_images_are(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = [sets / "plain", sets / "released", sets / "shards"]
    assert main([*words(finished, *given), "--out", str(out)]) == 0
    told, notes = capsys.readouterr()
    assert notes.count("the same images") == 1
    assert "all the same: " + ", ".join(map(str, given)) in notes
    metrics = metrics_of(out)
    assert list(metrics.arms) == ["random", "plain", "released", "shards"]
    protocols = {"": metrics.protocol, **metrics.students}
    assert [(each.network, each.regime) for each in protocols.values()] == [
        ("resnet8", "hard"),
        ("resnet8", "fixed"),
        ("resnet8", "online"),
    ]
    for name in protocols:
        last = metrics.last(name)
        assert last["plain"] == last["released"] == last["shards"]
        assert {len(each) for each in last.values()} == {2}
        assert "full" in last
    page = (out / "report.html").read_text()
    assert page.index("plain (2 images a class)") < page.index("given as they are")
    for title in ("plain", "released", "shards"):
        assert f"{title} (2 images a class) beside as many random real images: " in told
    assert "resnet8 hard" in told
    # nothing is left to do
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert main([*words(finished, *given), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert all(row.done == row.total for row in status(out) if row.total is not None)


def test_soft_labels_that_came_with_a_set_are_learned(
    finished: Path, tmp_path: Path, sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(sets / "plain", theirs / "train")
    logits = torch.randn(20, 10).half()
    save_file({"logits": logits}, theirs / "labels.safetensors")
    out = tmp_path / "out"
    arguments = [*words(finished, theirs, sets / "plain"), "--regimes", "fixed", "--out", str(out)]
    assert main([*arguments, "--no-full-set"]) == 0
    err = capsys.readouterr().err
    assert "the same images" not in err  # their soft labels differ
    assert "read theirs: 20 images" in err
    assert "read plain: 20 images" in err
    assert "read train: 20 images" not in err  # the random real images are decoded as they are stored
    stored = load_file(out / "labels" / "theirs.safetensors")["logits"]
    assert torch.equal(stored, logits)
    assert not torch.equal(load_file(out / "labels" / "plain.safetensors")["logits"], logits)


def test_the_arms_of_a_run_need_no_teacher_and_no_data(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    out = tmp_path / "out"
    few = [*FEW, "--regimes", "hard", "--no-full-set", "--out", str(out)]
    assert main(["judge", f"{run}:deda", *few]) == 0
    assert "read deda of run: 20 images" in capsys.readouterr().err
    metrics = metrics_of(out)
    assert list(metrics.arms) == ["random", "deda"]
    assert metrics.arms["deda"].coverage == metrics_of(run).arms["deda"].coverage
    files = sorted((run / "images" / "deda").rglob("*.png"))
    assert [(out / file.relative_to(run)).read_bytes() for file in files] == [f.read_bytes() for f in files]
    arms = [each.name for each in find_sets([str(run)])]
    assert set(arms) == set(metrics_of(run).arms) - {"random"}
    # a run that was begun with another set in the place of this one is not continued
    (out / "students").rename(tmp_path / "away")
    shutil.rmtree(out / "recover")
    file = next((run / "images" / "deda").rglob("*.png"))
    other = next(path for path in (run / "images" / "random").rglob("*.png"))
    shutil.copy(other, file)
    capsys.readouterr()
    assert main(["judge", f"{run}:deda", *few]) == 2
    assert "fingerprint" in capsys.readouterr().err


def test_sets_of_other_sizes_have_runs_of_their_own(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "one"
    shutil.copytree(sets / "plain", one)
    for file in one.glob("*/00001.png"):
        file.unlink()
    out = tmp_path / "out"
    few = ["--regimes", "hard", "--no-full-set", "--out", str(out)]
    assert main([*words(finished, one, sets / "plain"), *few]) == 0
    assert (metrics_of(out / "ipc-1").ipc, metrics_of(out / "ipc-2").ipc) == (1, 2)
    assert (out / "report.html").is_file()
    assert "all sets by their images a class" in capsys.readouterr().out
    cut = [*words(finished, one, sets / "plain"), "--ipc", "1", *few[:-1], str(tmp_path / "cut")]
    assert main(cut) == 0
    metrics = metrics_of(tmp_path / "cut")
    assert metrics.arms["one"].last == metrics.arms["plain"].last


def test_the_bytes_do_not_depend_on_what_was_interrupted(finished: Path, sets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [*words(finished, sets / "plain"), "--no-full-set", "--out", str(out)]
    assert main(arguments) == 0
    metrics = (out / "metrics.json").read_bytes()
    for made in ("metrics.json", "students/plain/seed_1.json", "images/plain/3/00000.png"):
        (out / made).unlink()
    (out / "recover" / "plain" / "unit_00000.json").unlink()
    assert main(arguments) == 0
    assert (out / "metrics.json").read_bytes() == metrics
    assert json.loads(metrics)["arms"]["plain"]["seen"] == 2


def test_two_processes_give_the_bytes_of_one(finished: Path, sets: Path, tmp_path: Path) -> None:
    few = [*words(finished, sets / "plain", sets / "released"), "--regimes", "hard,fixed", "--no-full-set"]
    together("-m", "fastdd", *few, "--out", tmp_path / "two")
    assert main([*few, "--out", str(tmp_path / "one")]) == 0
    for made in ("metrics.json", "students/plain/seed_1.json", "images/released/3/00000.png"):
        assert (tmp_path / "two" / made).read_bytes() == (tmp_path / "one" / made).read_bytes()


def test_of_two_judges_in_one_folder_the_second_waits(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*words(finished, sets / "plain"), "--out", str(tmp_path / "out")]
    with at_work(tmp_path / "out", "run"):
        assert main(arguments) == 2
    assert "is at work in" in capsys.readouterr().err


def test_a_set_with_several_images_in_one_stays_so(tmp_path: Path) -> None:
    text = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
method: {init: real, steps: 0, batch: {slots: all}, terms: {ce: null}}
arms: {four: {formation: {kind: zoom, images: 4}}}
student: {network: resnet8, steps: 2, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}
metrics: {full_set: false}
"""
    (tmp_path / "own.yaml").write_text(text)
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["run", str(tmp_path / "own.yaml"), "--out", str(run)]) == 0
    few = [*FEW, "--regimes", "online", "--no-full-set", "--out", str(out)]
    assert main(["judge", str(run), *few]) == 0
    metrics = metrics_of(out)
    assert (metrics.ipc, metrics.arms["four"].seen) == (1, 4)
    assert metrics.arms["four"].coverage == metrics_of(run).arms["four"].coverage
    assert "1 image a class stored and 4 seen" in (out / "report.html").read_text()


def test_sets_are_measured_without_students(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", words(finished, sets / "plain")
    given = [word for word in source if word not in FEW]
    assert main([*given, "--no-students", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "No students were trained, so nothing is known of what the sets are worth." in told
    metrics = metrics_of(out)
    assert not metrics.last()["plain"]
    assert not (out / "students").exists()
    assert metrics.arms["plain"].coverage == metrics_of(finished).arms["deda"].coverage
    page = (out / "report.html").read_text()
    assert "measured without students" in page
    assert f"Vendi score {metrics.arms['plain'].vendi:.2f}" in page
    assert not [row for row in status(out) if row.total != row.done]
    # sets are added as they were judged, and there is nothing to rank
    assert main(["judge", str(sets / "released"), "--out", str(out)]) == 0
    assert list(metrics_of(out).arms) == ["random", "plain", "released"]
    capsys.readouterr()
    assert main(["leaderboard", str(out), "--out", str(tmp_path / "site")]) == 2
    assert "measured without students" in capsys.readouterr().err
    assert main([*given, "--no-students", "--seeds", "2", "--out", str(out)]) == 2
    assert "--seeds says how students are trained" in capsys.readouterr().err


def test_a_stranger_needs_no_teacher(sets: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard", "--no-full-set", "--out", str(tmp_path / "out")]
    assert main(["judge", str(sets / "plain"), "--data", "digits", "teacher.epochs=1", *few]) == 0
    assert (out / "teacher.safetensors").is_file()
    assert list(metrics_of(out).arms) == ["random", "plain"]
    assert metrics_of(out).teacher.network == "resnet8"
    # a set is added, with the teacher that is there
    assert main(["judge", str(sets / "released"), "--out", str(out)]) == 0
    assert list(metrics_of(out).arms) == ["random", "plain", "released"]
