"""Bytes that students read of a set, in metrics.json, in the terminal, on the page and in the card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_report import Page

import fastdd
from fastdd.cli import main
from fastdd.distilled import open_set
from fastdd.export import export
from fastdd.report import report
from fastdd.report.bytes_figure import bytes_figure, bytes_rows
from fastdd.report.finished_run import read_run
from fastdd.run_folder import RunFolder
from fastdd.runtime.console import bytes_text

KINDS = """\
ipc: 2
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 128, lr: 0.1, pad: 1, flip: 0.0}
labels: {per: view, epochs: 2, batch: 10}
arms: {deda: {method: deda, steps: 2}}
student: {network: convnet1, labels: hard, steps: 3, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}
students:
  online: {network: convnet1, steps: 3, batch: 50, pad: 1, flip: 0, seeds: 1, evaluations: 1}
  stored: {network: convnet1, labels: stored, steps: 3, batch: 10, pad: 1, flip: 0, seeds: 1, evaluations: 1}
metrics: {full_set: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose students read no labels, the teacher's and stored ones."""
    path = tmp_path_factory.mktemp("kinds")
    (path / "kinds.yaml").write_text(KINDS)
    fastdd.run(path / "kinds.yaml", path / "out")
    return path / "out"


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_the_bytes_are_those_of_the_files(folder: Path) -> None:
    run = RunFolder(folder)
    arms = json.loads(run.metrics.read_text())["arms"]
    for arm in ("random", "deda"):
        images, teacher = size(run.images(arm)), run.teacher().stat().st_size
        hard, online, stored = (
            arms[arm]["shipped"],
            *(arms[arm]["students"][k]["shipped"] for k in ("online", "stored")),
        )
        assert hard == {"images": images, "labels": 0, "teacher": 0, "forwards": 0}
        # a batch is no larger than the set, which has twenty images
        assert online == {"images": images, "labels": 0, "teacher": teacher, "forwards": 3 * 20}
        assert stored["labels"] == size(run.labels(arm, "view", "stored")) > 0
        assert (stored["images"], stored["teacher"], stored["forwards"]) == (images, 0, 2 * 20)


def test_terminal_and_page_tell_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(folder.parent / "kinds.yaml"), "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"images seen +images +student reads +online reads +stored reads +iterations", out)
    line = next(text for text in out.splitlines() if text.startswith(" DEDA") and ", teacher" in text)
    assert ", labels" in line
    assert line.split()[-2:] == [
        "40",
        "0.002989",
    ]  # twenty images, two steps; billions of multiply-adds an image
    page = Page(report(folder))
    assert "What students read" in page.text
    rows = bytes_rows(read_run(folder))
    assert [[len(cell.parts) for cell in row.cells] for row in rows] == [[0, 2, 2], [0, 2, 2]]
    assert [row.iterations for row in rows] == [None, 40]


def test_accuracy_is_drawn_against_bytes_with_the_controls_curve(folder: Path) -> None:
    run = read_run(folder)
    one, two = bytes_figure([run]), bytes_figure([run, run])
    assert one is not None
    assert two is not None
    assert [len(panel.marks) for panel in one.panels] == [2, 2, 2]
    assert all(re.fullmatch(r"M46\.0 [\d.]+H432\.0", panel.control) for panel in one.panels)
    assert all(re.fullmatch(r"M[\d.]+ [\d.]+L[\d.]+ [\d.]+", panel.control) for panel in two.panels)
    assert [key.label for key in two.legend] == ["random real images", "DEDA"]


def test_the_card_tells_bytes_and_work(folder: Path, tmp_path: Path) -> None:
    export(open_set(folder, "deda"), "imagefolder", tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text()
    assert re.search(
        r"\| read by convnet1, soft labels \| \d.*: images .*, teacher .*; teachers label 60 images", card
    )
    assert re.search(r"\| made in \| \d+ s on .*, 40 iterations of an image \|", card)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (99_960, "100 kB"),
        (301_234, "301 kB"),
        (1_420_000, "1.42 MB"),
        (999_600, "1.00 MB"),
    ],
)
def test_bytes_have_three_figures(count: int, text: str) -> None:
    assert bytes_text(count) == text
