"""Bad labels, sets and batches through the command: status 2 and one line that says what, and what to do."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fastdd.cli import main
from fastdd.runtime.files import write_tensors

pytestmark = pytest.mark.usefixtures("one_thread")
STORED = {"image": ["student.labels=stored"], "view": ["student.labels=stored", "labels.per=view"]}
Spoil = Callable[[Path], object]
"""of the folder labels/"""


@pytest.fixture(scope="module")
def labelled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with stored labels and no students, by what a label is of. Read only."""
    folder = tmp_path_factory.mktemp("labelled")
    for per, overrides in STORED.items():
        command = ["label", str(finished.parent / "tiny.yaml"), "--out", str(folder / per)]
        assert main([*command, f"teacher.weights={finished / 'teacher.safetensors'}", *overrides]) == 0
    return {per: folder / per for per in STORED}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, without evaluations."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def bare(run: Path, tmp_path: Path) -> Path:
    """DEDA's images as anybody's folder."""
    return Path(shutil.copytree(run / "images" / "deda", tmp_path / "bare"))


def refused(capsys: pytest.CaptureFixture[str], *command: str | Path) -> str:
    """The one line that a command ends with."""
    capsys.readouterr()
    assert main([str(word) for word in command]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def edited(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the tensors of a file and keep its metadata."""
    with safe_open(str(path), framework="pt") as file:
        said = file.metadata()
    tensors = load_file(path)
    change(tensors)
    write_tensors(path, tensors, said)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def not_finite(tensors: dict[str, Tensor]) -> None:
    tensors["logits"][3, 2] = float("nan")


def fewer_classes(tensors: dict[str, Tensor]) -> None:
    tensors["logits"] = tensors["logits"][:, :7]


def fewer_rows(tensors: dict[str, Tensor]) -> None:
    tensors["logits"] = tensors["logits"][:7]


def another_form(tensors: dict[str, Tensor]) -> None:
    tensors["levels"] = tensors.pop("logits")


def shard(labels: Path) -> Path:
    """The file with the labels of random's views."""
    (path,) = (labels / "random").glob("epochs-*")
    return path


def replaced(path: Path, other: Path) -> None:
    """Put a copy of another file or folder there."""
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(other, path)
    else:
        shutil.copy(other, path)


# -- stored labels --------------------------------------------------------------------------------

BY_IMAGE: list[tuple[Spoil, str]] = [
    (
        lambda f: cut(f / "random.safetensors"),
        r"labels/random.safetensors is damaged \(.*\); put back a whole copy, or delete it",
    ),
    (lambda f: (f / "random.safetensors").write_bytes(b""), r"labels/random.safetensors is damaged"),
    (
        lambda f: edited(f / "random.safetensors", not_finite),
        r"are not finite for image 3 \(1 of 20 images\); put back a whole copy, or delete",
    ),
    (
        lambda f: edited(f / "random.safetensors", fewer_classes),
        r"are \[20, 7\], expected \[20, 10\].*; put back a whole copy, or delete",
    ),
    (
        lambda f: edited(f / "random.safetensors", fewer_rows),
        r"are \[7, 10\], expected \[20, 10\].*; put back a whole copy, or delete",
    ),
    (
        lambda f: replaced(f / "random.safetensors", f / "deda.safetensors"),
        r"labels/random.safetensors are of other images: fingerprint \w{12}, these are \w{12}; put back "
        r"a whole copy, or delete it",
    ),
    (
        lambda f: replaced(f / "random.safetensors", f.parent / "teacher.safetensors"),
        r"random.safetensors holds bn1.bias, .* and \d+ more, expected logits \[images, classes\]; give",
    ),
]
BY_VIEW: list[tuple[Spoil, str]] = [
    (
        lambda f: cut(shard(f)),
        r"random/epochs-\d{5}-\d{5}.safetensors is damaged \(.*\); put back a whole copy, or delete it",
    ),
    (
        lambda f: edited(shard(f), not_finite),
        r"random/epochs-\d{5}-\d{5}.safetensors are not finite for sample \d+ \(1 of 20 in a batch\); "
        r"put back a whole copy, or delete it",
    ),
    (lambda f: edited(shard(f), fewer_classes), r"holds logits \[\d+, 7\], expected logits \[\d+, 10\]"),
    (lambda f: edited(shard(f), fewer_rows), r"holds logits \[7, 10\], expected logits \[\d+, 10\]"),
    (lambda f: edited(shard(f), another_form), r"holds levels \[\d+, 10\], expected logits \[\d+, 10\]"),
    (
        lambda f: write_tensors(shard(f), {"logits": torch.zeros(20, 10)}),
        r"holds logits \[20, 10\], expected logits \[\d+, 10\] and which views they are of\); "
        r"put back a whole copy, or delete it",
    ),
    (lambda f: edited(shard(f), dict.clear), r"holds nothing, expected logits \[\d+, 10\] and which views"),
    (
        lambda f: replaced(f / "random", f / "deda"),
        r"labels/random are of other images: fingerprint \w{12}, these are \w{12}; give labels of these "
        r"images, or delete that folder",
    ),
    (
        lambda f: (f / "random/manifest.json").write_text("{"),
        r"manifest.json is damaged .*; put back a whole copy, or delete the",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("per", "spoil", "text"),
    [*(("image", *case) for case in BY_IMAGE), *(("view", *case) for case in BY_VIEW)],
)
def test_spoilt_labels_are_refused(
    finished: Path,
    labelled: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    per: str,
    spoil: Spoil,
    text: str,
) -> None:
    out = shutil.copytree(labelled[per], tmp_path / "out")
    spoil(out / "labels")
    given = f"teacher.weights={finished / 'teacher.safetensors'}"
    error = refused(capsys, "run", finished.parent / "tiny.yaml", "--out", out, given, *STORED[per])
    assert re.search(text, error), error
    assert not list(out.glob("students/random/*"))


def test_labels_are_shown_by_image_and_by_view(
    labelled: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = labelled["image"] / "labels" / "deda.safetensors"
    assert main(["labels", "show", str(file)]) == 0
    out = capsys.readouterr().out
    logits = load_file(file)["logits"].double()
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    assert out.split("labels")[1].split(",")[0].strip() == "20"
    assert "float16" in out
    assert f"{p.max(1).values.mean():.4f}" in out
    assert f"{-(p * p.log()).sum(1).mean():.4f} nats at T = 1, of at most 2.3026" in out
    assert main(["labels", "show", str(labelled["view"] / "labels" / "deda")]) == 0
    assert "mixup(0.8)" in capsys.readouterr().out
    spoilt = Path(shutil.copy(file, tmp_path / "spoilt.safetensors"))
    edited(spoilt, not_finite)
    assert main(["labels", "show", str(spoilt)]) == 0
    assert "1 label; students refuse such" in capsys.readouterr().out
    assert "no.safetensors does not exist" in refused(capsys, "labels", "show", tmp_path / "no.safetensors")
    assert "is a file, as of one label an image; expected a folder" in refused(
        capsys, "labels", "export-fkd", file, "--out", tmp_path / "fkd"
    )


# -- sets -----------------------------------------------------------------------------------------


def test_a_set_with_other_class_folders_or_images(
    finished: Path, run: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = run / "images" / "deda"
    shutil.copytree(images / "3", images / "11")
    command = ("evaluate", run, "--arm", "deda")
    assert "has class folder '11', but the run's 10 classes have none of that name; move it" in refused(
        capsys, *command
    )
    (run / "metrics.json").unlink()
    (run / "embeddings.safetensors").unlink()
    (run / "students" / "deda" / "seed_0.json").unlink()
    again = ("run", finished.parent / "tiny.yaml", "--out", run)
    assert "deda/11 is of no class of the real images (1 such folders beside 10 classes)" in refused(
        capsys, *again
    )
    shutil.rmtree(images / "11")
    (images / "3" / "00001.png").unlink()
    assert "holds 1 image of class '3', others have 2, so it is not whole" in refused(capsys, *command)
    assert "deda/3/00001.png is missing; delete" in refused(capsys, *again)
    (images / "3" / "00001.png").write_bytes((images / "3" / "00000.png").read_bytes()[:60])
    assert "deda/3/00001.png is a PNG cut short; delete" in refused(capsys, *command)
    assert "deda/3/00001.png is damaged: it is a PNG cut short; delete" in refused(capsys, *again)
    shutil.rmtree(images / "3")
    assert "holds 0 images of class '3', others have 2, so it is not whole" in refused(capsys, *command)
    shutil.copytree(bare / "3", bare / "11")
    given = ("--teacher", run / "teacher.safetensors", "--data", "digits")
    assert "has 11 classes, but the teacher knows 10; use a teacher" in refused(
        capsys, "evaluate", bare, *given
    )
    shutil.rmtree(bare / "9")
    assert "has other classes than the real set: class 11 of the set" in refused(
        capsys, "evaluate", bare, *given
    )
    shutil.rmtree(bare / "11")
    (bare / "3" / "00001.png").write_text("x")
    assert "bare/3/00001.png " in refused(capsys, "evaluate", bare, *given)


def test_a_damaged_recipe_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "recipe.yaml").write_text("{")
    assert "recipe.yaml is damaged" in refused(capsys, "evaluate", run, "--arm", "deda")


# -- teachers and batches -------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["online", "stored"])
def test_a_teacher_without_finite_logits(run: Path, capsys: pytest.CaptureFixture[str], labels: str) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors["linear.weight"][4] = 3e38

    edited(run / "teacher.safetensors", spoil)
    error = refused(capsys, "evaluate", run, "--arm", "deda", f"labels={labels}")
    assert "not finite" in error
    assert "look for a teacher" in error
    assert not list(run.glob("evaluation-*"))


def test_one_image_a_class_and_batch_normalization(
    tiny: Path, finished: Path, bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "has BatchNorm, whose statistics need several images, but with student.batch="
    for slot in bare.glob("*/00001.png"):
        slot.unlink()
    given = (
        "--teacher",
        finished / "teacher.safetensors",
        "--data",
        "digits",
        "--student",
        "resnet8",
        "pad=1",
    )
    for batch in (1, 3):  # 10 images: 3 leaves one over
        error = refused(capsys, "evaluate", bare, *given, "steps=2", f"batch={batch}")
        assert f"resnet8 {text}{batch}" in error
        assert "choose a batch that leaves no single image over" in error
    weights = f"teacher.weights={finished / 'teacher.safetensors'}"
    error = refused(
        capsys, "run", tiny, "--out", tmp_path / "out", weights, "ipc=1", "student.batch=1", "method.steps=1"
    )
    assert f"resnet8 {text}1" in error
    assert not (tmp_path / "out").exists()  # told before anything is made


def test_what_holds_other_labels_or_none_is_not_to_be_labelled_again(
    labelled: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = refused(capsys, "labels", "show", labelled["view"])
    assert "holds no labels, its manifest.json is of something else; give labels/ARM of a run" in text
    of_images = labelled["image"] / "labels" / "deda"
    text = refused(capsys, "labels", "export-fkd", of_images, "--out", tmp_path / "fkd")
    assert "deda.safetensors holds one label an image, and this needs labels of views" in text
