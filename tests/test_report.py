"""The report: one well-formed, self-contained, escaped page from a run folder, or one clear error."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from run_folders import write_manifest, write_recipe
from safetensors.numpy import save_file

import fastdd
from fastdd.cli import main
from fastdd.config import as_plain
from fastdd.distilled import open_set
from fastdd.errors import InputError
from fastdd.report import report
from fastdd.report.axis import linear_axis, log_axis
from fastdd.report.embedding_map import embedding_map
from fastdd.report.figures import accuracy_figure, all_classes, apart, loss_figure
from fastdd.report.finished_run import read_run
from fastdd.report.reproduce import reproduction
from fastdd.report.sheets import Tile, sheet
from fastdd.report.templates import duration, signed
from fastdd.run_folder import RunFolder, read_recipe
from fastdd.run_folder.results import StageWork
from fastdd.runs.given_networks import with_given_networks

CLASSES = ("a<b>", "salt & pepper", 'it\'s "odd"')
ARMS = {"random": "random real images", "sre2l": "SRe2L", "deda+x": "DEDA <&> mine"}
LAST = {"random": [0.8, 0.82, 0.84], "sre2l": [0.7, 0.7, 0.7], "deda+x": [0.9, 0.91, 0.92]}
VOID = {"meta", "img", "br", "hr", "link", "input"}


def make_run(
    path: Path,
    classes: tuple[str, ...] = CLASSES,
    ipc: int = 2,
    per_class: int = 8,
    seeds: int = 3,
    **metrics: Any,
) -> Path:
    """A small run folder with random numbers of the right shapes; the control's embeddings are real ones."""
    random = np.random.RandomState(0)
    labels = np.repeat(np.arange(len(classes)), per_class)
    real = (random.randn(len(labels), 6) + 5 * random.randn(len(classes), 6)[labels]).astype(np.float16)
    tensors = {"real": real, "real_labels": labels.astype(np.int64)}
    arms = {}
    for n, (arm, title) in enumerate(ARMS.items()):
        chosen = (np.arange(len(classes))[:, None] * per_class + np.arange(ipc)).ravel()
        tensors[arm] = real[chosen] if arm == "random" else real[chosen] + np.float16(0.1 * n)
        for name in classes:
            folder = path / "images" / arm / name
            folder.mkdir(parents=True)
            for slot in range(ipc):
                pixels = random.randint(0, 256, (6, 5, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{slot:05d}.png")
        arms[arm] = {
            "title": title,
            "seen": ipc,
            "last": LAST[arm][:seeds],
            "best": [v + 0.01 for v in LAST[arm][:seeds]],
            "curves": [[[100, 0.5]]] * seeds,
            "coverage": 0.125 + n / 10,
            "vendi": 1.375 + n,
            "cosine": 0.612 - n / 10,
            "vendi_by_class": random.rand(len(classes)).tolist(),
            "cosine_by_class": random.rand(len(classes)).tolist(),
        }
    save_file(tensors, path / "embeddings.safetensors")
    write_losses(path, "sre2l", [[{"step": 0, "ce": 2.0, "bn": 30.0}, {"step": 20, "ce": 0.5, "bn": 4.0}]])
    write_losses(path, "deda+x", [[]])
    content = {
        "recipe": "toy <recipe>",
        "description": "Fish & chips.",
        "classes": list(classes),
        "ipc": ipc,
        "seed": 7,
        "data": {"root": "shelf/toys", "train": 1438, "test": 359},
        "teacher": {"network": "resnet8", "accuracy": 0.9861},
        "protocol": {"text": "resnet8, 400 steps & more", "hash": "0badcafe", "seeds": seeds},
        "k": 5,
        "arms": arms,
        "full_set": None,
    } | metrics
    (path / "metrics.json").write_text(json.dumps(content))
    stages = {
        "squeeze": StageWork(seconds=31.25, images=1000),
        "recover random": StageWork(seconds=0.01, images=0),
        "recover sre2l": StageWork(seconds=12.34, images=24680),
        "recover deda+x": StageWork(seconds=99.9, images=1),
    }
    write_manifest(RunFolder(path), stages)
    method = {"init": "noise", "steps": 400, "lr": 0.1, "title": "<b>bold</b>"}
    write_recipe(RunFolder(path), {"name": "toy", "arms": {"sre2l": method, "deda+x": {"steps": 5}}})
    return path


def write_losses(path: Path, arm: str, units: list[list[dict[str, float]]]) -> None:
    (path / "recover" / arm).mkdir(parents=True, exist_ok=True)
    for i, losses in enumerate(units):
        (path / "recover" / arm / f"unit_{i:05d}.json").write_text(
            json.dumps({"rows": [[0, 0]], "losses": losses})
        )


class Page(HTMLParser):
    """Parses strictly: every element closed in order; keeps text, tags, links and ids."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


# -- the page ----------------------------------------------------------------------------------------


def test_page_is_well_formed_and_self_contained(run: Path) -> None:
    assert report(run) == run / "report.html"
    page = Page(run / "report.html")
    assert page.source.startswith("<!DOCTYPE html>")
    assert len(set(page.ids)) == len(page.ids)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith("data:image/") or link[1:] in page.ids for link in page.links)
    assert not re.search(r"url\(|@import|https?:", page.source)
    assert "nan" not in page.text.lower().split()
    assert [file.name for file in run.iterdir() if file.name.startswith(".tmp")] == []


def test_names_are_escaped(run: Path) -> None:
    page = Page(report(run))
    for name in (
        *CLASSES,
        *ARMS.values(),
        "toy <recipe>",
        "Fish & chips.",
        "Abacus <9>",
        "title: <b>bold</b>",
    ):
        assert name in page.text
    assert page.source.count("<b>") == page.source.count("</b>")
    assert "<b>bold" not in page.source
    assert "a<b>" not in page.source


def test_every_arm_and_number_appears(run: Path) -> None:
    text = Page(report(run)).text
    assert "92.0 ± 1.0" not in text  # the best looks at the test set, which this protocol's author does not
    for expected in (
        *ARMS,
        "82.0 ± 2.0",
        "70.0 ± 0.0",
        "91.0 ± 1.0",  # last, in percent
        "0.125",
        "0.225",
        "0.325",
        "1.38",
        "2.38",
        "3.38",
        "0.612",
        "0.512",
        "0.412",  # coverage, Vendi, cosine
        "12.3",
        "99.9",
        "+9.0",
        "−12.0",
        "98.6",
        "2,000",  # seconds, gains, teacher, image-iterations/s
        "0badcafe",
        "resnet8, 400 steps & more; 3 seeds",
        "5-nearest-neighbour",
        "1,438",
        "359",
        "f00d" * 16,
        "c0de" * 16,
        "5ca1ab1e",
        "torch 2.11.0",
        "python 3.12.1",
        "shelf/toys",
        "run 7; students 0 to 2",
        "noise start, 400 steps, lr 0.1",
        "2 min 24 s",
        "fastdd run recipe.yaml --out again",
    ):
        assert expected in text, expected


def test_a_run_is_made_again_by_a_command_that_works(tmp_path: Path) -> None:
    digits = fastdd.resolve("digits")
    assert reproduction(digits).command == "fastdd run digits --out again"
    changed = fastdd.resolve("digits", ["student.steps=20"])
    assert reproduction(changed).command == "fastdd run digits student.steps=20 --out again"
    one = fastdd.resolve("cifar10cpu-deda", ["data.root=my images.tar", "ipc=20", "method.lr=0.3"])
    command = "fastdd run cifar10cpu-deda ipc=20 'data.root=my images.tar' arms.deda.lr=0.3 --out again"
    assert reproduction(one).command == command
    again = fastdd.resolve("cifar10cpu-deda", shlex.split(command)[3:-2])
    assert again == one
    added = fastdd.resolve("digits", add=["dire"])
    assert reproduction(added).command == "fastdd run recipe.yaml --out again"
    run = RunFolder(tmp_path)
    write_recipe(run, as_plain(changed))
    assert fastdd.resolve(str(run.recipe)) == changed
    given = with_given_networks(changed, None, torch.nn.Linear)
    assert reproduction(given).command == 'fastdd.run("recipe.yaml", "again", student=student)'
    assert "does not hold: student." in reproduction(given).note
    cifar = fastdd.resolve("cifar10-dm")
    settled = cifar.student.model_copy(update={"network": "convnet3", "precision": "bf16"})
    settled_recipe = cifar.model_copy(update={"student": settled})
    assert reproduction(settled_recipe).command == "fastdd run cifar10-dm --out again"


def test_best_of_each_column_is_bold(run: Path) -> None:
    source = report(run).read_text()
    table = source[source.index("<tbody>") : source.index("</tbody>")]
    bold = re.findall(r"<b>(.*?)</b>", table)
    assert sorted(bold) == sorted(["91.0", "0.325", "3.38", "0.412", "12.3"])


def test_the_best_is_told_where_the_protocol_reports_it_and_is_named(run: Path) -> None:
    plain = as_plain(read_recipe(RunFolder(run)))
    assert isinstance(plain["student"], dict)
    write_recipe(RunFolder(run), plain | {"student": plain["student"] | {"reported": "best"}})
    text = Page(report(run)).text
    assert "92.0 ± 1.0" in text
    assert "Best on the test set" in text
    assert "as the protocol's authors do" in text


def test_the_page_names_the_images_that_students_are_tested_on(run: Path) -> None:
    assert "359 test images" in Page(report(run)).text
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["data"] |= {"validation": 144, "evaluated_on": "validation", "seen_by": ["teacher"]}
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = Page(report(run)).text
    assert "144 validation images, which are a part of the training images" in text
    assert "nothing has looked at the test images" in text
    assert "Validation accuracy after the last step" in text
    assert "Given weights (teacher) may have been trained on the validation images" in text
    assert "Best on validation" in text


def test_a_column_that_prints_alike_has_no_best(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    for arm in metrics["arms"].values():
        arm["vendi"] = 1.0
    (run / "metrics.json").write_text(json.dumps(metrics))
    source = report(run).read_text()
    table = source[source.index("<tbody>") : source.index("</tbody>")]
    assert "1.00" in table
    assert "<b>1.00</b>" not in table


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ([0.9, 0.91, 0.92], "The best set, DEDA <&> mine, is 9.0 ± 3.6 points above random real images."),
        ([0.80, 0.84, 0.85], "is not distinguishable from random real images (+1.0 ± 3.6 points)."),
        (
            [0.75, 0.75, 0.78],
            "No distilled set reaches random real images: the best, DEDA <&> mine, is 6.0 ± 3.6 points below "
            "random real images.",
        ),
    ],
)
def test_finding_is_honest(run: Path, scores: list[float], sentence: str) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["arms"]["deda+x"]["last"] = scores
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert sentence in Page(report(run)).text


def test_one_image_a_class_one_seed_no_losses_no_teacher_accuracy(tmp_path: Path) -> None:
    run = make_run(tmp_path, ipc=1, seeds=1, teacher={"network": "resnet8", "accuracy": None})
    write_losses(run, "sre2l", [[]])
    text = Page(report(run)).text
    assert "1 image a class" in text
    assert "±" not in text
    assert "Recovery" not in text
    assert "None" not in text


def test_control_alone(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["arms"] = {"random": metrics["arms"]["random"]}
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = Page(report(run)).text
    assert "82.0 ± 2.0" in text
    assert "SRe2L" not in text


def test_many_classes_show_the_first_twenty(tmp_path: Path) -> None:
    names = tuple(f"kind{i:02d}" for i in range(23))
    text = Page(report(make_run(tmp_path, classes=names, per_class=4))).text
    assert "the first 20 of 23 classes" in text
    assert "kind19" in text
    assert "kind20" not in text


def test_many_classes_have_a_curve_of_all_of_them(tmp_path: Path) -> None:
    """DiRe's Figure 2: an arm's cosines of all classes, in the order of the control's."""
    names = tuple(f"class{n:02d}" for n in range(25))
    run = read_run(make_run(tmp_path, classes=names))
    figure = all_classes(run, lambda result: result.cosine_by_class, "Cosine")
    assert [arm.key for arm, _ in figure.lines] == list(run.metrics.arms)
    curves = [[float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)] for _, path in figure.lines]
    control = run.arms[0].result.cosine_by_class
    assert curves[0] == sorted(curves[0], reverse=True)  # y points down
    order = sorted(range(25), key=lambda c: control[c])
    other = run.arms[1].result.cosine_by_class
    heights = [-other[c] for c in order]
    assert np.corrcoef(curves[1], heights)[0, 1] > 0.99999
    page = report(tmp_path).read_text()
    assert "all 25 classes, by the control" in page
    few = make_run(tmp_path / "few", classes=names[:20])
    assert "classes, by the control" not in report(few).read_text()


def test_same_folder_same_bytes(tmp_path: Path, tsne: None) -> None:
    run = make_run(tmp_path, per_class=30)  # enough points for t-SNE
    first = report(run).read_bytes()
    assert b"t-SNE" in first
    assert report(run).read_bytes() == first


def test_arms_of_one_title_are_told_apart(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["arms"]["deda+x"]["title"] = "SRe2L"
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert [arm.label for arm in read_run(run).arms] == [
        "random real images",
        "SRe2L (sre2l)",
        "SRe2L (deda+x)",
    ]


def test_a_run_with_jpeg_images_has_a_report(finished: Path, tmp_path: Path) -> None:
    """Pixels of the sheets are those of the .jpg files, and other readers of the set find them too."""
    recipe, out = tmp_path / "jpeg.yaml", tmp_path / "jpeg"
    arms = TINY[TINY.index("arms:") : TINY.index("recover:")]
    recipe.write_text(TINY.replace(arms, "arms: {deda: {method: deda, steps: 2, save: {format: jpeg}}}\n"))
    given = [
        f"teacher.weights={finished / 'teacher.safetensors'}",
        "student.seeds=1",
        "metrics.full_set=false",
    ]
    assert main(["run", str(recipe), "--out", str(out), *given]) == 0
    assert Page(out / "report.html").tags.count("img") == 4  # a strip and a sheet of each arm
    files = sorted((out / "images" / "deda").rglob("*.jpg"))
    assert len(files) == 20
    assert {file.suffix for file in (out / "images" / "random").glob("*/*")} == {".png"}
    distilled = open_set(out, channels=1)
    assert distilled.ids[0] == "0/00000.jpg"
    run = read_run(out)
    (arm,) = (arm for arm in run.arms if arm.key == "deda")
    assert run.image(arm, "0", 0).file == files[0]
    assert main(["metrics", str(out)]) == 0
    assert main(["export", str(out), "--to", "imagefolder", "--out", str(tmp_path / "set")]) == 0
    assert torch.equal(open_set(tmp_path / "set", channels=1).images, distilled.images)


# -- what the figures show ---------------------------------------------------------------------------


def test_accuracy_bars_run_from_the_control_to_the_mean(run: Path) -> None:
    figure = accuracy_figure(read_run(run))
    _, below, above = figure.rows
    assert above.bar[0] == pytest.approx(figure.control)
    assert below.bar[0] + below.bar[1] == pytest.approx(figure.control)
    assert above.bar[1] / below.bar[1] == pytest.approx(9 / 12)
    assert above.marks.dots == pytest.approx([100 * figure.axis(v) for v in (90, 91, 92)])
    assert all(0 <= dot <= 100 for row in figure.rows for dot in (*row.marks.dots, *row.marks.whisker))


def test_losses_are_averaged_over_units_and_hide_what_a_logarithm_cannot_show(run: Path) -> None:
    first = [{"step": 0, "ce": 1.0, "cd": 0.5}, {"step": 20, "ce": 3.0, "cd": -0.5}]
    write_losses(
        run, "sre2l", [first, [{"step": 0, "ce": 3.0, "cd": 0.5}, {"step": 20, "ce": 5.0, "cd": 0.0}]]
    )
    read = read_run(run)
    assert read.arms[1].losses == {"ce": [(0, 2.0), (20, 4.0)], "cd": [(0, 0.5), (20, -0.25)]}
    figure = loss_figure(read)
    assert figure is not None
    assert figure.hidden
    paths = {line.term: line.path for _, lines in figure.panels for line in lines}
    assert paths["ce"].count("L") == 1
    assert "L" not in paths["cd"]
    assert "not drawn" in Page(report(run)).text


def test_map_draws_the_control_on_real_points(tmp_path: Path, tsne: None) -> None:
    drawn = embedding_map(read_run(make_run(tmp_path, per_class=30)))
    real = {point for cloud in drawn.clouds for point in re.findall(r"M([\d.]+ [\d.]+)h0", cloud)}
    control, *distilled = [points for _, points in drawn.panels]
    assert len(real) > 80
    assert {f"{x:g} {y:g}" for x, y, _ in control} <= real
    assert [c for _, _, c in control] == [0, 0, 1, 1, 2, 2]
    assert all(0 <= x <= 360 and 0 <= y <= 300 for points in (control, *distilled) for x, y, _ in points)


@pytest.mark.parametrize("different", [1, 59, 90])
def test_map_of_equal_embeddings(run: Path, tsne: None, different: int) -> None:
    real = np.random.RandomState(0).randn(different, 4).astype(np.float16)[np.arange(90) % different]
    tensors = {arm: np.ones((6, 4), np.float16) for arm in ARMS}
    real_tensors = {"real": real, "real_labels": np.repeat(np.arange(3), 30)}
    save_file(real_tensors | tensors, run / "embeddings.safetensors")
    drawn = embedding_map(read_run(run))
    assert np.isfinite([point[:2] for _, points in drawn.panels for point in points]).all()


def test_small_images_keep_every_pixel_and_large_ones_are_reduced(run: Path, tmp_path: Path) -> None:
    files = [[run / "images" / "sre2l" / name / f"{slot:05d}.png" for slot in range(2)] for name in CLASSES]
    small = sheet([[Tile(file) for file in row] for row in files])
    assert (small.rows, small.columns, small.width, small.height, small.reduced) == (3, 2, 10, 18, False)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(small.uri.split(",")[1]))))
    expected = np.vstack([np.hstack([np.asarray(Image.open(file)) for file in row]) for row in files])
    np.testing.assert_array_equal(picture, expected)
    Image.new("L", (320, 160)).save(tmp_path / "large.png")
    large = sheet([[Tile(tmp_path / "large.png")]])
    assert (large.width, large.height, large.reduced) == (64, 32, True)


# -- axes and numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[82.1, 94.3], [0.0], [3.0, 3.0], [-0.2, 0.13], [1e-7, 2e-7], [0, 123456]])
def test_linear_axis_holds_its_values_and_round_ticks(values: list[float]) -> None:
    axis = linear_axis(values)
    assert all(0 <= axis(v) <= 1 for v in values)
    assert 1 <= len(axis.ticks) <= 8
    for at, label in axis.ticks:
        assert -1e-9 <= at <= 1 + 1e-9
        assert axis(float(label.replace(",", "").replace("−", "-"))) == pytest.approx(at, abs=1e-6)


def test_linear_axis_from_zero_begins_at_zero() -> None:
    axis = linear_axis([3.0, 7.0], from_zero=True)
    assert (axis(0.0), axis.ticks[0]) == (0.0, (0.0, "0"))


@pytest.mark.parametrize("values", [[1e-3, 1e3], [2.0, 3.0], [1e-30, 5.0], [0.0, -1.0], [7.0]])
def test_log_axis_is_at_most_six_decades(values: list[float]) -> None:
    axis = log_axis(values)
    assert 0 < axis.low < axis.high
    assert math.log10(axis.high / axis.low) < 6.2
    assert all(axis(float(label)) == pytest.approx(at) and 0 <= at <= 1 for at, label in axis.ticks)
    assert axis.ticks


def test_labels_stand_apart_in_their_order() -> None:
    moved = apart([50.0, 10.0, 52.0, 51.0, 99.0], gap=10, low=0, high=100)
    assert sorted(range(5), key=moved.__getitem__) == [1, 0, 3, 2, 4]
    assert np.diff(sorted(moved)).min() >= 10 - 1e-9
    assert max(apart([98.0, 99.0], gap=10, low=0, high=100)) <= 100


def test_numbers_as_text() -> None:
    assert [duration(s) for s in (0.04, 9.96, 59.7, 142, 3900)] == [
        "0.0 s",
        "10.0 s",
        "1 min 00 s",
        "2 min 22 s",
        "1 h 05 min",
    ]
    assert [signed(v) for v in (1.25, -3.06, 0.04, -0.04)] == ["+1.2", "−3.1", "0.0", "0.0"]


# -- bad input ---------------------------------------------------------------------------------------

REQUIRED = (
    "recipe.yaml",
    "manifest.json",
    "metrics.json",
    "embeddings.safetensors",
    "images/sre2l/a<b>/00001.png",
)


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        report(run)
    assert "fastdd run" in str(caught.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", [*REQUIRED, "recover/sre2l/unit_00000.json"])
def test_damaged_file_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes(b'{"half": [')
    with pytest.raises(InputError, match=re.escape(name)):
        report(run)


def test_incomplete_content_is_named(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["arms"]["sre2l"]["vendi"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=r"metrics\.json is damaged \(arms\.sre2l\.vendi: field required\)"):
        report(run)


def test_control_must_come_first(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["arms"]["random"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="the control 'random' is not the first of its arms"):
        report(run)


@pytest.mark.parametrize("wrong", [np.ones((5, 6), np.float16), np.full((6, 6), np.inf, np.float16)])
def test_embeddings_must_fit(run: Path, wrong: np.ndarray) -> None:
    tensors = {arm: np.ones((6, 6), np.float16) for arm in ARMS} | {"sre2l": wrong}
    real = {"real": np.ones((9, 6), np.float16), "real_labels": np.repeat(np.arange(3), 3)}
    save_file(real | tensors, run / "embeddings.safetensors")
    with pytest.raises(InputError, match="'sre2l'"):
        report(run)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        report(tmp_path / "nowhere")
