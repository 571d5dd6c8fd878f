"""Evaluate a set on its own: the same numbers as in its run, controls, other layouts, continuing, and bad
input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.io import encode_png

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.evaluate.evaluation import EvaluationRequest, open_evaluation
from fastdd.models.build import build
from fastdd.models.outline import outline
from fastdd.models.registry import students

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def bare(run: Path, tmp_path: Path) -> Path:
    """DEDA's images as anybody's folder."""
    return Path(shutil.copytree(run / "images" / "deda", tmp_path / "bare"))


def entries(path: Path) -> list[dict[str, Any]]:
    students: list[dict[str, Any]] = json.loads(path.read_text())["students"]
    return students


def test_a_runs_set_is_worth_what_the_run_says(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", str(run), "--arm", "deda"]) == 0
    out = capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["protocol"]["hash"] in out
    assert "random last %" in out
    (file,) = run.glob("evaluation-*.json")
    assert f"\nwritten: {file} (--json FILE writes elsewhere)\n" in out
    found = entries(file)
    for arm, measured in {**metrics["arms"], "full": metrics["full_set"]}.items():
        if arm in ("deda", "random", "full"):
            for which in ("last", "best"):
                assert [entry[which] for entry in found if entry["arm"] == arm] == measured[which]
    assert (
        json.loads(file.read_text())["protocols"][metrics["protocol"]["hash"]]["text"]
        == metrics["protocol"]["text"]
    )
    # all is there: nothing is trained again; of two missing ones, those two are
    before = file.read_bytes()
    monkeypatch.setattr("fastdd.evaluate.results_file.train_student", None)
    assert main(["evaluate", str(run / "images" / "deda")]) == 0
    assert file.read_bytes() == before
    monkeypatch.undo()
    content = json.loads(before)
    file.write_text(json.dumps({**content, "students": content["students"][:2]}))
    assert main(["evaluate", str(run), "--arm", "deda"]) == 0
    assert entries(file) == found


def test_an_evaluation_leaves_the_callers_generators(run: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    open_evaluation(EvaluationRequest(run, arm="deda", full=False), CPU).run()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_of_anybodys(
    run: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(run / "teacher.safetensors")
    arguments = [
        "evaluate",
        str(bare),
        "--teacher",
        teacher,
        "--data",
        "digits",
        "--json",
        str(tmp_path / "j.json"),
    ]
    students = ["--student", "resnet8,convnet1", "--protocol", "dire", "--seeds", "1"]
    assert main([*arguments, *students, "epochs=1", "pad=1", "batch=500"]) == 0
    found = entries(tmp_path / "j.json")
    arms = [(entry["network"], entry["arm"]) for entry in found]
    assert arms == [
        (network, arm) for network in ("resnet8", "convnet1") for arm in ("bare", "random", "full")
    ]
    assert found[0]["protocol"] != found[3]["protocol"]
    out = capsys.readouterr().out
    assert "full best on the test set %" in out
    assert "its authors report the best" in out
    assert f"\nwritten: {tmp_path / 'j.json'}\n" in out
    assert not list(bare.glob("*.json"))
    with pytest.raises(InputError, match="another seed; give another --json"):
        open_evaluation(
            EvaluationRequest(bare, teacher=Path(teacher), data="digits", seed=3, json=tmp_path / "j.json"),
            CPU,
        )


@pytest.mark.parametrize("folder", ["random", "full", "full/train"])
def test_a_folder_that_is_called_as_a_control_is_no_control(
    run: Path, bare: Path, tmp_path: Path, folder: str
) -> None:
    (tmp_path / folder).parent.mkdir(exist_ok=True)
    bare.rename(tmp_path / folder)
    request = EvaluationRequest(
        tmp_path / folder, teacher=run / "teacher.safetensors", data="digits", full=False
    )
    assert [each.name for each in open_evaluation(request, CPU).sets] == ["set", "random"]


def test_the_control_has_as_many_images_of_each_class(run: Path, bare: Path) -> None:
    (bare / "3" / "00001.png").unlink()
    request = EvaluationRequest(bare, teacher=run / "teacher.safetensors", data="digits", full=False)
    evaluation = open_evaluation(request, CPU)
    own, control = evaluation.sets
    assert control.name == "random"
    assert (own.count, control.count) == (19, 19)
    (_, own_classes), (images, classes) = own.read(), control.read()
    assert torch.equal(own_classes.bincount(), classes.bincount())
    assert own_classes.bincount().tolist() == [2, 2, 2, 1, 2, 2, 2, 2, 2, 2]
    train, truth = evaluation.real.images(evaluation.real.train)
    of_class = {c: train[truth == c] for c in range(10)}
    for image, c in zip(images, classes.tolist(), strict=True):
        assert (of_class[c] == image).flatten(1).all(1).any()


def test_students_by_the_papers_names() -> None:
    small = students(["papers"], 32)
    assert small == [
        "resnet18_small",
        "resnet50_small",
        "resnet101_small",
        "vgg11_small",
        "vgg16_small",
        "mobilenet_v2_small",
        "efficientnet_b0_small",
        "shufflenet_v2_x0_5_small",
        "convnet3",
        "vit_small32",
    ]
    assert [outline("x", name, 10, (3, 32, 32), trains=False) for name in small]
    assert students(["papers"], 64)[-2:] == ["convnet4", "vit_small64"]
    large = students(["papers", "resnet18"], 224)
    assert large[0] == "resnet18"
    assert large[-1] == "vit_b_16"
    assert len(large) == 9  # no ConvNet leaves 4 x 4 pixels of 224
    assert [outline("x", name, 10, (3, 224, 224), trains=False) for name in large]
    assert students(["resnet20", "convnet"], 8) == ["resnet20", "convnet1"]


TABLES = {  # paper -> side -> its students
    "deda": {
        32: "resnet50_small mobilenet_v2_small efficientnet_b0_small shufflenet_v2_x0_5_small vgg16_small",
        64: "resnet50_small mobilenet_v2_small efficientnet_b0_small shufflenet_v2_x0_5_small vgg16_small",
        224: "resnet18 resnet50 resnet101",
    },
    "dire": {
        32: "resnet50_small resnet101_small vgg16_small mobilenet_v2_small vit_small32",
        64: "vgg16_small vit_small64",
        224: "mobilenet_v2 shufflenet_v2_x0_5",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 64, 224])
def test_students_of_a_papers_table_train_a_step(side: int) -> None:
    for paper, of_size in TABLES.items():
        assert students([paper], side) == of_size[side].split()
    names = students(["papers", "deda", "dire"], side)
    assert len(set(names)) == len(names) == len(students(["papers"], side))
    for name in names:
        with torch.device("meta"):  # which has no values, so that large networks cost nothing
            network, images = build(name, 10).train(), torch.zeros(2, 3, side, side)
            loss = torch.nn.functional.cross_entropy(network(images), torch.zeros(2, dtype=torch.int64))
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.parameters()), name


@pytest.mark.parametrize("name", ["vgg16_small", "vit_small32", "shufflenet_v2_x0_5_small"])
def test_a_student_learns_two_images(name: str) -> None:
    torch.manual_seed(0)
    network, images, labels = build(name, 10).train(), torch.rand(2, 3, 32, 32), torch.tensor([1, 7])
    optimizer, losses = torch.optim.AdamW(network.parameters(), 1e-3), []
    for _ in range(2):
        losses.append(torch.nn.functional.cross_entropy(network(images), labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[1] < losses[0]


def test_overrides_of_a_set_are_written_as_those_of_a_recipe(run: Path) -> None:
    (config,) = open_evaluation(
        EvaluationRequest(run, arm="deda", overrides=["randaugment.magnitude=5", "student.mix=none"]), CPU
    ).configs
    assert config.randaugment is not None
    assert (config.randaugment.magnitude, config.mix) == (5, "none")


def test_what_is_missing_is_said_at_once(run: Path, bare: Path, tmp_path: Path) -> None:
    teacher = run / "teacher.safetensors"
    cases: list[tuple[EvaluationRequest, str]] = [
        (EvaluationRequest(bare), r"is no run, so it has no teacher; give one with --teacher"),
        (EvaluationRequest(bare, teacher=teacher), r"real images are unknown; give them with --data"),
        (EvaluationRequest(run), r"name one of them \(--arm\)"),
        (
            EvaluationRequest(run, arm="deda", overrides=["network=resnt20"]),
            r"^network: unknown network 'resnt20' \(did you mean 'resnet20'",
        ),
        (
            EvaluationRequest(run, arm="deda", students=["resnet88"]),
            r"^--student: unknown network 'resnet88' \(did you mean 'resnet8'",
        ),
        (EvaluationRequest(run, arm="deda", protocol="rdet"), r"did you mean 'rded'"),
        (
            EvaluationRequest(run, arm="deda", overrides=["stepps=3"]),
            r"unknown key 'stepps'.*did you mean 'steps'",
        ),
        (EvaluationRequest(run, arm="deda", overrides=["optimiser=sgd"]), r"did you mean 'optimizer'"),
        (EvaluationRequest(run, arm="deda", overrides=["lr=-1"]), r"student.lr.*greater than 0"),
        (
            EvaluationRequest(run, arm="deda", overrides=["magnitude=11"]),
            r"student.randaugment.magnitude.*got 11",
        ),
        (EvaluationRequest(run, arm="deda", seeds=0), r"student.seeds.*greater than or equal to 1"),
        (
            EvaluationRequest(run, arm="deda", overrides=["epochs=3", "steps=4"]),
            r"give one of steps and epochs",
        ),
        (EvaluationRequest(run, arm="deda", overrides=["batch=by_ipc"]), r"set student.batch"),
        (EvaluationRequest(run, arm="deda", json=run / "recipe.yaml"), r"give another --json"),
        (EvaluationRequest(tmp_path / "nothing", teacher=teacher), r"no distilled set at"),
    ]
    for request, text in cases:
        with pytest.raises(InputError, match=text):
            open_evaluation(request, CPU)


def test_other_classes_and_sizes_are_refused(run: Path, bare: Path, tmp_path: Path) -> None:
    teacher = run / "teacher.safetensors"
    (bare / "9").rename(bare / "ten")
    with pytest.raises(InputError, match="has other classes than the real set"):
        open_evaluation(EvaluationRequest(bare, teacher=teacher, data="digits"), CPU)
    shutil.copytree(bare / "8", bare / "9")
    with pytest.raises(InputError, match="has 11 classes, but the teacher knows 10"):
        open_evaluation(EvaluationRequest(bare, teacher=teacher, data="digits"), CPU)
    large = tmp_path / "large"
    for c in range(10):
        (large / str(c)).mkdir(parents=True)
        (large / str(c) / "0.png").write_bytes(
            bytes(encode_png(torch.zeros(1, 16, 16, dtype=torch.uint8)).numpy())
        )
    (run / "images" / "deda").rename(tmp_path / "away")
    shutil.copytree(large, run / "images" / "deda")
    with pytest.raises(InputError, match=r"1 x 16 x 16 and the real ones 1 x 8 x 8"):
        open_evaluation(EvaluationRequest(run, arm="deda", students=["resnet8"]), CPU)


def test_the_command_tells_recipes_and_sets_apart(
    run: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny), "--student", "resnet8"]) == 2
    assert "is no distilled set, so --student says nothing" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--fresh"]) == 2
    assert "is a distilled set, no recipe, so --fresh says nothing" in capsys.readouterr().err
    for option in ("--arms", "--students"):  # --arm and --student are those of a set
        assert main(["evaluate", str(run), option, "deda"]) == 2
        assert f"is a distilled set, no recipe, so {option} says nothing" in capsys.readouterr().err
    assert main(["evaluate", "cifar10-tabel"]) == 2
    assert "did you mean 'cifar10-table'" in capsys.readouterr().err
    out = tmp_path / "again"
    shutil.copytree(run, out)
    assert main(["evaluate", str(tiny), "--out", str(out)]) == 0


def test_real_images_that_changed_after_the_run_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for split in ("train", "test"):
        fingerprints = manifest["fingerprints"] | {split: "0" * 64}
        (run / "manifest.json").write_text(json.dumps(manifest | {"fingerprints": fingerprints}))
        with pytest.raises(InputError, match=rf"^digits has changed since .*: fingerprint of {split} 0000"):
            open_evaluation(EvaluationRequest(run, arm="deda"), torch.device("cpu"))
        open_evaluation(EvaluationRequest(run, arm="deda", data="digits"), torch.device("cpu"))
        assert main(["metrics", str(run), "--arm", "deda", "--split", split]) == 2
        assert "or give --real digits to take it as it is" in capsys.readouterr().err
