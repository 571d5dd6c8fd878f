"""Students, teachers and experts that diverged: they are told, and no accuracy is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_evaluate import CONFIG, Count
from test_experts import PLAN, trained
from test_experts import changed as planned
from test_report import Page, make_run
from test_several_students import SOFT, write
from test_squeeze import changed, train
from torch import Tensor, nn

import fastdd
from fastdd.cli import main
from fastdd.cli.console import spread
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate import TrainedStudent, train_student
from fastdd.evaluate.dd_ranking import DDRanking, NetworkScores, StudentGroup
from fastdd.experts import ExpertBuffer
from fastdd.experts.store import expert_file
from fastdd.export import export
from fastdd.models.build import build
from fastdd.protocols import settle_student
from fastdd.report import SweptRun, SweptSet, accuracy_by_key, report, sweep_svg
from fastdd.report.figures import accuracy_figure
from fastdd.report.finished_run import read_run
from fastdd.report.page import find_best
from fastdd.run_folder import Metrics, RunFolder, read
from fastdd.runs.status import status
from fastdd.teachers import Card, NotFiniteError, Teacher, accuracy

DIVERGING = f"""\
ipc: 1
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{deda: {{method: deda, steps: 2}}}}
student: {{network: convnet1, steps: 8, batch: 10, pad: 1, flip: 0, seeds: 2, evaluations: 2, lr: 1.0e+30}}
students:
  resnet-soft: {SOFT}
"""


class Said(Count):
    """A progress bar that keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def noise() -> Tensor:
    """20 images, uint8 [20, 1, 8, 8]."""
    return torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def a_teacher(network: nn.Module) -> Teacher:
    return Teacher(
        network.eval().requires_grad_(False), Card("resnet8", tuple("0123456789"), 1, (0.3,), (0.4,))
    )


def student(bar: Said, network: nn.Module | None = None, **changes: object) -> TrainedStudent:
    torch.manual_seed(0)
    images, classes = noise(), torch.arange(10).repeat_interleave(2)
    config = settle_student(CONFIG.model_copy(update=changes), len(images), 10)
    return train_student(
        config,
        a_teacher(build("resnet8", 10, 1)),
        images,
        new_network=lambda: network or build("resnet8", 10, 1),
        test=(images, classes),
        seed=1,
        bar=bar,
        hard_labels=classes,
    )


# -- one student ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("labels", ["online", "hard"])
def test_a_student_that_diverges_says_at_which_step_and_stops(optimizer: str, labels: str) -> None:
    bar = Said()
    found = student(bar, lr=1e30, optimizer=optimizer, labels=labels, steps=40, evaluations=2)
    assert (found.last, found.best, found.curve) == (None, None, ())
    assert found.diverged is not None
    assert bar.lines == [f"{found.diverged}; it has no accuracy"]
    assert bar.images <= 20 * 16  # it is not trained to its end
    step = int(found.diverged.split("step ")[1].split(":")[0])
    assert 1 <= step <= 3
    assert "its loss is" in found.diverged


def test_weights_that_are_not_finite_after_the_last_step_are_found() -> None:
    network = build("resnet8", 10, 1)
    found = student(Said(), network, lr=1e38, optimizer="sgd", momentum=0.0, steps=1, evaluations=1, warmup=0)
    assert found.diverged is not None
    assert found.diverged.startswith("diverged by step 1: its ")


def test_a_student_that_learns_has_no_word_of_it() -> None:
    found = student(Said())
    assert found.diverged is None
    assert found.last is not None
    assert list(found.content()) == ["last", "best", "curve"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [("weights", r"its weights \S+ hold NaN or infinite"), ("logits", r"infinite for 3 of 20 test images")],
)
def test_no_accuracy_is_made_of_a_network_that_is_not_finite(spoil: str, expected: str) -> None:
    class Spoilt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = build("resnet8", 10, 1)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images)
            if spoil == "logits":
                logits[:3] = float("nan")
            logits[:, 9] = float("-inf")  # a class that is never meant is no fault
            return logits

    network = Spoilt().eval()
    images, classes = noise(), torch.arange(10).repeat_interleave(2)
    if spoil == "weights":
        next(iter(network.parameters())).data[0] = float("inf")
    with torch.no_grad(), pytest.raises(NotFiniteError, match=expected):
        accuracy(network, lambda x: x.float(), images, classes)


# -- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose students of one kind diverge and whose others learn; read only."""
    path = tmp_path_factory.mktemp("diverging")
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("fastdd.cli.stages.say", said.append)
        patch.setattr("fastdd.cli.console.say", said.append)
        assert main(["run", write(path, DIVERGING), "--out", str(path / "out")]) == 2
    (path / "said").write_text("\n".join(said))
    return path / "out"


def test_a_run_of_which_students_diverge_goes_on_and_says_so(folder: Path) -> None:
    metrics = read(RunFolder(folder).metrics, Metrics)
    for name, last in metrics.last().items():
        assert last == (None, None), name
    for name, last in metrics.last("resnet-soft").items():
        assert None not in last, name
    content = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert content["arms"]["deda"]["last"] == [None, None]
    assert all(text.startswith("diverged at step ") for text in content["arms"]["deda"]["diverged"])
    assert "diverged" not in content["arms"]["deda"]["students"]["resnet-soft"]
    said = (folder.parent / "said").read_text()
    for name in ("random", "deda", "full"):
        assert f"no accuracy: {name}: 2 of 2 students: seed 0 diverged at step" in said
    rows = {row.stage: str(row) for row in status(folder)}
    assert rows["students deda"].endswith("done     2/2 students, 2 diverged")
    assert "diverged" not in rows["students resnet-soft deda"]


def test_a_finished_run_of_which_students_diverged_ends_in_two_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "metrics.json").read_bytes()
    assert main(["run", str(folder.parent / "own.yaml"), "--out", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "2 of 2 diverged" in out
    assert "error: students of 3 sets diverged" in err
    assert (folder / "metrics.json").read_bytes() == before


def test_the_page_of_diverged_students_has_no_mean_of_them(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    Page(folder / "report.html")
    assert "2 of 2 diverged" in text
    assert "No accuracy: deda: 2 of 2 students: seed 0 diverged at step" in text
    run = read_run(folder)
    finding = find_best(run)
    assert finding is not None
    assert finding.student == "resnet-soft"
    figure = accuracy_figure(run)
    assert figure.control is None
    assert [row.marks for row in figure.rows] == [None, None]


def test_the_card_of_a_set_whose_students_diverged_says_so(folder: Path, tmp_path: Path) -> None:
    export(open_set(folder, "deda"), "hf", tmp_path / "card")
    assert "none (2 of 2 diverged)" in (tmp_path / "card" / "README.md").read_text()


def test_an_evaluation_of_diverged_students_ends_in_two(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evaluation.json"
    command = ["evaluate", str(folder), "--arm", "deda", "--json", str(file), "--no-full-set", "--seeds=1"]
    assert main([*command, "--no-control", "evaluations=1"]) == 2
    out, err = capsys.readouterr()
    assert "1 of 1 diverged" in out
    assert "no accuracy: deda, convnet1, seed 0 diverged at step" in out
    assert err.splitlines()[-1].startswith("error: students of a set diverged")
    (entry,) = json.loads(file.read_text(), parse_constant=pytest.fail)["students"]
    assert entry["last"] is None
    assert entry["diverged"].startswith("diverged at step")


# -- some of the seeds ----------------------------------------------------------------------------


def test_a_mean_over_the_seeds_that_are_left_is_not_made(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    content = json.loads((path / "metrics.json").read_text())
    arm = content["arms"]["sre2l"]
    arm["last"][1] = arm["best"][1] = None
    arm["diverged"] = [None, "diverged at step 7: its loss is nan", None]
    (path / "metrics.json").write_text(json.dumps(content))
    text = report(path).read_text()
    assert "1 of 3 diverged" in text
    assert "No accuracy: sre2l: 1 of 3 students: seed 1 diverged at step 7: its loss is nan." in text
    assert spread([0.5, None, 0.7]) == "1 of 3 diverged"
    finding = find_best(read_run(path))
    assert finding is not None
    assert finding.arm.key != "sre2l"
    content["arms"]["random"]["last"][0] = None
    (path / "metrics.json").write_text(json.dumps(content))
    assert find_best(read_run(path)) is None  # there is nothing to compare with
    report(path)
    Page(path / "report.html")


def test_the_figure_of_a_sweep_leaves_out_sets_that_diverged() -> None:
    sets = [SweptSet("DEDA", {"lr": lr}, [0.5, last]) for lr, last in ((0.1, 0.6), (0.2, None), (0.3, 0.4))]
    figure = accuracy_by_key([SweptRun({}, [0.3, 0.4], sets)], ["lr"])
    assert len(figure.panels[0].lines[0].marks) == 2
    none = accuracy_by_key([SweptRun({}, [None], [SweptSet("DEDA", {"lr": 0.1}, [None])])], ["lr"])
    assert none.panels[0].control == ""
    assert "<svg" in sweep_svg(none)


def test_scores_that_need_a_diverged_student_are_not_made() -> None:
    settled = settle_student(CONFIG, 20, 10)
    group = StudentGroup("set", settled, [None, 0.5], diverged=["set, resnet8, seed 0 diverged"])
    scores = NetworkScores({"synthetic": group}, label=None, augmentation=None)
    ranking = DDRanking(None, Path("unused"), [], weight=0.5, steps=1, batch=1)  # type: ignore[arg-type]
    content = ranking._entry("resnet8", scores)
    assert isinstance(content, dict)
    assert content["label_robust"] is None
    assert json.loads(json.dumps(content, allow_nan=False))["accuracies"]["synthetic"]["last"] == [None, 0.5]


# -- teachers and experts -------------------------------------------------------------------------


def test_a_teacher_whose_last_step_diverges_is_no_teacher() -> None:
    config = changed(epochs=1, lr=1e38, warmup=0.0, schedule="constant", ema=0.0)
    with pytest.raises(InputError, match=r"squeeze diverged in epoch 1: .*; lower teacher\.lr = 1e\+38"):
        train(config, 20)


def test_an_expert_with_weights_that_are_not_finite_is_refused_when_it_is_first_read(tmp_path: Path) -> None:
    trained(tmp_path, PLAN)
    file = expert_file(tmp_path, 0)
    tensors = load_file(file)
    tensors["weights"][1, 3] = float("nan")
    save_file(tensors, file)
    buffer = ExpertBuffer(tmp_path)
    with pytest.raises(
        InputError,
        match=r"00000\.safetensors is damaged \('weights' holds NaN or infinite values\); delete it",
    ):
        buffer.weights(0, 0)
    buffer.weights(1, 0)


def test_an_expert_whose_last_step_diverges_is_no_expert(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expert 0 diverged in epoch 1: its (weights|logits) .* NaN or infinite"
    ):
        trained(tmp_path, planned(lr=3e38, epochs=1, batch=1000))


def test_results_are_attributes_of_a_run_too(folder: Path) -> None:
    metrics = fastdd.run(folder.parent / "own.yaml", folder).metrics
    assert metrics.arms["deda"].last == (None, None)
    assert len(metrics.diverged()) == 3
