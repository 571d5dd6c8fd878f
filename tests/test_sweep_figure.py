"""The figure of a sweep: where values stand, what is joined, and that page and file show it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from run_folders import begin_with
from test_report import Page, make_run

from fastdd.errors import InputError
from fastdd.report import SweptRun, SweptSet, accuracy_by_key, report, sweep_svg
from fastdd.report.axis import AFTER_ZERO, FIRST, LAST, grid_axis
from fastdd.report.sweep_figure import PANEL
from fastdd.run_folder import RunFolder

GAMMA = "method.terms.gaussian.gamma"


def swept(title: str, last: float, **at: float | str | None) -> SweptSet:
    return SweptSet(
        title,
        {{"gamma": GAMMA}.get(key, key): value for key, value in at.items()},
        [last - 0.01, last + 0.01],
    )


def numbers(path: str) -> list[float]:
    return [float(text) for text in re.findall(r"[\d.]+", path)]


# -- the axis ----------------------------------------------------------------------------------------


def test_zero_stands_apart_from_a_logarithm() -> None:
    axis = grid_axis([50, 0, 10, 1000])
    assert axis.values == (0, 10, 50, 1000)
    assert axis(0) == FIRST
    assert axis(10) == AFTER_ZERO
    assert axis(1000) == pytest.approx(LAST)
    assert (axis(50) - axis(10)) / (axis(1000) - axis(10)) == pytest.approx(
        0.349485, abs=1e-6
    )  # log 5 / log 100
    assert axis.broken is not None
    assert FIRST < axis.broken < AFTER_ZERO
    assert [text for _, text in axis.ticks] == ["0", "10", "50", "1000"]


def test_a_line_where_values_span_little_or_are_negative() -> None:
    for values in ([0, 1, 2, 10], [-1, 0, 100], [3.0], [2, 20]):
        axis = grid_axis(values)
        assert axis.numbers
        assert axis.broken is None
    axis = grid_axis([-1, 0, 99])
    assert axis(0) == pytest.approx(FIRST + (LAST - FIRST) / 100)
    assert grid_axis([0.001, 0.1, 0.01])(0.01) == pytest.approx((FIRST + LAST) / 2)
    assert grid_axis([7])(7) == 0.5


def test_words_are_spaced_evenly_in_their_order() -> None:
    axis = grid_axis(["real", "noise", None, [0.08, 1]])
    assert axis.places == (0.125, 0.375, 0.625, 0.875)
    assert not axis.numbers
    assert [text for _, text in axis.ticks] == ["real", "noise", "null", "[0.08, 1]"]
    assert not grid_axis([True, False]).numbers


# -- lines and panels --------------------------------------------------------------------------------


def test_lines_of_arms_and_of_the_second_key() -> None:
    sets = [swept("DEDA", 0.4 + n / 100, gamma=g, steps=s) for s in (1, 2) for n, g in enumerate((0, 50, 10))]
    figure = accuracy_by_key([SweptRun({}, [0.3, 0.32], [*sets, swept("SRe2L", 0.35)])], [GAMMA, "steps"])
    (panel,) = figure.panels
    assert [line.label for line in panel.lines] == ["DEDA, steps = 1", "DEDA, steps = 2", "SRe2L"]
    assert [line.label for line in figure.legend] == [line.label for line in panel.lines]
    first, _, level = panel.lines
    assert [mark.text for mark in first.marks] == [
        f"DEDA, steps = 1, gamma = {g}: {v:.1f} ± 1.4 %" for g, v in ((0, 40), (10, 42), (50, 41))
    ]
    assert numbers(first.path) == [number for mark in first.marks for number in (mark.x, mark.y)]
    assert all(PANEL.left < mark.x < PANEL.right for mark in first.marks)
    assert all(PANEL.top < mark.high < mark.y < mark.low < PANEL.bottom for mark in first.marks)
    assert (level.level, numbers(level.path)) == (True, [PANEL.left, level.marks[0].y, PANEL.right])
    assert figure.key == "gamma"


def test_marks_are_drawn_to_scale() -> None:
    """Two deviations, the distance of two means and the control's band, all on one linear axis."""
    sets = [swept("DEDA", 0.40, gamma=1), swept("DEDA", 0.44, gamma=2)]
    figure = accuracy_by_key([SweptRun({}, [0.29, 0.31], sets)], [GAMMA])
    (low, high), panel = figure.panels[0].lines[0].marks, figure.panels[0]
    point = (low.y - high.y) / 4
    assert low.low - low.y == pytest.approx(point * 2**0.5, abs=0.11)
    left, y, right, _ = numbers(panel.control)
    assert (left, right) == (PANEL.left, PANEL.right)
    assert y - low.y == pytest.approx(10 * point, abs=0.2)
    corners = numbers(panel.band)
    assert (corners[1] + corners[5]) / 2 == pytest.approx(y, abs=0.1)
    assert corners[5] - corners[1] == pytest.approx(2 * point * 2**0.5, abs=0.2)


def test_the_control_of_runs_goes_from_run_to_run() -> None:
    runs = [
        SweptRun({"ipc": n}, [c], [swept("DEDA", c + 0.1, ipc=n)])
        for n, c in ((50, 0.5), (1, 0.1), (10, 0.3))
    ]
    figure = accuracy_by_key(runs, ["ipc"])
    (panel,) = figure.panels
    path = numbers(panel.control)
    assert path[::2] == [mark.x for mark in panel.lines[0].marks]
    assert path[1] > path[3] > path[5]
    runs = [SweptRun({"net": n}, [0.1], [swept("DEDA", 0.2, net=n)]) for n in ("a", "b", "c")]
    assert accuracy_by_key(runs, ["net"]).panels[0].control.count("M") == 3


def test_further_keys_of_runs_have_panels() -> None:
    runs = [
        SweptRun({"ipc": n}, [n / 100], [swept("DEDA", 0.5, ipc=n, gamma=g) for g in (0, 1)]) for n in (1, 10)
    ]
    figure = accuracy_by_key(runs, [GAMMA, "ipc"])
    assert [panel.title for panel in figure.panels] == ["ipc = 1", "ipc = 10"]
    assert [line.label for panel in figure.panels for line in panel.lines] == ["DEDA", "DEDA"]
    assert figure.panels[0].control != figure.panels[1].control
    assert [line.label for line in figure.legend] == ["DEDA"]


def test_words_are_not_joined_and_stand_side_by_side() -> None:
    sets = [swept(arm, 0.4, init=word) for arm in ("A", "B") for word in ("noise", "real")]
    figure = accuracy_by_key([SweptRun({}, [0.3], sets)], ["init"])
    a, b = figure.panels[0].lines
    assert (a.path, b.path) == ("", "")
    assert b.marks[0].x - a.marks[0].x == pytest.approx(9)
    assert not figure.slanted
    sets = [swept("A", 0.4, init=f"selection number {n}") for n in range(5)]
    figure = accuracy_by_key([SweptRun({}, [0.3], sets)], ["init"])
    assert figure.slanted
    assert figure.height > PANEL.height
    assert [text for _, text in figure.x_ticks] == ["selection numbe…"] * 5


def test_numbers_without_room_are_left_out() -> None:
    sets = [swept("A", 0.4, gamma=g) for g in (1000, 1000.1, 1001, 1002)]
    figure = accuracy_by_key([SweptRun({}, [0.3], sets)], [GAMMA])
    assert [text for _, text in figure.x_ticks] == ["1000", "", "1001", "1002"]


# -- the page and the file ---------------------------------------------------------------------------


def write_sweep(run: Path, points: object) -> Path:
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    begin_with(RunFolder(run), recipe | {"sweep": {"keys": [GAMMA], "points": points}})
    return run


def test_the_page_shows_the_sweep(tmp_path: Path) -> None:
    points = {"deda+x": {"of": "deda", "title": "DEDA <&> mine", "at": {GAMMA: 0}}}
    page = Page(report(write_sweep(make_run(tmp_path / "run"), points)))
    for text in (
        "by gamma",
        "DEDA <&> mine, gamma = 0: 91.0 ± 1.0 %",
        "SRe2L: 70.0",
        "dashes are arms",
        "fastdd run recipe.yaml --out again",
    ):
        assert text in page.text, text
    assert len(set(page.ids)) == len(page.ids)
    plain = Page(report(make_run(tmp_path / "plain"))).text
    assert "dashes are arms" not in plain


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"deda": {"of": "deda", "title": "DEDA", "at": {}}}, r"sweep\.points\.deda"),
        ({"sre2l": 3}, r"recipe\.yaml is damaged .*sweep\.points\.sre2l"),
    ],
)
def test_a_damaged_sweep_is_named(tmp_path: Path, points: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        report(write_sweep(make_run(tmp_path / "run"), points))


def test_the_file_is_whole_and_stands_alone() -> None:
    runs = [
        SweptRun({"net": n}, [0.3, 0.31], [swept("<DEDA>", 0.4, net=n, gamma=g) for g in (0, 10, 200)])
        for n in ("a", "b", "c")
    ]
    text = sweep_svg(accuracy_by_key(runs, [GAMMA, "net"]))
    assert "var(" not in text
    root = ElementTree.fromstring(text)
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//s:use", space)) == 3 * 3 + 1  # marks, and the legend's
    assert len(root.findall(".//s:path[@class='break']", space)) == 3
    words = ["".join(node.itertext()) for node in root.iterfind(".//s:text", space)]
    assert {"<DEDA>", "net = a, test accuracy in percent", "gamma", "200"} <= set(words)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width == 880
    assert all(float(node.get("y", 0)) < height for node in root.iterfind(".//s:text", space))
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert all(node.attrib["href"][1:] in ids for node in root.findall(".//s:use", space))
