"""DD-Ranking of a set by the command: every accuracy it needs, the formulas, continuing, and bad input."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.evaluate.dd_ranking import open_dd_ranking
from fastdd.evaluate.evaluation import EvaluationRequest

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def on_the_scale(advantage: float) -> float:
    """The score of methods.md 5.6, written out."""
    return (math.exp(advantage) - 1 / math.e) / (math.e - 1 / math.e)


def test_scores_of_a_runs_set(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["robust", str(run), "--arm", "deda"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "each 10 steps of 20 images" in out
    (scores,), (students,) = run.glob("robust-*.json"), run.glob("evaluation-*.json")
    assert f"\nwritten: {scores} and {students} (--json FILE writes elsewhere)\n" in out
    found = content(scores)
    (network,) = found["scores"]
    assert (network["network"], network["weight"]) == ("resnet8", 0.5)
    assert (network["steps"], network["batch"]) == (10, 20)
    groups = network["accuracies"]
    assert {name: group["arm"] for name, group in groups.items()} == {
        "real_hard": "full",
        "synthetic_hard": "deda",
        "synthetic": "deda",
        "random": "random",
        "synthetic_plain": "deda",
        "random_plain": "random",
    }
    # the protocol's own students are those of the run
    arms = content(run / "metrics.json")["arms"]
    assert groups["synthetic"]["last"] == arms["deda"]["last"]
    assert groups["random"]["last"] == arms["random"]["last"]
    # the others were trained as they are called, and all for as long
    trained = content(students)
    for name, group in groups.items():
        values = trained["protocols"][group["protocol"]]["values"]
        assert values["labels"] == ("hard" if name.endswith("hard") else "online")
        plain = (values["pad"], values["flip"], values["mix"]) == (0, 0.0, "none")
        assert plain == name.endswith("plain")
        entries = [
            entry
            for entry in trained["students"]
            if (entry["arm"], entry["protocol"]) == (group["arm"], group["protocol"])
        ]
        assert [entry["last"] for entry in entries] == group["last"]
        assert {entry["curve"][-1][0] for entry in entries} == {10}
    # the scores are the formulas, of means
    mean = {name: statistics.mean(group["last"]) for name, group in groups.items()}
    gain, loss = mean["synthetic"] - mean["random"], mean["real_hard"] - mean["synthetic_hard"]
    label, augmentation = network["label_robust"], network["augmentation_robust"]
    assert label["score"] == pytest.approx(on_the_scale(0.5 * gain - 0.5 * loss))
    plain_gain = mean["synthetic_plain"] - mean["random_plain"]
    assert augmentation["score"] == pytest.approx(on_the_scale(0.5 * gain + 0.5 * plain_gain))
    assert f"label-robust score {label['score']:.3f}" in out
    assert f"augmentation-robust score {augmentation['score']:.3f}" in out

    # nothing is trained twice, also with another weight; what was lost is trained again, and nothing else
    before = scores.read_bytes()
    monkeypatch.setattr("fastdd.evaluate.results_file.train_student", None)
    assert main(command) == 0
    assert scores.read_bytes() == before
    assert main([*command, "--weight", "1"]) == 0
    first, weighed = content(scores)["scores"]
    assert (first, weighed["weight"]) == (network, 1.0)  # those of another weight stay
    assert weighed["label_robust"]["score"] == pytest.approx(on_the_scale(gain))
    assert weighed["augmentation_robust"]["score"] == pytest.approx(on_the_scale(gain))
    monkeypatch.undo()
    scores.unlink()
    lost = trained["students"].pop(0)
    students.write_text(json.dumps(trained))
    assert main(command) == 0
    assert scores.read_bytes() == before
    assert content(students)["students"][-1] == lost


def test_a_folder_of_anybodys_by_epochs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An epoch of the whole set is as long as one of the set, so the steps are the same for all."""
    bare = shutil.copytree(run / "images" / "deda", tmp_path / "bare")
    given = [
        "--teacher",
        str(run / "teacher.safetensors"),
        "--data",
        "digits",
        "--json",
        str(tmp_path / "s.json"),
    ]
    protocol = ["--student", "convnet1", "--protocol", "rded", "--seeds", "1"]
    changes = ["epochs=2", "test_every=1", "batch=8", "shuffle_patches=2", "lr=0.001"]
    assert main(["robust", str(bare), *given, *protocol, *changes]) == 0
    assert "each 6 steps of 8 images" in capsys.readouterr().out
    (scores,) = content(tmp_path / "s.json")["scores"]
    assert (scores["network"], scores["steps"]) == ("convnet1", 6)
    trained = content(tmp_path / "s-students.json")["students"]
    assert [entry["arm"] for entry in trained] == ["full", "bare", "bare", "random", "bare", "random"]
    assert {entry["curve"][-1][0] for entry in trained} == {6}
    texts = [group["text"] for group in scores["accuracies"].values()]
    assert "2 x 2 patches shuffled" in texts[2]
    for plain in texts[4:]:
        assert "patches" not in plain
        assert "shift 0 px, flip 0, no mixing, online labels" in plain
    with pytest.raises(InputError, match=r"another seed; give another --json"):
        open_dd_ranking(
            EvaluationRequest(
                bare, teacher=run / "teacher.safetensors", data="digits", seed=3, json=tmp_path / "s.json"
            ),
            CPU,
        )


def test_scores_of_other_networks_protocols_and_weights_stay_in_the_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.json"
    command = ["robust", str(run), "--arm", "deda", "--seeds", "1", "--json", str(file)]
    variants = (["steps=2"], ["steps=3"], ["steps=2", "--weight", "0"], ["steps=2", "--student", "convnet1"])
    for number, variant in enumerate(variants, 1):
        before = content(file)["scores"] if file.exists() else []
        assert main([*command, *variant]) == 0
        found = content(file)["scores"]
        assert (found[:-1], len(found)) == (before, number)
    monkeypatch.setattr("fastdd.evaluate.results_file.train_student", None)
    whole = file.read_bytes()
    assert main([*command, *variants[0]]) == 0
    assert file.read_bytes() == whole


def test_what_does_not_fit_is_said_before_the_first_student(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdd.evaluate.results_file.train_student", None)
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    deda = [str(run), "--arm", "deda"]
    for arguments, text in (
        ([*deda, "--weight", "50"], "--weight is 50, expected a fraction between 0 and 1"),
        ([str(run), "--arm", "random"], "is called 'random', as the real images that a set is compared with"),
        ([str(run)], "name one of them (--arm)"),
        (
            [*deda, "--json", str(tmp_path / "notes.json")],
            "it has no DD-Ranking scores, or broken ones: give another --json",
        ),
        ([*deda, "--json", str(tmp_path / "broken.json")], "broken.json is damaged"),
        ([*deda, "stepps=3"], "did you mean 'steps'"),
        ([str(tmp_path / "nothing"), "--teacher", str(run / "teacher.safetensors")], "no distilled set at"),
    ):
        assert main(["robust", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert text in error
        assert error.splitlines()[-1].startswith("error: ")
    monkeypatch.setattr("fastdd.evaluate.full_set.device_budget", lambda device: 100)
    assert main(["robust", *deda]) == 2
    assert "need students of the whole real training set, but" in capsys.readouterr().err
    assert not list(run.glob("robust-*"))
