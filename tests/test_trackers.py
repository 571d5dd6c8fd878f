"""Events of a run: what is sent, who receives it, and that nobody changes a result."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import fastdd
from fastdd import trackers
from fastdd.config import as_plain
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder
from fastdd.run_folder.session import recipe_hash
from fastdd.runtime.events import Event, in_stage, received_by, send
from fastdd.runtime.progress import progress
from fastdd.trackers import Csv, JsonLines, require_trackers, tracked

SMALL = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, minimum_accuracy: 0}
arms: {deda: {method: deda, steps: 2}}
recover: {log_every: 1, compile: false}
student: {network: convnet1, steps: 2, batch: 10, pad: 1, seeds: 1}
metrics: {full_set: false}
"""
UNTRACKED = fastdd.resolve("digits")
TRACKED = fastdd.resolve("digits", ["log=[csv, tensorboard]"])
LOSSES = Event("losses", "recover sre2l+dire", step=20, values={"ce": 0.5, "dire": 2.0}, time="now")


# -- sending --------------------------------------------------------------------------------------


def test_an_event_has_the_stage_that_it_is_sent_in_and_reaches_all_receivers() -> None:
    one, two = list[Event](), list[Event]()
    send("begin")  # nobody listens
    with received_by(one.append), received_by(two.append), in_stage("squeeze"):
        send("accuracy", step=1, values={"accuracy": 0.5})
        with in_stage("read test"):
            send("begin")
        send("end")
    send("begin")
    assert [(event.kind, event.stage) for event in one] == [
        ("accuracy", "squeeze"),
        ("begin", "read test"),
        ("end", "squeeze"),
    ]
    assert one == two
    assert (one[0].step, one[0].values) == (1, {"accuracy": 0.5})


def test_progress_is_sent_at_its_beginning_and_end() -> None:
    events: list[Event] = []
    with received_by(events.append), progress("bank", 10) as bar:
        for _ in range(10):
            bar.advance(1)
    assert [event.values["done"] for event in events] == [0, 10]
    assert {(event.kind, event.stage, event.values["total"]) for event in events} == {
        ("progress", "bank", 10)
    }


# -- files ----------------------------------------------------------------------------------------


def test_a_line_of_json_has_what_an_event_has(tmp_path: Path) -> None:
    write = JsonLines(tmp_path / "log.jsonl")
    write(LOSSES)
    write(LOSSES)  # less than a second later
    write(Event("begin", "squeeze", time="now"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [
        {
            "time": "now",
            "stage": "recover sre2l+dire",
            "event": "losses",
            "step": 20,
            "values": {"ce": 0.5, "dire": 2.0},
        },
        {"time": "now", "stage": "squeeze", "event": "begin"},
    ]


def test_a_row_of_csv_has_one_value_and_a_second_session_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        write = Csv(tmp_path / "log.csv")
        write(LOSSES)
        write(Event("begin", "label, by hand", time="now"))
    rows = list(csv.reader((tmp_path / "log.csv").open()))
    assert rows[0] == ["time", "stage", "event", "step", "name", "value"]
    assert rows[1:4] == [
        ["now", "recover sre2l+dire", "losses", "20", "ce", "0.5"],
        ["now", "recover sre2l+dire", "losses", "20", "dire", "2.0"],
        ["now", "label, by hand", "begin", "", "", ""],
    ]
    assert rows[4:] == rows[1:4]


# -- the recipe's key -----------------------------------------------------------------------------


def test_log_is_no_part_of_the_saved_recipe_nor_of_its_hash() -> None:
    assert TRACKED.log == ("csv", "tensorboard")
    assert as_plain(TRACKED) == as_plain(UNTRACKED)
    assert recipe_hash(TRACKED) == recipe_hash(UNTRACKED)


def test_a_tracker_that_is_not_installed_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastdd.trackers.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"log: tensorboard is not installed; pip install 'fastdd\[tens"):
        require_trackers(TRACKED)
    require_trackers(UNTRACKED)


def test_a_tracker_that_is_not_installed_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdd.trackers.find_spec", lambda name: None)
    with pytest.raises(InputError, match="mlflow is not installed"):
        fastdd.run("digits", out=tmp_path / "run", overrides=["log=[mlflow]"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("[neptune]", "neptune"), ("tensorboard", "a list in brackets"), ("[csv,csv]", "'csv' is there twice")],
)
def test_another_word_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fastdd.resolve("digits", [f"log={text}"])


def test_on_event_must_be_a_function() -> None:
    with pytest.raises(InputError, match="on_event is a str, expected a function"):
        fastdd.run("digits", on_event="print")  # type: ignore[arg-type]


# -- services -------------------------------------------------------------------------------------


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __call__(self, event: Event) -> None:
            raise ConnectionError("no route\nto host")

        def close(self, *, failed: bool) -> None:
            raise AssertionError

    monkeypatch.setitem(sys.modules["fastdd.trackers"].OPENERS, "csv", lambda *_: Broken())
    recipe = fastdd.resolve("digits", ["log=[csv]"])
    events: list[Event] = []
    with tracked(RunFolder(tmp_path), recipe, events.append):
        send("begin")
        send("end", values={"seconds": 1.0})
    said = "log: csv failed, the run goes on without it: ConnectionError: no route to host\n"
    assert capsys.readouterr().err == said
    assert [event.kind for event in events] == ["begin", "end"]


def test_a_tracker_that_cannot_be_opened_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("api key not configured")

    monkeypatch.setitem(sys.modules["fastdd.trackers"].OPENERS, "csv", refuse)
    with (
        pytest.raises(InputError, match="log: csv cannot be opened: PermissionError: api key not"),
        tracked(RunFolder(tmp_path), fastdd.resolve("digits", ["log=[csv]"])),
    ):
        raise AssertionError


class FakeWandb(ModuleType):
    """What of W&B's interface is used; it notes what comes."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.id, self.logged, self.ended = "abc", list[dict[str, object]](), list[int]()
        self.asked: list[dict[str, object]] = []

    def init(self, **asked: object) -> FakeWandb:
        self.asked.append(asked)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.logged.append({name: step_metric})

    def log(self, values: dict[str, object]) -> None:
        self.logged.append(values)

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)

    def Image(self, path: str, caption: str) -> str:  # noqa: N802
        return f"{caption}: {path}"


def test_weights_and_biases_continues_a_run_and_lets_each_stage_count_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        run = trackers.WeightsAndBiases(RunFolder(tmp_path), UNTRACKED)
        run(LOSSES)
        run.close(failed=False)
    assert [asked["id"] for asked in fake.asked] == [None, "abc"]
    assert fake.asked[0]["name"] == "digits"
    stage = LOSSES.stage
    assert fake.logged[:2] == [
        {f"{stage}/*": f"{stage}/step"},
        {f"{stage}/ce": 0.5, f"{stage}/dire": 2.0, f"{stage}/step": 20},
    ]
    assert fake.ended == [0, 0]


def test_names_are_in_the_letters_that_mlflow_takes() -> None:
    assert trackers._mlflow_name("recover sre2l+dire/ce") == "recover sre2l_dire/ce"


def test_curves_are_drawn_of_numbers_alone() -> None:
    assert trackers.scalars(Event("begin", "bank")) == {}
    done = Event("progress", "bank", values={"done": 50, "total": 100, "rate": 25.0})
    assert trackers.scalars(done) == {"bank/images per second": 25.0}
    assert trackers.place(done) == 50


def test_mlflow_itself_keeps_what_was_sent_and_a_second_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digit: Callable[[str], Path]
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'fastdd[mlflow]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/kept")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for files in ((digit("3"),), ()):
        run = trackers.MLflow(RunFolder(tmp_path), UNTRACKED)
        run(LOSSES)
        run(Event("images", "recover deda", values={"images": 1}, files=files))
        run.close(failed=False)
    found = mlflow.MlflowClient().get_run(run.run)
    assert (found.info.run_name, found.info.status) == ("digits", "FINISHED")
    assert found.data.metrics == {"recover sre2l_dire/ce": 0.5, "recover sre2l_dire/dire": 2.0}
    history = mlflow.MlflowClient().get_metric_history(run.run, "recover sre2l_dire/ce")
    assert [each.step for each in history] == [20, 20]
    listed = mlflow.MlflowClient().list_artifacts(run.run, "recover deda/3")
    assert [each.path for each in listed] == ["recover deda/3/00000.png"]


def test_weights_and_biases_itself_runs_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digit: Callable[[str], Path]
) -> None:
    pytest.importorskip("wandb", reason="pip install 'fastdd[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = trackers.WeightsAndBiases(RunFolder(tmp_path), UNTRACKED)
    run(LOSSES)
    run(Event("images", "recover deda", values={"images": 1}, files=(digit("3"),)))
    run.close(failed=False)
    assert run.run.offline
    (file,) = RunFolder(tmp_path).wandb.glob("offline-run-*/run-*.wandb")
    assert b"recover sre2l+dire/dire" in file.read_bytes()


def test_tensorboard_reads_back_what_was_sent(tmp_path: Path, digit: Callable[[str], Path]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path)
    writer = trackers.TensorBoard(folder)
    writer(LOSSES)
    writer(Event("images", "recover deda", values={"images": 2}, files=(digit("3"), digit("4"))))
    writer.close(failed=False)
    found = EventAccumulator(str(folder.tensorboard)).Reload()
    assert [(each.step, each.value) for each in found.Scalars("recover sre2l+dire/dire")] == [(20, 2.0)]
    assert found.Tags()["images"] == ["recover deda/images"]


@pytest.fixture
def digit(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a small gray image of a class."""
    from PIL import Image

    def write(name: str) -> Path:
        file = tmp_path / name / "00000.png"
        file.parent.mkdir()
        Image.new("L", (8, 8), 100).save(file)
        return file

    return write


# -- a run ----------------------------------------------------------------------------------------


def test_a_run_tells_its_stages_losses_images_and_accuracies(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    events: list[Event] = []
    fastdd.run(tmp_path / "small.yaml", tmp_path / "one", ["log=[csv]"], on_event=events.append)
    kinds = {(event.kind, event.stage) for event in events}
    assert {("begin", "squeeze"), ("accuracy", "squeeze"), ("end", "squeeze")} <= kinds
    assert {("losses", "recover deda"), ("images", "recover deda"), ("accuracy", "student deda 0")} <= kinds
    losses = [event for event in events if event.kind == "losses" and event.stage == "recover deda"]
    assert [event.step for event in losses] == [0, 1]
    (made,) = (event for event in events if event.kind == "images" and event.stage == "recover deda")
    assert made.values == {"images": 10}
    assert len(made.files) == 10
    assert all(file.is_file() for file in made.files)
    rows = list(csv.DictReader((tmp_path / "one/log.csv").open()))
    assert {(row["event"], row["stage"]) for row in rows} == kinds
    before = (tmp_path / "one/metrics.json").read_bytes()
    fastdd.run(tmp_path / "small.yaml", tmp_path / "one")  # without log it is the same run
    assert before == (tmp_path / "one/metrics.json").read_bytes()


def test_an_error_of_on_event_ends_the_run(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        raise KeyError("enough")

    (tmp_path / "small.yaml").write_text(SMALL)
    with pytest.raises(KeyError, match="enough"):
        fastdd.run(tmp_path / "small.yaml", tmp_path / "run", until="squeeze", on_event=stop)
