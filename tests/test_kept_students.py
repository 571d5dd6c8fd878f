"""Students that stay: their weights and cards, what `kill -9` within one costs, and students as teachers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_run import Process, kill_when, results
from test_students import CLASSES, Silent, changed
from torch import Tensor, nn

import fastdd
from fastdd.cli import main
from fastdd.data.real_data import RealData
from fastdd.errors import InputError
from fastdd.evaluate import StudentCheckpoint, TrainedStudent, protocol_hash, train_student
from fastdd.evaluate.learner import Learner
from fastdd.models.build import build
from fastdd.protocols import SettledStudent
from fastdd.recipes.resolve import resolve, table
from fastdd.run_folder import RunFolder
from fastdd.teachers import Card, Teacher, accuracy, open_teacher

RECIPE = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
arms: {deda: {method: deda, steps: 2}}
student: {network: convnet1, labels: hard, steps: 10, batch: 4, pad: 1, seeds: 2, evaluations: 2, keep: true}
students:
  soft: {network: resnet8, steps: 3, batch: 5, pad: 1, seeds: 1, evaluations: 1, ema: 0.5, keep: true}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run that kept its students; beside it lies its recipe. Read only."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "kept.yaml").write_text(RECIPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastdd.run(folder / "kept.yaml", folder / "out", until="evaluate")
    torch.set_num_threads(threads)
    return RunFolder(folder / "out")


# -- a training that is cut short -----------------------------------------------------------------


class Dropping(nn.Module):
    """A student with BatchNorm and dropout, which draws from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, CLASSES)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Killed(BaseException):
    """Stands for a kill -9."""


class Until(Silent):
    """A bar at which the training dies when some images were seen."""

    def __init__(self, images: float) -> None:
        self.left = images

    def advance(self, images: int, note: str = "") -> None:
        self.left -= images
        if self.left < 0:
            raise Killed


PROTOCOLS = {
    "AdamW, average, mixup": {"mix": "mixup", "ema": 0.9, "flip": 0.5},
    "SGD that begins anew, hard labels, crops": {
        "optimizer": "sgd",
        "labels": "hard",
        "schedule": "multistep",
        "milestones": (0.5,),
        "restart_momentum": True,
        "scale": (0.5, 1.0),
    },
    "stages": {"label_stages": (("soft", 0.4), ("hard", 0.4), ("soft", 0.2)), "mix": "cutmix"},
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("killed_after", [4, 9])
def test_a_student_that_died_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, name: str, killed_after: int
) -> None:
    config = changed(steps=13, batch=5, evaluations=3, **PROTOCOLS[name])
    torch.manual_seed(0)
    card = Card("convnet1", tuple("abcd"), 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    teacher = Teacher(build("convnet1", CLASSES).eval().requires_grad_(False), card)
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    whole = trained(config, teacher, images, None, Silent())
    path = tmp_path / "state_0.safetensors"
    seen = killed_after // 3 * 12 + killed_after % 3 * 5  # twelve images are batches of 5, 5 and 2
    with pytest.raises(Killed):
        trained(config, teacher, images, StudentCheckpoint(path, "owner", every=0.0), Until(seen))
    assert path.is_file()
    last = StudentCheckpoint(path, "owner", every=1e9)
    continued = trained(config, teacher, images, last, Silent())
    assert continued == whole
    assert continued.network is not None
    assert whole.network is not None
    theirs = whole.network.state_dict()
    for key, value in continued.network.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def trained(
    config: SettledStudent,
    teacher: Teacher,
    images: Tensor,
    checkpoint: StudentCheckpoint | None,
    bar: Silent,
) -> TrainedStudent:
    truth = torch.arange(len(images)) % CLASSES
    return train_student(
        config,
        teacher,
        images,
        new_network=Dropping,
        test=(images, truth),
        seed=1,
        bar=bar,
        hard_labels=truth,
        checkpoint=checkpoint,
    )


def test_a_state_of_another_training_is_not_taken_up_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    config, path = changed(), tmp_path / "state_0.safetensors"
    learner = Learner.of(config, Dropping())

    class NoBatches:
        """Batches without a state."""

        def state(self) -> dict[str, Tensor]:
            return {}

        def restore(self, state: dict[str, Tensor], done: int) -> None:
            pass

    batches = NoBatches()
    StudentCheckpoint(path, "one", every=1.0).save(7, learner, batches, [(4, 0.5)])  # type: ignore[arg-type]
    curve: list[tuple[int, float]] = []
    assert StudentCheckpoint(path, "other", 1.0).restore(learner, batches, curve) == 0  # type: ignore[arg-type]
    assert StudentCheckpoint(path, "one", 1.0).restore(learner, batches, curve) == 7  # type: ignore[arg-type]
    assert curve == [(4, 0.5)]
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"state_0\.safetensors is damaged .* train this student from the"):
        StudentCheckpoint(path, "one", 1.0).restore(learner, batches, curve)  # type: ignore[arg-type]


def test_kill_9_within_a_student_ends_with_the_same_bytes(
    tmp_path: Path, kept: RunFolder, fastdd_process: Process, one_thread: None
) -> None:
    out = RunFolder(tmp_path / "out")
    shutil.copytree(kept.path, out.path)
    shutil.rmtree(out.path / "students")
    out.metrics.unlink()
    recipe = kept.path.parent / "kept.yaml"
    state = out.student_state(out.student("random", 0))
    process = fastdd_process(
        "run", recipe, "--out", out.path, "student.checkpoint_every=1e-9", "students.soft.checkpoint_every=9"
    )
    kill_when(process, state)
    assert state.is_file()
    assert not out.student("random", 0).exists()
    fastdd.run(recipe, out.path, until="evaluate")
    assert not list(out.path.rglob("state_*"))
    assert results(out.path) == results(kept.path)


# -- what is kept ---------------------------------------------------------------------------------


def test_weights_lie_beside_each_accuracy_with_a_card_that_says_all(kept: RunFolder) -> None:
    metrics = json.loads(kept.metrics.read_text())
    for arm in ("random", "deda", "full"):
        for seed in (0, 1):
            teacher = open_teacher(kept.student_weights(arm, seed), torch.device("cpu"))
            result = json.loads(kept.student(arm, seed).read_text())
            card = teacher.card
            assert (card.network, card.classes, card.channels) == ("convnet1", tuple("0123456789"), 1)
            assert (card.mean, card.std, card.size) == ((0.305,), (0.376,), (8, 8))
            assert card.accuracy == result["last"]
            if arm != "full":
                assert card.data == result["learned_from"]
            assert card.student is not None
            assert (card.student.set, card.student.seed, card.student.students) == (arm, seed, "")
            assert (card.student.recipe, card.student.protocol) == ("kept", metrics["protocol"]["hash"])
    soft = open_teacher(kept.student_weights("deda", 0, "soft"), torch.device("cpu"))
    assert soft.card.student is not None
    assert (soft.card.network, soft.card.student.students) == ("resnet8", "soft")
    assert soft.card.student.protocol == metrics["students"]["soft"]["hash"]


def test_a_kept_student_reaches_the_accuracy_that_its_card_says(kept: RunFolder) -> None:
    recipe = fastdd.resolve(str(kept.path.parent / "kept.yaml"))
    images, truth = RealData(recipe, torch.device("cpu")).evaluation
    for path in (kept.student_weights("deda", 1), kept.student_weights("random", 0, "soft")):
        student = open_teacher(path, torch.device("cpu"))
        assert accuracy(student.network, student.normalize, images, truth) == student.card.accuracy


def test_keeping_is_no_part_of_recipe_and_protocol_and_can_be_asked_for_later(
    kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = kept.path.parent / "kept.yaml", RunFolder(tmp_path / "out")
    assert "keep: true" not in kept.recipe.read_text()
    assert protocol_hash(changed(keep=True, checkpoint_every=5.0)) == protocol_hash(changed())
    shown = {row.path: row.value for row in table(resolve(str(recipe)))}
    assert (shown["student.keep"], shown["students.soft.checkpoint_every"]) == (True, 60.0)
    shutil.copytree(kept.path, out.path)
    out.student_weights("deda", 1).unlink()
    off = ["student.keep=false", "students.soft.keep=false"]
    before = out.student("deda", 1).stat().st_mtime_ns
    fastdd.run(recipe, out.path, overrides=off, until="evaluate")
    assert out.student("deda", 1).stat().st_mtime_ns == before
    fastdd.run(recipe, out.path, until="evaluate")
    assert capsys.readouterr().err.count("students deda: their weights were not kept") == 1
    assert results(out.path) == results(kept.path)


def test_weights_of_students_that_are_trained_again_without_keeping_go(
    kept: RunFolder, tmp_path: Path
) -> None:
    out = RunFolder(tmp_path / "out")
    shutil.copytree(kept.path, out.path)
    out.student("deda", 0).unlink()
    off = ["student.keep=false", "students.soft.keep=false"]
    fastdd.run(kept.path.parent / "kept.yaml", out.path, overrides=off, until="evaluate")
    assert not out.student_weights("deda", 0).exists()
    assert out.student_weights("deda", 1).exists()


# -- taking them out ------------------------------------------------------------------------------


def test_one_student_becomes_a_file_and_all_become_a_folder(
    kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my students" / "student.safetensors"
    asked = ["--arm", "deda", "--seed", "1", "--students", "", "--out", str(file)]
    assert main(["students", "export", str(kept.path), *asked]) == 0
    assert file.read_bytes() == kept.student_weights("deda", 1).read_bytes()
    assert f"'teacher.weights={file}' teacher.network=convnet1" in capsys.readouterr().out
    assert main(["students", "export", str(kept.path), "--out", str(tmp_path / "all")]) == 0
    names = {f"{arm}-seed_{seed}" for arm in ("random", "deda", "full") for seed in (0, 1)}
    names |= {f"soft-{arm}-seed_0" for arm in ("random", "deda", "full")}
    assert {path.stem for path in (tmp_path / "all").iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "dedda"], "--arm: {run} has no 'dedda' (did you mean 'deda'?); it has random, deda, full"),
        (["--students", "sooft"], "--students: {run} has no 'sooft' (did you mean 'soft'?); it has soft"),
        (["--seed", "7"], "{run} kept no such student; it has random 0, random 1, deda 0, deda 1, full 0"),
        (["--out", "one.safetensors"], "--out one.safetensors is one file, but 9 students were kept; choose"),
    ],
)
def test_what_was_not_kept_cannot_be_exported(
    kept: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["students", "export", str(kept.path), "--out", "new", *arguments]) == 2
    assert message.format(run=kept.path) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_without_weights_names_the_key(
    kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(kept.path, tmp_path / "out")
    for path in (tmp_path / "out" / "students").rglob("*.safetensors"):
        path.unlink()
    assert main(["students", "export", str(tmp_path / "out"), "--out", str(tmp_path / "new")]) == 2
    assert "kept no students; start its `fastdd run` command again with student.keep=true" in (
        capsys.readouterr().err
    )


def test_an_evaluation_keeps_none_and_says_who_does(
    kept: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(kept.path), "--arm", "deda", "keep=true"]) == 2
    assert "fastdd evaluate keeps no students" in capsys.readouterr().err


# -- a student as teacher --------------------------------------------------------------------------


def test_a_kept_student_teaches_another_run(
    kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = kept.student_weights("full", 0, "soft")
    recipe, out = str(kept.path.parent / "kept.yaml"), RunFolder(tmp_path / "second")
    given = [f"teacher.weights={student}", "teacher.network=resnet8", "teacher.minimum_accuracy=0"]
    short = ["student.steps=2", "student.seeds=1", "--out", str(out.path)]
    assert main(["run", recipe, *given, *short]) == 0
    capsys.readouterr()
    taken = open_teacher(out.teacher(), torch.device("cpu"))
    theirs = open_teacher(student, torch.device("cpu"))
    assert taken.card.student == theirs.card.student
    for key, value in taken.network.state_dict().items():
        assert torch.equal(value, theirs.network.state_dict()[key])
    assert main(["run", recipe, f"teacher.weights={student}", "teacher.network=resnet20", *short]) == 2
    assert "to use it add teacher.network=resnet8" in capsys.readouterr().err
