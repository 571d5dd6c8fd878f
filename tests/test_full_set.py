"""Students of the whole training set: the work of the other students, real images by class, and when there
are none."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from galleries import pixels
from test_report import Page, make_run
from torch import Tensor

import fastdd
from fastdd.cli import main
from fastdd.config import Metrics, Recipe, Student
from fastdd.data import open_dataset, proportional_sample
from fastdd.data.real_data import RealData
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate import AugmentedBatches, protocol_hash, train_student
from fastdd.evaluate.evaluation import EvaluationRequest, open_evaluation
from fastdd.evaluate.full_set import FullSet
from fastdd.evaluate.learner import learning_rate
from fastdd.evaluate.results_file import TrainingSet
from fastdd.export.forms import export
from fastdd.models.build import build, network_builder
from fastdd.protocols import settle_student
from fastdd.report import report
from fastdd.report.figures import accuracy_figure
from fastdd.report.finished_run import read_run
from fastdd.runs.status import status
from fastdd.runtime import memory as data_memory
from fastdd.runtime.seeds import derive
from fastdd.teachers import Card, Teacher

CPU = torch.device("cpu")
CONFIG = Student(
    network="convnet1", steps=None, epochs=3, batch=4, pad=0, flip=0.0, mix="none", evaluations=1
)


class Counting:
    """A progress bar that notes the sizes of batches."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def advance(self, images: int, note: str = "") -> None:
        self.shown.append(images)

    def line(self, text: str) -> None:
        pass


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    card = Card("convnet1", tuple("abcd"), 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Teacher(build("convnet1", 4).eval().requires_grad_(False), card)


@pytest.fixture
def real() -> RealData:
    return RealData(
        Recipe(
            name="x",
            ipc=2,
            data={"root": "digits", "channels": 1},
            teacher={"mean": [0.3], "std": [0.4]},
            arms={},
        ),
        CPU,
    )


def numbered(count: int) -> Tensor:
    """Images that tell their number."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 8, 8).contiguous()


# -- the work -------------------------------------------------------------------------------------


def test_epochs_are_as_long_as_the_sets_and_go_through_the_whole_set(teacher: Teacher) -> None:
    """11 images, 7 an epoch: batches of 4 and 3, and every image once before any comes again."""
    source = AugmentedBatches(settle_student(CONFIG, 7, 4), teacher, numbered(11), seed=1)
    assert (len(source), source.smallest()) == (2, 3)
    seen: list[int] = []
    for epoch in range(11):
        batches = list(source.epoch(epoch))
        assert [len(batch.images) for batch in batches] == [4, 3]
        seen += [round(float(image.mean()) * 255) for batch in batches for image in batch.images]
    for number in range(7):
        assert sorted(seen[11 * number : 11 * number + 11]) == list(range(11))
    assert seen[:11] != seen[11:22]


@pytest.mark.parametrize(
    "changes", [{}, {"epochs": None, "steps": 5}, {"test_every": 1, "lr_interval": "epoch"}]
)
def test_steps_batches_rates_and_tests_are_the_sets(
    teacher: Teacher, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Student.model_validate({**CONFIG.model_dump(), **changes})
    test = (numbered(4), torch.arange(4))
    traces = []
    for images in (numbered(6), numbered(50)):
        rates: list[float] = []

        def rate(*arguments: Any, rates: list[float] = rates) -> float:
            rates.append(learning_rate(*arguments))
            return rates[-1]

        monkeypatch.setattr("fastdd.evaluate.student.learning_rate", rate)
        bar = Counting()
        settled = settle_student(config, 6, 4)
        new_network = network_builder(config.network, 4, images.shape[1])
        result = train_student(settled, teacher, images, new_network=new_network, test=test, seed=1, bar=bar)
        traces.append((rates, bar.shown, [step for step, _ in result.curve]))
    assert traces[0] == traces[1]
    assert traces[0][1] == [4, 2, 4, 2, 4, 2][: config.steps]


def test_stored_labels_are_online_and_hard_ones_stay() -> None:
    learned = (numbered(8), torch.arange(8) % 4)
    whole = TrainingSet("full", 8, lambda: learned, epoch_images=4)
    for labels, wanted in (("stored", "online"), ("online", "online")):
        config = CONFIG.model_copy(update={"labels": labels})
        assert whole.protocol(config, 4).labels == wanted
        assert TrainingSet("deda", 8, lambda: learned).protocol(config, 4).labels == labels
    assert (
        whole.protocol(CONFIG.model_copy(update={"batch": "by_ipc"}), 4).batch == 4
    )  # RDED's rule: of 4 images


# -- the images -----------------------------------------------------------------------------------


def test_a_sample_has_of_each_class_its_share() -> None:
    data = open_dataset("digits", "train")
    for wanted in (1, 100, 200, 1437):
        chosen = proportional_sample(data, wanted, 3)
        assert wanted <= len(chosen) < wanted + 10
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        counted = Counter(data.labels[chosen].tolist())
        assert [counted[c] for c in range(10)] == [
            math.ceil(count * wanted / len(data)) for count in data.counts
        ]
    assert torch.equal(proportional_sample(data, 100, 3), proportional_sample(data, 100, 3))
    assert not torch.equal(proportional_sample(data, 100, 3), proportional_sample(data, 100, 4))
    for wanted in (1438, 10**6):
        assert torch.equal(proportional_sample(data, wanted, 3), torch.arange(1438))


def test_no_more_images_are_decoded_than_are_shown(real: RealData) -> None:
    few, all_of_them = (
        FullSet(real, settle_student(Student(steps=steps, batch=20), 20, 10), 7) for steps in (10, 100)
    )
    assert 200 <= len(few.chosen) < 210
    train = pixels(real.train, None, 1)
    images, classes = few.images
    assert torch.equal(images, train[few.chosen])
    assert torch.equal(classes, real.train.labels[few.chosen])
    assert torch.equal(all_of_them.images[0], train)
    assert torch.equal(few.chosen, proportional_sample(real.train, 200, derive(7, "full set")))


# -- when there are none --------------------------------------------------------------------------


def test_what_does_not_fit_is_left_out_or_refused(real: RealData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FullSet(real, settle_student(Student(steps=10**4, batch=20), 20, 10), 0)
    needed, tested = 1438 * 64, 359 * 64
    least = needed / data_memory.BUDGET + tested
    monkeypatch.setattr(data_memory, "available_memory", lambda: math.ceil(least) + 1)
    assert whole.left_out("auto") is None
    assert whole.left_out(True) is None
    assert whole.left_out(False) == "it was not asked for"
    monkeypatch.setattr(data_memory, "available_memory", lambda: int(least) - 4)
    assert whole.left_out("auto") == "1,438 of its images do not fit into memory"
    with pytest.raises(
        InputError, match=r"92,032 bytes .* 1,438 images .* set metrics.full_set to auto or false"
    ):
        whole.left_out(True)


def test_a_run_without(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = tiny.read_text().split("arms:")[0], str(tmp_path / "out")
    tiny.write_text(recipe + "arms: {}\nstudent: {network: resnet8, steps: 2, seeds: 1}")
    assert main(["run", str(tiny), "full_set=false", "--out", out]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["full_set"] is None
    assert metrics["full_set_left_out"] == "it was not asked for"
    assert not (tmp_path / "out" / "students" / "full").exists()
    assert "the whole training set is left out: it was not asked for" in capsys.readouterr().out
    assert (
        "The whole training set is left out: it was not asked for."
        in Page(tmp_path / "out" / "report.html").text
    )
    assert all(row.done == row.total for row in status(tmp_path / "out"))
    assert "students full" not in {row.stage for row in status(tmp_path / "out")}


def test_too_large_is_said_before_anything_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_arm, tested = 20 * 64, 359 * 64
    budget = of_arm + int(data_memory.BUDGET * tested)
    monkeypatch.setattr("fastdd.evaluate.full_set.device_budget", lambda device: budget)
    with pytest.raises(InputError, match=r"set metrics.full_set to auto or false"):
        fastdd.run(tiny, tmp_path / "out", ["metrics.full_set=true"])
    assert not (tmp_path / "out").exists()
    fastdd.run(tiny, tmp_path / "out", until="squeeze")
    monkeypatch.undo()  # what was settled when the run began stays, however much memory there is later
    manifest = fastdd.run(tiny, tmp_path / "out", until="squeeze").manifest
    assert manifest.full_set_left_out == "206 of its images do not fit into memory"


def test_the_name_is_taken(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("  deda:", "  full:"))
    with pytest.raises(
        InputError, match=r"arms.full is the name of the built-in reference, the whole training set"
    ):
        fastdd.resolve(str(tiny))


# -- in a run -------------------------------------------------------------------------------------


def test_a_run_has_them_last_and_under_the_same_protocol(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    whole = metrics["full_set"]
    students = [json.loads((finished / "students" / "full" / f"seed_{k}.json").read_text()) for k in range(2)]
    assert whole == {
        "title": "whole training set, same steps",
        "images": 206,
        "last": [s["last"] for s in students],
        "best": [s["best"] for s in students],
        "curves": [s["curve"] for s in students],
    }
    assert "full" not in metrics["arms"]
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    trained = [
        line["stage"] for line in lines if line["stage"].startswith("students ") and line["event"] == "end"
    ]
    assert trained[-2:] == ["students full"] * 2
    stages = json.loads((finished / "manifest.json").read_text())["stages"]
    assert stages["students full"]["images"] == stages["students deda"]["images"] == 2 * 200
    assert "whole training set, same steps" in (finished.parent / "stdout").read_text()
    assert {row.stage: (row.done, row.total) for row in status(finished)}["students full"] == (2, 2)


def test_the_hash_of_the_protocol_does_not_know_of_it(tiny: Path) -> None:
    recipes = [
        fastdd.resolve(str(tiny), [f"metrics.full_set={value}"]) for value in ("true", "false", "auto")
    ]
    assert len({protocol_hash(recipe.student) for recipe in recipes}) == 1
    assert Metrics().full_set == "auto"


def test_the_card_of_an_export_tells_it(finished: Path, tmp_path: Path) -> None:
    whole = json.loads((finished / "metrics.json").read_text())["full_set"]["last"]
    text = (
        export(open_set(finished, "deda", channels=1), "imagefolder", tmp_path / "out") / "README.md"
    ).read_text()
    assert f"| whole training set, same steps | {50 * sum(whole):.1f} (2 students) | - | - | - |" in text


# -- a set on its own -----------------------------------------------------------------------------


def test_a_set_is_evaluated_beside_the_whole_set(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    bare = Path(shutil.copytree(run / "images" / "deda", tmp_path / "full"))
    request = EvaluationRequest(bare, teacher=run / "teacher.safetensors", data="digits")
    sets = open_evaluation(request, CPU).sets
    assert [each.name for each in sets] == ["set", "random", "full"]
    assert (sets[2].epoch_images, sets[2].count, len(sets[2].read()[0])) == (20, 1438, 1438)
    assert main(["evaluate", str(run), "--arm", "deda", "--no-full-set", "steps=2", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "full last %" not in out
    assert "the whole training set is left out: it was not asked for" in out
    (file,) = run.glob("evaluation-*.json")
    assert {entry["arm"] for entry in json.loads(file.read_text())["students"]} == {"deda", "random"}
    assert main(["evaluate", str(run), "--arm", "deda", "steps=2", "--seeds", "1"]) == 0
    assert "full: whole training set, same steps; a reference" in capsys.readouterr().out
    assert {entry["arm"] for entry in json.loads(file.read_text())["students"]} == {"deda", "random", "full"}


def test_what_does_not_fit_is_refused_only_where_it_is_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdd.evaluate.full_set.device_budget", lambda device: 100)
    evaluation = open_evaluation(EvaluationRequest(finished, arm="deda"), CPU)
    assert [each.name for each in evaluation.sets] == ["deda", "random"]
    assert evaluation.full_left_out == "206 of its images do not fit into memory"
    with pytest.raises(InputError, match="206 images of the whole training set"):
        open_evaluation(EvaluationRequest(finished, arm="deda", full=True), CPU)


# -- the page -------------------------------------------------------------------------------------


def test_the_page_shows_a_reference_and_no_contender(tmp_path: Path) -> None:
    whole = {
        "title": "whole training set, same steps",
        "images": 24,
        "last": [0.97, 0.98],
        "best": [0.98, 0.99],
        "curves": [],
    }
    run = make_run(tmp_path / "run", full_set=whole)
    page = Page(report(run))
    assert page.text.count("whole training set, same steps reference") == 2
    assert "97.5 ± 0.7" in page.text
    assert "98.5" not in page.text  # the best of the tests, which the house protocol does not report
    assert "The best set, DEDA <&> mine, is 9.0 ± 3.6 points above random real images." in page.text
    table = page.source[page.source.index("<tbody>") : page.source.index("</tbody>")]
    assert "<b>91.0</b>" in table
    assert "<b>97.5</b>" not in table
    figure = accuracy_figure(read_run(run))
    assert [row.arm.key for row in figure.rows] == ["random", "sre2l", "deda+x"]
    assert figure.full_set is not None
    assert figure.full_set[1].dots == pytest.approx([100 * figure.axis(v) for v in (97, 98)])
    assert all(0 <= dot <= 100 for dot in (*figure.full_set[1].dots, *figure.full_set[1].whisker))


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    for wrong, text in (
        ({"title": "x", "best": []}, r"full_set\.images: field required"),
        ([1], "full_set: input should be an object"),
    ):
        run = make_run(tmp_path / text[-5:], full_set=wrong)
        with pytest.raises(InputError, match=text):
            report(run)
