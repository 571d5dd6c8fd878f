"""`fastdd status RUN --watch`: what a run of another process is at, read from its files."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from run_folders import make_run_folder

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder
from fastdd.runs.status import Watched, watch
from fastdd.runtime.events import Event, in_stage, received_by, send
from fastdd.runtime.lock import at_work
from fastdd.trackers import JsonLines

NOW = datetime.now().astimezone()
RECIPE = {"name": "small", "arms": {"deda": {}}}


def write(run: RunFolder, *events: Event) -> None:
    tell = JsonLines(run.log)
    for event in events:
        tell(event)


def at(seconds: int) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S%z")


def test_stage_speed_time_left_and_losses_are_read_from_the_log(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write(
        run,
        Event("end", "squeeze", values={"seconds": 12.34, "images": 100}),
        Event("begin", "recover deda"),
        Event("losses", "recover deda", step=20, values={"ce": 0.5, "gaussian": 1.25}),
        Event("progress", "recover deda", values={"done": 2000, "total": 8000, "rate": 100.0}, time=at(-10)),
    )
    watched = Watched(run.log)
    watched.read()
    assert watched.rows(NOW.replace(microsecond=0)) == [
        ("stage", "recover deda"),
        ("recover deda", "2,000 of 8,000 images (25 %)"),
        ("images/s", "100.0"),
        ("time left", "0:00:50"),
        ("losses", "ce 0.5, gaussian 1.25 at step 20"),
        ("done", "squeeze, 12.3 s"),
        ("last news", "0:00:10 ago"),
    ]


def test_a_run_that_is_stuck_shows_how_old_its_news_are(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write(run, Event("begin", "bank", time=at(-7200)))
    watched = Watched(run.log)
    watched.read()
    assert watched.rows(NOW.replace(microsecond=0))[-1] == ("last news", "2:00:00 ago")


def test_lines_are_read_once_and_neither_half_nor_damaged_ones_hurt(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    watched = Watched(run.log)
    watched.read()  # there is no log yet
    write(run, Event("accuracy", "student deda 0", step=100, values={"accuracy": 0.5}))
    with run.log.open("a") as file:
        file.write('{"event": "acc\n[]\n{"time": "x", "stage": "bank", "ev')
    for _ in range(2):
        watched.read()
    assert watched.accuracies == ["student deda 0: accuracy 50.0 % at 100"]
    with run.log.open("a") as file:
        file.write('ent": "begin"}\n')
    watched.read()
    assert watched.stage == "bank"


def test_watching_ends_when_nobody_is_at_work(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run", RECIPE, ["0", "1"])
    shown: list[list[tuple[str, str]]] = []
    with at_work(run.path, "run"), received_by(JsonLines(run.log)):
        looks = watch(run.path, sleep=lambda seconds: None)
        shown.append(next(looks))
        with in_stage("bank"):
            send("begin")
        shown.append(next(looks))
    shown += list(looks)
    assert shown[0][0][1].startswith("run, pid ")
    assert ("stage", "none") in shown[0]
    assert ("stage", "bank") in shown[1]
    assert shown[2][0] == ("at work", "nobody")
    assert len(shown) == 3


def test_the_command_shows_the_end_of_a_run_and_then_its_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run_folder(tmp_path / "run", RECIPE, ["0", "1"])
    write(run, Event("end", "bank", values={"seconds": 1.0, "images": 10}))
    assert main(["status", str(run.path), "--watch"]) == 0
    out = capsys.readouterr().out
    assert "at work: nobody\nstage: none\ndone: bank, 1.0 s\n" in out
    assert "squeeze" in out


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        next(watch(tmp_path))
