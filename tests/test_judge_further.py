"""`fastdd judge`: sets that are added to a judgement, and labels of views that came with a set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import forked
import pytest
import torch
from torchvision.io import write_png

from fastdd.cli import main
from fastdd.config import Given
from fastdd.data import open_dataset
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.evaluate.dd_ranking import augmentation_robust, label_robust
from fastdd.export import export
from fastdd.labels import (
    Augmentation,
    LabelManifest,
    StoredLabels,
    export_fkd,
    images_fingerprint,
    label_views,
)
from fastdd.recipes.resolve import resolve
from fastdd.report.verdicts import choices
from fastdd.run_folder import Metrics, RunFolder, read, read_recipe
from fastdd.runs.given_sets import open_given
from fastdd.runtime.lock import at_work
from fastdd.teachers import open_teacher

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["steps=2", "batch=10", "pad=1", "evaluations=1", "--seeds", "2", "--student", "resnet8"]


@pytest.fixture
def sets(finished: Path, tmp_path: Path) -> Path:
    """Two sets of two images a class in plain folders, and one in the released layout."""
    here = tmp_path / "sets"
    shutil.copytree(finished / "images" / "deda", here / "a")
    shutil.copytree(finished / "images" / "sre2l", here / "b")
    for file in sorted((here / "a").rglob("*.png")):
        c, number = int(file.parent.name), int(file.stem)
        folder = here / "released" / f"new{c:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"class{c:03d}_id{number:03d}.png")
    return here


def source(finished: Path) -> list[str]:
    return ["--teacher", str(finished / "teacher.safetensors"), "--data", "digits"]


def judge(*words: object) -> int:
    return main(["judge", *map(str, words)])


def metrics_of(out: Path) -> Metrics:
    return read(RunFolder(out).metrics, Metrics)


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What was told as an error, in one line."""
    return " ".join(capsys.readouterr().err.split())


# -- adding ----------------------------------------------------------------------------------------


def test_a_set_is_added_to_a_judgement_without_doing_the_others_again(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard,fixed", "--no-full-set"]
    assert judge(sets / "a", *source(finished), *few, "--out", out) == 0
    trained = {file: file.stat().st_mtime_ns for file in (out / "students").rglob("*.json")}
    assert judge(sets / "b", "--out", out) == 0  # under the protocol that is there
    assert list(metrics_of(out).arms) == ["random", "a", "b"]
    assert all(file.stat().st_mtime_ns == when for file, when in trained.items())
    assert judge(sets / "a", sets / "b", *source(finished), *few, "--out", tmp_path / "once") == 0
    for made in ("metrics.json", "recipe.yaml"):
        assert (out / made).read_bytes() == (tmp_path / "once" / made).read_bytes()
    page = (out / "report.html").read_text()
    assert "b (2 images a class) beside as many random real images" in page

    # nothing goes out of a judgement again, and nothing is left to do
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert judge(sets / "a", "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    # another protocol, a changed set and another number of images are refused
    capsys.readouterr()
    assert judge(sets / "b", *FEW, "steps=3", "--regimes", "hard,fixed", "--out", out) == 2
    assert "student.steps: 2 there, 3 now" in told(capsys)
    assert judge(sets / "b", "--ipc", 1, "--out", out) == 2
    assert "judges sets of 2 images a class, and one now has 1" in told(capsys)
    shutil.copy(sets / "a" / "3" / "00000.png", sets / "b" / "4" / "00000.png")
    assert judge(sets / "b", "--out", out) == 2
    assert "has changed" in told(capsys)


def test_a_judgement_that_was_killed_while_a_set_was_added_goes_on(
    finished: Path, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard", "--no-full-set"]
    assert judge(sets / "a", *source(finished), *few, "--out", out) == 0

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("fastdd.run_folder.session.write_text", "fastdd.run_folder.session._grown"):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            judge(sets / "b", "--out", out)
        assert set(read_recipe(RunFolder(out)).arms) >= {"a"}
    assert judge(sets / "b", "--out", out) == 0
    assert list(metrics_of(out).arms) == ["random", "a", "b"]


def test_two_judges_at_once_both_have_their_rows(finished: Path, sets: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard", "--no-full-set"]
    both = [
        forked.start("-m", "fastdd", "judge", sets / name, *source(finished), *few, "--out", out)
        for name in ("a", "b")
    ]
    errors = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert {"a", "b"} <= set(metrics_of(out).arms)


def test_a_run_at_work_is_not_waited_for(finished: Path, sets: Path, tmp_path: Path) -> None:
    with at_work(tmp_path / "out", "run"):
        assert judge(sets / "a", *source(finished), *FEW, "--out", tmp_path / "out") == 2


# -- labels of views -------------------------------------------------------------------------------


@pytest.fixture
def pool(finished: Path, sets: Path) -> Path:
    """Labels of three epochs of views of the set ``a``, and ``fkd``, the same in the released layout."""
    images = open_set(sets / "a", channels=1).images
    how = Augmentation((8, 8), scale=(0.3, 1.0), mix="cutmix", mix_alpha=1.0, batch=10, order="fkd")
    prints = images_fingerprint(images)
    manifest = LabelManifest(
        images=prints, teachers=("t",), classes=10, samples=20, epochs=3, augmentation=how, views="stored"
    )
    teacher = open_teacher(finished / "teacher.safetensors", torch.device("cpu"))
    stored = label_views({"t": teacher}, images, sets / "pool", manifest, name="a")
    export_fkd(stored, sets / "fkd")
    return sets / "pool"


def test_labels_of_views_that_came_with_a_set_are_learned_beside_random_images_in_the_same_views(
    finished: Path, sets: Path, pool: Path, tmp_path: Path
) -> None:
    out, few = tmp_path / "out", [*FEW, "--regimes", "fixed,hard"]
    given = ["--labels", f"{sets / 'a'}={pool}", "--labels", f"released={sets / 'fkd'}"]
    three = [sets / "a", sets / "released", sets / "b"]
    assert judge(*three, *given, *source(finished), *few, "--out", out) == 0
    metrics = metrics_of(out)
    assert list(metrics.students) == ["resnet8-hard", "resnet8-fixed-a", "resnet8-fixed-released"]
    assert set(metrics.last("resnet8-fixed-a")) == {"random", "a", "full"}
    assert metrics.last("resnet8-fixed-a")["a"] == metrics.last("resnet8-fixed-released")["released"]
    assert set(metrics.last()) == {"random", "a", "released", "b", "full"}
    assert "came with a" in metrics.students["resnet8-fixed-a"].text
    labels = out / "labels" / "resnet8-fixed-a"
    theirs, ours = StoredLabels.open(labels / "a"), StoredLabels.open(labels / "random")
    assert theirs.views(2).digest() == ours.views(2).digest()
    shipped = metrics.arms["a"].students["resnet8-fixed-a"].shipped
    assert shipped is not None
    assert shipped.labels > 0
    # a set is added, what came with the first is no longer needed
    shutil.rmtree(pool)
    shutil.copytree(sets / "b", sets / "c")
    assert judge(sets / "c", "--out", out) == 0
    assert list(metrics_of(out).arms) == ["random", "a", "released", "b", "c"]
    # labels that a judgement, as any run, stored are found
    again = tmp_path / "again"
    assert judge(f"{out}:a", *FEW, "--regimes", "fixed", "--no-full-set", "--out", again) == 0
    assert metrics_of(again).last("resnet8-fixed-a")["a"] == metrics.last("resnet8-fixed-a")["a"]


def test_labels_of_views_that_do_not_fit_are_refused(
    finished: Path, sets: Path, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        capsys.readouterr()
        assert judge(*words, *source(finished), *FEW, "--out", tmp_path / "out") == 2
        assert not (tmp_path / "out").exists()
        return told(capsys)

    assert "are of other images" in refused(sets / "b", "--labels", pool)
    assert "write --labels SET=FOLDER" in refused(sets / "a", sets / "b", "--labels", pool)
    assert "there is no folder" in refused(sets / "a", "--labels", tmp_path / "none")
    assert "holds no FKD labels" in refused(sets / "a", "--labels", sets / "b")
    assert "takes 10: leave --ipc out" in refused(sets / "a", "--ipc", 1, "--labels", pool)
    assert "--regimes leaves out; add fixed to" in refused(sets / "a", "--labels", pool, "--regimes", "hard")
    shutil.rmtree(sets / "a" / "9")
    assert "no images of 1 of the 10" in refused(sets / "a", "--labels", pool)


def test_damaged_labels_of_a_judged_run_are_put_back_and_not_deleted(finished: Path, tmp_path: Path) -> None:
    """Without them the teacher would label the set, and nobody would know."""
    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    run.labels("deda", "image").parent.mkdir(exist_ok=True)
    run.labels("deda", "image").write_bytes(b"half")
    with pytest.raises(InputError) as caught:
        open_given(run.path, "deda", [str(c) for c in range(10)], 1)
    assert str(caught.value).endswith(
        "; put back the file that the run wrote, or move it away, and the teacher labels the set"
    )


def test_what_whoever_judges_has_chosen_is_said(finished: Path) -> None:
    recipe, metrics = (
        resolve("digits", ["student.protocol=house", "student.steps=7", "seed=3"]).recipe,
        metrics_of(finished),
    )
    said = " ".join(choices(recipe, metrics))
    assert "Not judged with fixed labels" in said
    assert "The protocol is house, with" in said
    assert "steps 7 instead of 400" in said
    assert "of seed 3, which was chosen in the place of 0 (others may have been tried)" in said
    assert "Not known here: whether the real images are the published ones" in said
    assert "came with the set" not in said
    assert "The real images are" not in said
    given = Given(path="theirs", fingerprint="x", labels=True)
    method = recipe.arms["deda"].model_copy(update={"given": given, "title": "theirs"})
    stored = recipe.student.model_copy(update={"labels": "stored", "network": "mine:network"})
    judged = recipe.model_copy(update={"arms": {"theirs": method}, "student": stored})
    part = metrics.model_copy(update={"data": metrics.data.model_copy(update={"root": "x/cifar10.tar.xz"})})
    said = " ".join(choices(judged, part))
    assert "The fixed labels of theirs came with the set" in said
    assert "The code of mine:network is not fastdd's" in said
    assert (
        "The real images are 1,438 for training and 359 for tests, while cifar10 has 50,000 and 10,000"
        in said
    )


# -- leaks -----------------------------------------------------------------------------------------


def write_test_images(folder: Path, ipc: int) -> None:
    """A set of the first test images of each class."""
    test = open_dataset("digits", "test")
    for c in range(10):
        (folder / str(c)).mkdir(parents=True)
        for row in (test.labels == c).nonzero()[:ipc, 0].tolist():
            write_png(test.reader.pixels(row, 1), str(folder / str(c) / f"{row}.png"))


def test_a_set_of_test_images_gets_no_verdict_but_what_it_is(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_test_images(sets / "leaked", 2)
    shutil.copy(sets / "b" / "3" / "00000.png", sets / "b" / "3" / "00001.png")
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard", "--no-full-set"]
    assert judge(sets / "leaked", sets / "b", sets / "a", *source(finished), *few, "--out", out) == 0
    said = " ".join(capsys.readouterr().out.split())
    metrics = metrics_of(out)
    assert [each.kind for each in metrics.arms["leaked"].findings or ()] == ["leak"]
    assert not metrics.arms["a"].leaks
    page = " ".join((out / "report.html").read_text().split())
    for text in (said, page):
        assert (
            "leaked (2 images a class) holds images that students are tested on, so its accuracies say"
            in text
        )
        assert "20 of 20 images are copies of test images" in text
        assert "leaked (2 images a class) beside" not in text
        assert "At fault: 1 of 20 images repeat others of the set: 3/00000.png and 3/00001.png." in text
    assert "leaked, best of the distilled" not in page
    assert main(["leaderboard", str(out), "--out", str(tmp_path / "site")]) == 0
    rows_told = json.loads((tmp_path / "site" / "leaderboard.json").read_text())
    assert [row["arm"] for row in rows_told][-1] == "leaked"
    assert [row["leaks"] for row in rows_told] == [False, False, False, True]
    # results that were edited in haste are refused
    measured = (out / "metrics.json").read_text()
    (out / "metrics.json").write_text(measured.replace('"kind": "leak"', '"kind": "note"'))
    for command in (["leaderboard", str(out), "--out", str(tmp_path / "site")], ["judge", str(sets / "a")]):
        capsys.readouterr()
        assert main([*command, *(["--out", str(out)] if command[0] == "judge" else [])]) == 2
        assert "was edited after it was measured" in told(capsys)
    (out / "metrics.json").write_text(measured)
    # what was found is kept when a set is added
    before = metrics.arms["leaked"].findings
    shutil.copytree(sets / "a", sets / "c")
    assert judge(sets / "c", "--out", out) == 0
    assert metrics_of(out).arms["leaked"].findings == before
    assert metrics_of(out).arms["c"].findings == ()


def test_the_page_of_several_sizes_and_the_card_of_a_set_say_what_a_page_says(
    finished: Path, sets: Path, tmp_path: Path
) -> None:
    write_test_images(sets / "leaked", 1)
    out, few = tmp_path / "out", [*FEW, "--regimes", "hard", "--no-full-set"]
    assert judge(sets / "leaked", sets / "a", *source(finished), *few, "--out", out) == 0
    page = " ".join((out / "report.html").read_text().split())
    assert "leaked (1 image a class) holds images that students are tested on, so its accuracies say" in page
    assert "a (2 images a class) beside as many random real images: " in page
    assert "leaked (holds test images)" in page
    assert "Not judged with fixed and online labels" in page
    assert page.count("Not known here: whether the real images are the published ones") == 1
    assert "given as they are" in page
    assert "distilled from" not in page
    export(open_set(out / "ipc-1", "leaked", channels=1), "imagefolder", tmp_path / "exported")
    assert "| leaked (holds test images) |" in (tmp_path / "exported" / "README.md").read_text()


# -- DD-Ranking's scores ---------------------------------------------------------------------------


def test_robust_scores_are_told_by_regimes_and_students_without_augmentation(
    finished: Path, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "out", [*FEW, "--seeds", 1, "--regimes", "hard,online", "--plain"]
    assert judge(sets / "a", *source(finished), *few, "--out", out) == 0
    metrics = metrics_of(out)
    assert list(metrics.students) == ["resnet8-online", "resnet8-online-plain"]
    mean = {
        kind: {name: each[0] or 0.0 for name, each in metrics.last(kind).items()}
        for kind in ("", *metrics.students)
    }
    online, plain = mean["resnet8-online"], mean["resnet8-online-plain"]
    scores = metrics.arms["a"].students["resnet8-online"].robust
    assert scores is not None
    label = label_robust(
        real_hard=mean[""]["full"],
        synthetic_hard=mean[""]["a"],
        synthetic=online["a"],
        random=online["random"],
    )
    augmented = augmentation_robust(
        synthetic=online["a"],
        random=online["random"],
        synthetic_plain=plain["a"],
        random_plain=plain["random"],
    )
    assert (scores.label, scores.augmentation) == (label.score, augmented.score)
    assert metrics.arms["a"].robust is None
    assert metrics.arms["random"].students["resnet8-online"].robust is None
    assert "no mixing" in metrics.students["resnet8-online-plain"].text
    assert f"{label.score:.3f}" in capsys.readouterr().out
    assert f"<td>{augmented.score:.3f}</td>" in (out / "report.html").read_text()
