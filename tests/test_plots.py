"""Figures for papers: what they draw is what the results say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import ARMS, CLASSES, LAST, make_run

from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.report.templates import page_colors

pytest.importorskip("matplotlib")
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from fastdd import plots

TITLES = list(ARMS.values())


def measured(path: Path) -> Path:
    """A run of which the bytes of the sets are known: 1, 2 and 3 MB."""
    file = path / "metrics.json"
    metrics = json.loads(file.read_text())
    for n, arm in enumerate(metrics["arms"].values(), 1):
        arm["shipped"] = {"images": n * 1_000_000, "labels": 0, "teacher": 0, "forwards": 0}
    file.write_text(json.dumps(metrics))
    return path


def whiskers_of(axes: Axes) -> list[np.ndarray]:
    """The two ends of each whisker, [2, 2]."""
    bars = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    return [bar.lines[2][0].get_segments()[0] for bar in bars]


def test_a_row_an_arm_with_its_students_and_their_interval(tmp_path: Path) -> None:
    (axes,) = plots.accuracy(make_run(tmp_path / "run")).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == TITLES
    dots = [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets()) == 3]
    assert [[round(x, 1) for x, _ in each] for each in dots] == [[100 * v for v in LAST[arm]] for arm in ARMS]
    whiskers = whiskers_of(axes)
    half = (whiskers[0][1][0] - whiskers[0][0][0]) / 2
    assert half == pytest.approx(4.303 * 2 / 3**0.5, rel=1e-3)  # t of two degrees of freedom, s = 2
    assert axes.get_title() == ""


def test_whiskers_may_be_standard_deviations(tmp_path: Path) -> None:
    (axes,) = plots.accuracy(make_run(tmp_path / "run"), error="deviation").axes
    whiskers = whiskers_of(axes)
    assert whiskers[0][1][0] - whiskers[0][0][0] == pytest.approx(2 * 2)


def test_arms_have_the_colors_and_markers_of_the_page(tmp_path: Path) -> None:
    (axes,) = plots.accuracy_by_bytes(measured(make_run(tmp_path / "run"))).axes
    lines = [container.lines[0] for container in axes.containers]
    colors = page_colors()
    assert [line.get_color() for line in lines] == [colors["control"], colors["a1"], colors["a2"]]
    assert [line.get_marker() for line in lines] == ["o", "s", "D"]
    assert [line.get_xdata().tolist() for line in lines] == [[1.0], [2.0], [3.0]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == TITLES


def test_a_line_an_arm_over_runs_with_more_images_a_class(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(ipc), ipc=ipc) for ipc in (4, 1)]
    (axes,) = plots.accuracy_by_images(runs).axes
    lines = [container.lines[0] for container in axes.containers]
    assert [line.get_xdata().tolist() for line in lines] == [[1, 4]] * 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4"]


def test_a_panel_of_losses_for_each_arm_that_has_some(tmp_path: Path) -> None:
    (axes,) = plots.losses(make_run(tmp_path / "run")).axes
    assert axes.get_ylabel() == "SRe2L"
    found = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
    assert found == {"ce": [2.0, 0.5], "bn": [30.0, 4.0]}


def test_grids_hold_the_pixels_of_the_files(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (axes,) = plots.images(run, "sre2l").axes
    picture = axes.images[0].get_array()
    assert picture.shape == (3 * 6, 2 * 5, 3)
    stored = np.asarray(Image.open(run / "images/sre2l" / CLASSES[1] / "00001.png"))
    assert np.array_equal(picture[6:12, 5:], stored)
    (axes,) = plots.images(run).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == TITLES
    assert [label.get_text() for label in axes.get_xticklabels()] == list(CLASSES)


def test_figures_have_embedded_fonts_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    one, two = (plots.save(plots.accuracy(run), tmp_path / f"{n}.pdf").read_bytes() for n in "ab")
    assert one == two
    assert b"/FontFile2" in one
    assert b"/Type3" not in one
    svg = plots.save(plots.accuracy(run), tmp_path / "a.svg").read_text()
    assert "<text" not in svg  # letters are outlines


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_command_writes_every_figure_of_a_run(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = measured(make_run(tmp_path / "run"))
    assert main(["plot", str(run), "--to", kind]) == 0
    names = ["accuracy", "accuracy-by-bytes", "losses", "images", *(f"images-{arm}" for arm in ARMS)]
    expected = [str(run / "figures" / f"{name}.{kind}") for name in names]
    assert capsys.readouterr().out.splitlines() == expected
    assert all(Path(file).stat().st_size > 1000 for file in expected)


def test_the_command_writes_the_figures_of_several_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(measured(make_run(tmp_path / str(ipc), ipc=ipc))) for ipc in (1, 2)]
    assert main(["plot", *runs, "--to", "svg", "--out", str(tmp_path / "paper")]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["accuracy-by-images.svg", "accuracy-by-bytes.svg"]


def test_letters_that_the_font_lacks_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    figure = plots.losses(make_run(tmp_path / "run"))
    figure.axes[0].set_title("\N{FOX FACE} and \N{CJK UNIFIED IDEOGRAPH-540D}, twice \N{FOX FACE}")
    file = plots.save(figure, tmp_path / "losses.png")
    said = f"{file}: the font lacks \N{FOX FACE} \N{CJK UNIFIED IDEOGRAPH-540D}; name one that has them in "
    assert capsys.readouterr().err.startswith(said)
    assert not [each for each in recwarn if "Glyph" in str(each.message)]


# -- bad input ------------------------------------------------------------------------------------


def test_a_missing_matplotlib_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", str(run)]) == 2
    said = "error: figures need matplotlib, which is not installed; pip install 'fastdd[plots]'\n"
    assert capsys.readouterr().err == said
    assert not (run / "figures").exists()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"has no arm 'sre2'.*did you mean.*arms: random, sre2l, deda\+x"):
        plots.images(run, "sre2")
    with pytest.raises(InputError, match="no further students 'hard'; students: none"):
        plots.accuracy(run, "hard")
    with pytest.raises(InputError, match="no bytes of its sets"):
        plots.accuracy_by_bytes(run)
    with pytest.raises(InputError, match="no format of figures"):
        plots.save(plots.losses(run), tmp_path / "losses.doc")


def test_runs_with_as_many_images_a_class_have_no_common_line(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in "ab"]
    with pytest.raises(InputError, match="both have 2 images a class; leave one out"):
        plots.accuracy_by_images(runs)
