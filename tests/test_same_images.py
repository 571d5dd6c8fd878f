"""Results say of which images they are: what depends on changed images is made again, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_several_students import SOFT, write
from torchvision.io import encode_png

import fastdd
from fastdd.cli import main
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.export import export
from fastdd.labels import read_labels
from fastdd.report import report
from fastdd.run_folder import Metrics, RunFolder, StudentResult, read
from fastdd.run_folder import write as write_record

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = f"""\
ipc: 1
data: {{root: digits, channels: 1}}
teacher: {{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}}
arms: {{deda: {{method: deda, steps: 2}}, sre2l: {{method: sre2l, steps: 2}}}}
student: {{network: convnet1, labels: hard, steps: 6, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}}
students: {{stored: {SOFT.replace("seeds: 1", "seeds: 1, labels: stored")}}}
metrics: {{full_set: false}}
"""


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; beside it lies its recipe. Read only."""
    path = tmp_path_factory.mktemp("same")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastdd.run(write(path, RECIPE), path / "out")
    torch.set_num_threads(threads)
    return path / "out"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> RunFolder:
    """The same run, which a test may change."""
    shutil.copytree(finished_run, tmp_path / "out")
    shutil.copy(finished_run.parent / "own.yaml", tmp_path)
    return RunFolder(tmp_path / "out")


def again(run: RunFolder) -> Metrics:
    return fastdd.run(run.path.parent / "own.yaml", run.path).metrics


def replace_an_image(run: RunFolder, arm: str = "deda") -> None:
    """Put another digit in the place of an image."""
    run.image(arm, "3", 0, "png").write_bytes(run.image(arm, "7", 0, "png").read_bytes())


def written(run: RunFolder) -> dict[str, int]:
    """When each result was written, by its path in the run folder."""
    names = ("students/**/*.json", "labels/*", "images/**/*.png", "recover/**/*", "bank/*", "*.safetensors")
    files = [file for name in names for file in run.path.glob(name) if file.is_file()]
    return {str(file.relative_to(run.path)): file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("results", ["deleted", "kept"])
def test_what_depends_on_a_changed_image_is_made_again_and_nothing_else(
    run: RunFolder, results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, embeddings, before = read(run.metrics, Metrics), load_file(run.embeddings), written(run)
    replace_an_image(run)
    changed_image = run.image("deda", "3", 0, "png")
    if results == "deleted":
        run.metrics.unlink()
        run.report.unlink()
    new, now = again(run), written(run)
    differing = {name for name in now if now[name] != before.get(name)}
    assert differing == {
        "images/deda/3/00000.png",  # by this test
        "students/deda/seed_0.json",
        "students/stored/deda/seed_0.json",
        "labels/deda.safetensors",
        "embeddings.safetensors",
    }
    err = capsys.readouterr().err
    assert "label deda: its images have changed, so they are labelled again" in err
    assert "students deda: the images or labels have changed, so they are trained again" in err
    assert "sre2l: the images" not in err
    for arm in ("random", "sre2l"):
        assert new.arms[arm] == old.arms[arm]
    assert new.arms["deda"].images != old.arms["deda"].images
    assert new.arms["deda"].cosine_by_class == old.arms["deda"].cosine_by_class  # one image a class
    assert (
        new.arms["deda"].students["stored"].learned_from != old.arms["deda"].students["stored"].learned_from
    )
    remade = load_file(run.embeddings)
    assert not torch.equal(remade["deda"][3], embeddings["deda"][3])
    assert torch.allclose(remade["deda"][3].float(), embeddings["deda"][7].float(), atol=2e-3)
    assert torch.equal(remade["sre2l"], embeddings["sre2l"])
    assert run.report.stat().st_mtime_ns >= run.metrics.stat().st_mtime_ns
    shutil.copy(run.image("deda", "7", 0, "png"), changed_image)  # the same bytes: nothing has changed
    quiet = written(run)
    again(run)
    assert {name for name, at in written(run).items() if at != quiet[name]} == set()
    assert "changed" not in capsys.readouterr().err


def test_the_results_of_other_images_are_refused_where_they_are_only_read(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_an_image(run)
    with pytest.raises(InputError, match=r"images/deda have changed since its results were made; start the"):
        report(run.path)
    assert main(["report", str(run.path)]) == 2
    with pytest.raises(InputError, match=r"have changed since its (soft labels|results) were made"):
        export(open_set(run.path, "deda"), "imagefolder", tmp_path / "deda")
    export(open_set(run.path, "sre2l"), "imagefolder", tmp_path / "sre2l")
    run.metrics.unlink()
    with pytest.raises(InputError, match=r"have changed since its soft labels were made"):
        export(open_set(run.path, "deda"), "imagefolder", tmp_path / "deda")


def test_a_file_that_holds_the_same_pixels_keeps_its_labels(run: RunFolder) -> None:
    file, labels = run.image("deda", "3", 0, "png"), run.labels("deda", "image")
    before = labels.stat().st_mtime_ns
    (image,) = (open_set(run.path, "deda", channels=1).images[3],)
    file.write_bytes(bytes(encode_png(image, compression_level=1).numpy()))
    again(run)
    assert labels.stat().st_mtime_ns == before


def old_version(run: RunFolder) -> None:
    """Take out of a run folder what earlier versions did not note."""
    for file in run.path.glob("students/**/seed_*.json"):
        found = read(file, StudentResult)
        write_record(
            file, StudentResult(seed=found.seed, last=found.last, best=found.best, curve=found.curve)
        )
    manifest = json.loads(run.manifest.read_text())
    prints = manifest["fingerprints"]
    manifest["fingerprints"] = {name: prints[name] for name in prints if not name.startswith("labels ")}
    run.manifest.write_text(json.dumps(manifest))


def test_students_of_an_earlier_version_are_kept_and_it_is_said(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = read(run.metrics, Metrics).last()
    old_version(run)
    before = written(run)
    run.metrics.unlink()
    metrics = again(run)
    assert metrics.last() == accuracies
    assert {name for name, at in written(run).items() if at != before[name]} == set()
    assert metrics.arms["deda"].learned_from is None
    err = capsys.readouterr().err
    assert "students deda: an earlier version of fastdd trained them and did not note from which" in err
    shutil.rmtree(run.student("deda", 0).parent)
    metrics = again(run)
    assert metrics.arms["deda"].learned_from == metrics.arms["deda"].images
    assert metrics.last() == accuracies


def spoil_labels(run: RunFolder) -> None:
    run.labels("deda", "image").unlink()


def spoil_embeddings(run: RunFolder) -> None:
    run.embeddings.unlink()


@pytest.mark.parametrize("spoil", [spoil_labels, spoil_embeddings])
def test_labels_and_embeddings_that_are_made_again_are_the_same(
    run: RunFolder, spoil: Callable[[RunFolder], None]
) -> None:
    labels, embeddings = run.labels("deda", "image").read_bytes(), run.embeddings.read_bytes()
    student = run.student("deda", 0, "stored").stat().st_mtime_ns
    spoil(run)
    run.metrics.unlink()
    again(run)
    assert run.labels("deda", "image").read_bytes() == labels
    assert run.embeddings.read_bytes() == embeddings
    assert run.student("deda", 0, "stored").stat().st_mtime_ns == student


def test_every_result_notes_its_images(finished_run: Path) -> None:
    run = RunFolder(finished_run)
    metrics = read(run.metrics, Metrics)
    with safe_open(str(run.embeddings), framework="pt") as file:
        noted = file.metadata()["images"]
    for arm, result in metrics.arms.items():
        assert result.images is not None
        assert result.images in noted
        assert read(run.student(arm, 0), StudentResult).learned_from == result.images == result.learned_from
        stored = read(run.student(arm, 0, "stored"), StudentResult).learned_from
        assert stored == result.students["stored"].learned_from != result.images
        assert read_labels(run.labels(arm, "image")).images is not None
