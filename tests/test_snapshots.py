"""Snapshots of a teacher's training: what is kept, what a kill changes (nothing), and the figure."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_report import CLASSES, Page, make_run
from test_run import Process, content, results
from test_squeeze import epochs_done

import fastdd
from fastdd.cli import main
from fastdd.config import Recipe
from fastdd.data.real_data import RealData
from fastdd.errors import InputError
from fastdd.evaluate.features import embed
from fastdd.report import report
from fastdd.report.snapshot_figure import SHOWN_MAPS, cosine_distances, snapshot_figure
from fastdd.run_folder import RunFolder
from fastdd.runs.pipeline import run as run_pipeline
from fastdd.teachers import Snapshots, images_of_snapshots, load_teacher, read_snapshots
from fastdd.teachers.snapshots import save_snapshots

RECIPE = """\
data: {root: digits, channels: 1}
teacher:
  {network: resnet8, mean: [0.305], std: [0.376], epochs: 4, batch: 128, pad: 1, flip: 0.0, ema: 0.9,
   snapshots: [1, 2, 4]}
student: {network: resnet8}
arms: {}
"""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a squeeze that kept three snapshots, beside its recipe. Read only."""
    folder = tmp_path_factory.mktemp("squeezed")
    (folder / "s.yaml").write_text(RECIPE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastdd.run(folder / "s.yaml", folder / "out", until="squeeze")
    torch.set_num_threads(threads)
    return folder / "out"


def recipe_of(squeezed: Path) -> Recipe:
    return fastdd.resolve(str(squeezed.parent / "s.yaml"))


# -- what is kept -----------------------------------------------------------------------------------


def test_the_last_snapshot_is_what_the_teacher_makes_of_the_chosen_images(squeezed: Path) -> None:
    snapshots, recipe = read_snapshots(RunFolder(squeezed).snapshots()), recipe_of(squeezed)
    assert list(snapshots.embeddings) == [1, 2, 4]
    assert snapshots.classes == tuple("0123456789")
    assert snapshots.labels.bincount().tolist() == [100] * 10
    images, unkept = images_of_snapshots(RealData(recipe, CPU))
    assert torch.equal(unkept.labels, snapshots.labels)
    path = RunFolder(squeezed).teacher()
    teacher = load_teacher(path, recipe.teacher, snapshots.classes, 1, device=CPU)
    torch.testing.assert_close(snapshots.embeddings[4], embed(teacher, images), rtol=1e-5, atol=1e-5)
    assert not torch.equal(snapshots.embeddings[4], snapshots.embeddings[2])


def test_the_images_are_of_a_few_classes_and_depend_on_the_seed(squeezed: Path) -> None:
    recipe = recipe_of(squeezed)
    one, again = (images_of_snapshots(RealData(recipe, CPU))[0] for _ in range(2))
    other = images_of_snapshots(RealData(recipe.model_copy(update={"seed": 1}), CPU))[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_snapshots_do_not_change_the_teacher(squeezed: Path, tmp_path: Path, one_thread: None) -> None:
    fastdd.run(squeezed.parent / "s.yaml", tmp_path / "out", ["teacher.snapshots=[]"], until="squeeze")
    ours, without = content(squeezed), content(tmp_path / "out")
    assert ours.keys() - without.keys() == {"snapshots.safetensors", "squeeze.html"}
    for name in ("teacher.safetensors", "squeeze.json"):
        assert ours[name] == without[name], name


def test_killed_between_snapshots_it_ends_with_the_same_bytes(
    squeezed: Path, tmp_path: Path, fastdd_process: Process
) -> None:
    command, run = ("bank", squeezed.parent / "s.yaml", "--out", tmp_path / "out"), tmp_path / "out"
    process = fastdd_process(*command)
    while epochs_done(run / "squeeze.safetensors") < 1:
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "snapshots.safetensors").exists(), "squeeze ended before it could be killed"
    assert "snapshot/1" in load_file(run / "squeeze.safetensors")
    process = fastdd_process(*command)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "continues after epoch" in err
    found, expected = results(run), results(squeezed)
    for name in ("teacher.safetensors", "snapshots.safetensors", "squeeze.json"):
        assert found[name] == expected[name], name


def test_a_checkpoint_without_its_snapshots_is_damaged(squeezed: Path, tmp_path: Path) -> None:
    """One of a training that kept other snapshots is of another training."""
    from test_squeeze import CLASSES as DIGITS
    from test_squeeze import CONFIG, held

    from fastdd.teachers import squeeze

    path, images = tmp_path / "squeeze.safetensors", torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    watched = images, Snapshots(("0", "1"), torch.tensor([0, 0, 1, 1]))

    def train(snapshots: tuple[int, ...]) -> Snapshots | None:
        config = CONFIG.model_copy(update={"epochs": 1, "snapshots": snapshots})
        passes = held(100), held(100, None)
        return squeeze(
            config, DIGITS, *passes, seed=3, device=CPU, checkpoint=path, watched=watched
        ).snapshots

    kept = train((1,))
    assert kept is not None
    assert kept.embeddings[1].shape == (4, 64)
    again = train((1,))  # from the checkpoint alone
    assert again is not None
    assert torch.equal(again.embeddings[1], kept.embeddings[1])
    with pytest.raises(InputError, match="is of another training"):
        train(())


def test_a_sweep_takes_the_snapshots_over_with_the_teacher(
    squeezed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(squeezed).model_copy(update={"ipc": 3})
    run_pipeline(recipe, tmp_path / "out", until="bank", earlier=[squeezed])
    assert f"the teacher is that of {squeezed}" in capsys.readouterr().err
    for name in ("teacher.safetensors", "snapshots.safetensors", "squeeze.json"):
        assert (tmp_path / "out" / name).is_file(), name
    kept = content(tmp_path / "out")["snapshots.safetensors"]
    assert kept == content(squeezed)["snapshots.safetensors"]


def test_a_teacher_of_the_committee_keeps_its_own_where_asked(tmp_path: Path) -> None:
    first = RECIPE.replace("epochs: 4", "epochs: 1").replace("[1, 2, 4]", "[]")
    second = "{network: resnet8, mean: [0.305], std: [0.376], epochs: 1, pad: 1, snapshots: [1]}"
    (tmp_path / "s.yaml").write_text(f"{first}committee: {{second: {second}}}\n")
    run = RunFolder(tmp_path / "out")
    fastdd.run(tmp_path / "s.yaml", run.path, until="squeeze")
    assert not run.snapshots().exists()
    assert list(read_snapshots(run.snapshots("second")).embeddings) == [1]
    assert "committee.second" in Page(run.squeeze_page).text


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", ["[5]", "[2,1]", "[1,1]"])
def test_epochs_that_do_not_come_are_refused(squeezed: Path, epochs: str) -> None:
    with pytest.raises(InputError, match=r"snapshots must be rising epochs of the 4 that the training has"):
        fastdd.resolve(str(squeezed.parent / "s.yaml"), [f"teacher.snapshots={epochs}"])


def test_a_given_teacher_has_no_snapshots(squeezed: Path, tmp_path: Path) -> None:
    weights = f"teacher.weights={squeezed / 'teacher.safetensors'}"
    with pytest.raises(
        InputError, match=r"teacher\.snapshots \[1, 2, 4\] are kept while squeeze trains, but"
    ):
        fastdd.run(squeezed.parent / "s.yaml", tmp_path / "out", [weights], until="squeeze")
    assert not (tmp_path / "out").exists()


def test_snapshots_that_are_gone_or_damaged_are_named(squeezed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(squeezed, out)
    file = out / "snapshots.safetensors"
    tensors, page = load_file(file), out / "squeeze.html"
    file.unlink()
    with pytest.raises(InputError, match=r"snapshots\.safetensors is gone; put it back, or start over"):
        fastdd.run(squeezed.parent / "s.yaml", out, until="squeeze")
    page.unlink()
    named = {"fastdd": '{"classes": ["0", "1"]}'}
    for broken, metadata in (
        (tensors, None),
        (tensors, named),
        ({"labels": tensors["labels"]}, named),
        (tensors | {"other": tensors["epoch_1"].clone()}, named),
        (tensors | {"epoch_2": tensors["epoch_2"][1:]}, named),
        (tensors | {"epoch_2": tensors["epoch_2"] * torch.nan}, named),
    ):
        save_file(broken, file, metadata)
        with pytest.raises(InputError, match=r"snapshots\.safetensors is damaged .*put it back"):
            fastdd.run(squeezed.parent / "s.yaml", out, until="squeeze")
    assert not page.exists()


# -- the figure -------------------------------------------------------------------------------------


def test_cosine_distances_are_those_of_all_pairs() -> None:
    random = np.random.RandomState(0)
    rows, labels = random.randn(9, 5) + 1, np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    rows[0] = 0  # a network may give no output at all

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return 1 - float(a @ b) / lengths if lengths else 1.0

    groups = [rows[labels == c] for c in range(3)]
    within = [
        np.mean([distance(a, b) for i, a in enumerate(group) for b in group[i + 1 :]]) for group in groups
    ]
    center = [np.mean([distance(a, group.mean(0)) for a in group]) for group in groups]
    between = [
        np.mean([distance(a, b) for a in groups[i] for b in groups[j]]) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    found = cosine_distances(rows, labels)
    assert found.center == pytest.approx(np.mean(center))
    assert found.between == pytest.approx(np.mean(between))
    assert found.within == pytest.approx(np.mean(within))


def snapshots_of(epochs: list[int], per_class: int = 30, classes: int = 3) -> Snapshots:
    """Random embeddings that come together by the epoch."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(per_class)
    centers = 3 * torch.randn(classes, 6, generator=generator)
    spread = torch.randn(len(labels), 6, generator=generator)
    return Snapshots(CLASSES[:classes], labels, {e: centers[labels] + spread / e for e in epochs})


def test_of_many_snapshots_some_are_maps_and_all_are_in_the_curve() -> None:
    epochs = list(range(1, 13))
    figure = snapshot_figure("teacher", "resnet8", snapshots_of(epochs, 12), dict.fromkeys(epochs, 0.5))
    assert [each.epoch for each in figure.maps] == [1, 3, 4, 6, 7, 9, 10, 12]
    assert len(figure.maps) == SHOWN_MAPS
    assert [line.name for line in figure.lines] == ["within", "center", "between"]
    assert all(len(line.dots) == 12 for line in figure.lines)
    assert figure.first.within > figure.last.within
    heights = [y for _, y in figure.lines[0].dots]
    assert heights == sorted(heights)  # which point down


def test_one_class_of_one_image_has_a_figure() -> None:
    figure = snapshot_figure("teacher", "resnet8", snapshots_of([1], 1, 1), {1: 1.0})
    assert [line.name for line in figure.lines] == ["within", "center"]
    assert (figure.last.within, figure.maps[0].within) == (0, 0)


def test_the_page_of_a_squeeze_is_whole_and_the_same_each_time(squeezed: Path, tmp_path: Path) -> None:
    page = Page(squeezed / "squeeze.html")
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not page.links
    assert not re.search(r"url\(|@import|https?:", page.source)
    for text in (
        "After epoch 1",
        "After epoch 2",
        "After epoch 4",
        "1,000 real training images of 10 classes",
    ):
        assert text in page.text, text
    assert "nan" not in page.text.lower().split()
    assert "fastdd squeeze recipe.yaml --out again" in page.text
    shutil.copytree(squeezed, tmp_path / "out")
    (tmp_path / "out" / "squeeze.html").unlink()
    assert main(["squeeze", str(squeezed.parent / "s.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "squeeze.html").read_bytes() == (squeezed / "squeeze.html").read_bytes()


def test_the_page_of_a_run_shows_snapshots_where_there_are_some(tmp_path: Path, tsne: None) -> None:
    run = make_run(tmp_path / "run")
    assert "After epoch" not in Page(report(run)).text
    save_snapshots(RunFolder(run).snapshots(), snapshots_of([1, 5]))
    epochs = ", ".join(f'{{"epoch": {e}, "lr": 0.1, "loss": 1.0, "accuracy": 0.75}}' for e in range(1, 6))
    (run / "squeeze.json").write_text(f'{{"settings": null, "epochs": [{epochs}]}}')
    page = Page(report(run))
    assert len(set(page.ids)) == len(page.ids)
    assert "After epoch 5 test 75.0 %, within a class" in page.text
    assert "90 real training images of 3 classes" in page.text


def test_a_browser_draws_the_points(squeezed: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,1600"]
    page = f"file://{squeezed / 'squeeze.html'}"
    subprocess.run(
        [chromium, *options, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=120
    )
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    colored = pixels.max(-1) - pixels.min(-1) > 40
    assert 2000 < colored.sum() < 100_000


def test_the_recipe_of_the_figure_trains_the_papers_teacher() -> None:
    recipe = fastdd.resolve("deda-figure1")
    assert (recipe.dataset, recipe.teacher.epochs) == ("cifar100", 200)
    assert recipe.teacher.snapshots == (1, 20, 60, 200)
    assert recipe.committee == {}
