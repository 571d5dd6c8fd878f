"""Bad input of `fastdd judge`: status 2 and one line that says what, and what to do, before any work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pictures import picture, png

from fastdd.cli import main
from fastdd.models.build import build
from fastdd.teachers import Card, Teacher, save_teacher

pytestmark = pytest.mark.usefixtures("one_thread")
Case = Callable[[Path, Path], list[object]]
"""of an empty folder and a finished run, makes what is wrong and returns the words after ``judge``"""


def good(here: Path, run: Path, name: str = "set") -> Path:
    """DEDA's two images of each digit."""
    return Path(shutil.copytree(run / "images" / "deda", here / name))


def with_data(run: Path) -> list[object]:
    return ["--teacher", run / "teacher.safetensors", "--data", "digits"]


def changed(change: Callable[[Path], object], *more: object) -> Case:
    """A set to which something is done."""

    def case(here: Path, run: Path) -> list[object]:
        change(good(here, run))
        return [here / "set", *with_data(run), *more]

    return case


def larger(here: Path, run: Path) -> list[object]:
    """A second set, of 16 pixels."""
    for c in range(10):
        (here / "large" / str(c)).mkdir(parents=True)
        for i in range(2):
            (here / "large" / str(c) / f"{i}.png").write_bytes(png(picture(i, 16, 16)))
    return [good(here, run), here / "large", *with_data(run)]


def teacher_of_pets(here: Path, run: Path) -> list[object]:
    card = Card("resnet8", ("cat", "dog"), 1, (0.3,), std=(0.4,))
    save_teacher(here / "pets.safetensors", Teacher.of(build("resnet8", 2, 1), card, torch.device("cpu")))
    return [good(here, run), "--teacher", here / "pets.safetensors", "--data", "digits"]


def linked_twice(here: Path, run: Path) -> list[object]:
    good(here, run)
    (here / "again").symlink_to("set")
    return [here / "set", here / "again", *with_data(run)]


def one_name(here: Path, run: Path) -> list[object]:
    return [good(here, run, "a/set"), good(here, run, "b/set"), *with_data(run)]


def another_run(here: Path, run: Path) -> list[object]:
    shutil.copytree(run, here / "out")
    return [good(here, run), *with_data(run)]


def its_own_folder(here: Path, run: Path) -> list[object]:
    shutil.copytree(run, here / "out")
    return [f"{here / 'out'}:deda", "--fresh"]


CASES: dict[str, tuple[Case, str]] = {
    "nothing there": (
        lambda here, run: [here / "nowhere", *with_data(run)],
        "nowhere', which does not exist",
    ),
    "an empty folder": (lambda here, run: [(here / "set").mkdir() or here / "set", *with_data(run)], "set"),
    "another class": (changed(lambda s: (s / "3").rename(s / "cat")), "which the real set lacks"),
    "a class missing": (
        changed(lambda s: shutil.rmtree(s / "3")),
        "has no images of 1 of the 10 real classes",
    ),
    "a broken image": (changed(lambda s: (s / "3" / "00000.png").write_bytes(b"x")), "00000.png"),
    "unlike counts": (changed(lambda s: (s / "3" / "00001.png").unlink()), "--ipc 1 takes the first ones"),
    "too large an ipc": (changed(lambda s: None, "--ipc", 3), "but --ipc is 3; set it to 2 or less"),
    "no ipc": (changed(lambda s: None, "--ipc", 0), "--ipc 0 is not possible"),
    "an unknown regime": (changed(lambda s: None, "--regimes", "onlin"), "did you mean 'online'?"),
    "no regime": (changed(lambda s: None, "--regimes", ","), "expected one or more of hard, fixed, online"),
    "an unknown network": (changed(lambda s: None, "--student", "resnet21"), "resnet2"),
    "an unknown protocol": (changed(lambda s: None, "--protocol", "hose"), "did you mean 'house'?"),
    "an unknown key": (changed(lambda s: None, "stepz=3"), "stepz"),
    "no seeds": (changed(lambda s: None, "--seeds", 0), "seeds"),
    "a negative seed": (changed(lambda s: None, "--seed", -1), "seed"),
    "an unknown device": (changed(lambda s: None, "--device", "cud"), "cud"),
    "sets of two sizes": (larger, "those of"),
    "a teacher of other classes": (teacher_of_pets, "but the teacher"),
    "a set twice": (linked_twice, "is given twice"),
    "one name twice": (one_name, "would both be called 'set'"),
    "an arm of no run": (
        lambda here, run: [f"{good(here, run)}:deda", *with_data(run)],
        "is no run folder, so it has no arm 'deda'",
    ),
    "an unknown arm": (lambda here, run: [f"{run}:ddea"], "did you mean 'deda'?"),
    "no teacher and no data": (lambda here, run: [good(here, run)], "give them with --data ROOT"),
    "an unknown value of the teacher": (
        lambda here, run: [good(here, run), "--data", "digits", "teacher.epoch=2"],
        "a teacher has no value 'epoch' (did you mean 'epochs'?)",
    ),
    "no data": (lambda here, run: [good(here, run), *with_data(run)[:2]], "give them with --data ROOT"),
    "a folder of another run": (another_run, "is the folder of a run, and no judgement"),
    "its own folder, fresh": (its_own_folder, "--fresh would delete"),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_judgement_that_cannot_be_made_is_refused(
    kind: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, told = CASES[kind]
    words = case(tmp_path, finished)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert main(["judge", *map(str, words), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert told in err
    assert err.count("error: ") == 1
    assert sorted(path for path in tmp_path.rglob("*")) == before
