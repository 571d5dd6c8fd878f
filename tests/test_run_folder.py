"""The run folder read back: its paths, the types of its files, and the one error of a damaged one."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import fastdd
from fastdd.errors import InputError
from fastdd.run_folder import (
    DataSplit,
    Metrics,
    RunFolder,
    Session,
    StudentResult,
    TeacherTraining,
    UnitLog,
    check_folder,
    read,
    read_manifest,
    read_recipe,
    write,
)
from fastdd.runs.experiment import check

AGAIN = "start the same `fastdd run` command again, it continues where it stopped"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A finished run that a test may change."""
    return RunFolder(Path(shutil.copytree(finished, tmp_path / "out")))


def test_every_file_has_a_type_that_writes_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    run, copy = RunFolder(finished), tmp_path / "copy.json"
    kinds = [(run.metrics, Metrics), (run.training(), TeacherTraining)]
    kinds += [(run.student(arm, seed), StudentResult) for arm in ("deda", "full") for seed in (0, 1)]
    kinds += [(path, UnitLog) for arm in run.arms() for path in run.units(arm)]
    assert len(kinds) == 2 + 4 + 7
    for path, kind in kinds:
        write(copy, read(path, kind))
        assert copy.read_bytes() == path.read_bytes(), path
    write(copy, read_manifest(run))
    assert copy.read_bytes() == run.manifest.read_bytes()
    assert [split.images for split in read(run.data, list[DataSplit])] == [1438, 359]
    assert read_recipe(run) == fastdd.resolve(str(finished.parent / "tiny.yaml"))


def test_a_session_that_is_ended_within_a_stage_leaves_its_seconds(run: RunFolder) -> None:
    before = read_manifest(run).stages["recover deda"]
    session = Session(run, read_manifest(run))

    def interrupted() -> None:
        with session.stage("recover deda") as work:
            work.images += 100
            time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    after = read_manifest(run).stages["recover deda"]
    assert round(after.seconds - before.seconds, 3) >= 0.02  # manifests count whole milliseconds
    assert after.images == before.images  # the session that goes on counts them


def test_results_are_attributes(finished: Path) -> None:
    metrics = read(RunFolder(finished).metrics, Metrics)
    assert metrics.arms["deda"].title == "DEDA"
    assert len(metrics.arms["deda"].last) == len(metrics.arms["deda"].curves) == 2
    assert metrics.full_set is not None
    assert metrics.full_set.images == 206


def test_paths_are_those_of_the_files(finished: Path) -> None:
    run = RunFolder(finished)
    assert run.is_run()
    assert run.arms() == ["deda", "random", "sre2l", "sre2l+dire"]
    files = [run.recipe, run.log, run.report, run.embeddings, run.teacher(), run.image("deda", "3", 1, "png")]
    files += [run.unit("deda", 0), run.student("full", 1)]
    assert all(path.is_file() for path in files)
    assert not any(path.exists() for path in (run.labels("deda", "view"), run.plan("deda"), run.teacher("x")))
    assert run.image("deda", "3", 1, "jpeg").name == "00001.jpg"
    assert {path.relative_to(finished).parts[0] for path in finished.rglob("*")} <= {
        path.name for path in run.made()
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"[]", "input should be an object"),
        (b'{"recipe": 3', "invalid JSON"),
        (b"\xff\xfe", "it is no UTF-8 text: byte 0"),
        (None, "arms.sre2l.vendi: field required"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_to_delete(
    run: RunFolder, content: bytes | None, reason: str
) -> None:
    if content is None:
        document = json.loads(run.metrics.read_text())
        del document["arms"]["sre2l"]["vendi"]
        content = json.dumps(document).encode()
    run.metrics.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(run.metrics, Metrics)
    message = str(caught.value)
    assert message.startswith(f"{run.metrics} is damaged ({reason}"), message
    assert message.endswith(f"); delete it and {AGAIN}")
    assert "\n" not in message


def test_a_missing_file_says_how_to_go_on(run: RunFolder) -> None:
    run.metrics.unlink()
    with pytest.raises(InputError) as caught:
        read(run.metrics, Metrics)
    assert str(caught.value) == f"{run.metrics} is missing, so the run is not finished; {AGAIN}"


def test_a_later_version_is_refused_too(run: RunFolder) -> None:
    manifest = json.loads(run.manifest.read_text()) | {"format": 3}
    run.manifest.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"was made by a later version of fastdd .run folder format 3"):
        read_manifest(run)
    recipe = read_recipe(run)
    with pytest.raises(InputError, match=r"a later version .* start over with --fresh"):
        check_folder(run.path, recipe)
    check_folder(run.path, recipe, fresh=True)


def test_checking_writes_and_deletes_nothing(run: RunFolder, tmp_path: Path) -> None:
    recipe = read_recipe(run)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    check(recipe, run.path, fresh=True)
    check(recipe, run.path)
    check(recipe, tmp_path / "other")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_is_written_as_jpeg_where_the_recipe_says_so(tiny: Path, tmp_path: Path) -> None:
    result = fastdd.run(tiny, tmp_path / "out", ["method.save.format=jpeg", "student.seeds=1"])
    names = {path.name for path in result.folder.images("deda").rglob("*.*")}
    assert names == {"00000.jpg", "00001.jpg"}
    assert result.metrics.arms["deda"].seen == 2
    assert result.folder.report.is_file()
    assert len(load_file(result.folder.embeddings)["deda"]) == 20
