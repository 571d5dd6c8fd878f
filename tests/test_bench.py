"""The benchmark suite in tiny shapes: every side gives the true result, and what is wrong has no speed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastdd.bench.clock import clock_for
from fastdd.bench.growth import Sweep, curve_of, exponent, growth_figure
from fastdd.bench.measure import SUBJECTS, Plan, measure, names, run
from fastdd.bench.results import (
    Ceilings,
    Machine,
    Results,
    Row,
    SideResult,
    Timing,
    changes,
    earlier_results,
    read_results,
    timing,
    with_results,
    write_results,
)
from fastdd.bench.subjects import end_to_end
from fastdd.bench.subjects.growth import sweeps
from fastdd.bench.work import Goal, Least, Scale, Side, Work, largest_error
from fastdd.cli import bench, main
from fastdd.errors import InputError

SMALL = Scale(torch.device("cpu"), quick=True)
CEILINGS = Ceilings(copy_bytes=1e10, fp32_operations=1e11, bf16_operations=2e11)
MACHINE = Machine(device="a processor", instructions="AVX2", threads=1, precision="fp32", packages={})


def rows_of(subject: str, *works: str) -> list[Row]:
    """The measured works of a subject, one round each."""
    plan = Plan((subject,), works, compiled=False, clock="processor", rounds=1, seconds=0.0)
    return [row for row in run(plan, SMALL)[1] if isinstance(row, Row)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subject", "worst"),
    [("kernels", 1e-4), ("bank", 1e-4), ("metrics", 1e-4), ("recover", 1e-4), ("students", 1e-3)],
)
def test_every_side_of_every_work_gives_the_true_result(subject: str, worst: float) -> None:
    if subject == "students":
        pytest.importorskip("torchvision")
    for row in rows_of(subject):
        for name, side in row.sides.items():
            if "not installed" in side.untimed:
                continue
            assert side.untimed == "", f"{row.work} {name}"
            assert side.error is None or side.error < worst, f"{row.work} {name}"
            assert side.time is not None
            assert (side.ratio is None) == (name == "ours")


def test_our_loader_has_the_pixels_of_pil() -> None:
    (row,) = rows_of("loader", "center_256")
    assert row.sides["ours"].error is not None
    assert row.sides["ours"].untimed == ""
    assert row.unit == "image"


@pytest.mark.parametrize(("teacher", "student"), [(0.1, 0.9), (0.95, 0.1), (0.95, None)])
def test_a_whole_run_with_a_broken_stage_is_not_timed(teacher: float, student: float | None) -> None:
    (whole,) = end_to_end.works(SMALL)
    nothing = [torch.zeros((), dtype=torch.float64)] * 2
    assert largest_error(end_to_end.wrong(teacher, student), nothing) > whole.tolerance
    assert largest_error(end_to_end.wrong(0.95, 0.55), nothing) <= whole.tolerance


@pytest.mark.slow
def test_a_whole_run_is_measured_beside_plain_pytorch() -> None:
    (row,) = rows_of("end-to-end")
    assert [side.untimed for side in row.sides.values()] == ["", ""]


def work(**sides: Side[Tensor]) -> Work[Tensor]:
    """A sum of numbers, and how some sides come to it."""
    return Work(
        "sum",
        "the sum of four numbers",
        lambda: torch.arange(4.0),
        lambda x: [x.double().sum()],
        sides,
        tolerance=1e-6,
        goals=(Goal("faster", 1e-9, "peer"),),
        least=lambda x: Least(bytes=x.nbytes),
    )


RIGHT: Side[Tensor] = Side(lambda x: lambda: [x.sum()])
WRONG: Side[Tensor] = Side(lambda x: lambda: [x.sum() + 1])
NOTHING: Side[Tensor] = Side(lambda x: lambda: [x.sum() * float("nan")])


def measured(sum_of: Work[Tensor], quick: bool = False) -> Row:
    scale = Scale(torch.device("cpu"), quick)
    return measure(sum_of, "tests", scale, ceilings=CEILINGS, clock="processor", rounds=2, seconds=0.0)


def test_no_speed_stands_beside_a_wrong_result() -> None:
    row = measured(work(ours=WRONG, peer=RIGHT))
    assert all(side.time is None for side in row.sides.values())
    assert row.sides["ours"].untimed == "off by 1.7e-01, more than 1e-06"
    assert [goal.met for goal in row.goals] == [None]


@pytest.mark.parametrize("peer", [WRONG, NOTHING])
def test_a_wrong_peer_is_not_timed(peer: Side[Tensor]) -> None:
    row = measured(work(ours=RIGHT, peer=peer))
    assert row.sides["ours"].time is not None
    assert row.sides["peer"].time is None
    assert row.sides["peer"].untimed.startswith("off by ")


def test_goals_and_floor_are_of_the_measured_sides() -> None:
    row = measured(work(ours=RIGHT, peer=RIGHT, absent=Side(RIGHT.build, needs=("no_such_package",))))
    assert row.floor == 16 / 1e10
    assert [goal.met for goal in row.goals] == [True]
    assert row.sides["absent"].untimed == "the package no_such_package is not installed"
    assert measured(work(ours=RIGHT, peer=RIGHT), quick=True).goals == ()


def test_processor_time_is_taken_with_one_thread_on_a_cpu() -> None:
    assert clock_for(torch.device("cpu"), 1) == "processor"
    assert clock_for(torch.device("cpu"), 2) == "wall"
    assert clock_for(torch.device("cuda"), 1) == "wall"


# -- growth ----------------------------------------------------------------------------------------


def test_the_exponent_is_that_of_a_power_law() -> None:
    assert exponent([(x, 3 * x**1.7) for x in (1.0, 2.0, 4.0, 8.0)]) == pytest.approx(1.7)


def test_a_fixed_cost_does_not_hide_growth() -> None:
    sizes = [float(2**n) for n in range(10)]
    assert exponent([(x, 10 + x) for x in sizes]) > 0.8


@pytest.mark.slow
def test_all_curves_can_be_measured_and_drawn() -> None:
    short = [
        Sweep(sweep.name, sweep.text, sweep.along, sweep.sizes[:2], sweep.build, sweep.expected)
        for sweep in sweeps(SMALL)
    ]
    curves = [curve_of(sweep, SMALL, "processor") for sweep in short]
    assert {"bank_by_classes", "recover_by_pixels", "metrics_by_images"} <= {curve.name for curve in curves}
    svg = growth_figure(curves)
    assert svg.count("<circle") == 2 * len(curves)


# -- files -----------------------------------------------------------------------------------------


def row_of(seconds: list[float], ratios: list[float], *, quick: bool = False, untimed: str = "") -> Row:
    ours = SideResult(time=None if untimed else timing(seconds), untimed=untimed)
    peer = SideResult(time=timing(seconds), ratio=timing(ratios))
    sides = {"ours": ours, "peer": peer}
    return Row(subject="tests", work="sum", text="", quick=quick, clock="processor", unit="call", sides=sides)


def verdicts(before: Row, after: Row, machine: Machine = MACHINE) -> list[str]:
    earlier, later = Results(machine=MACHINE, rows=(before,)), Results(machine=machine, rows=(after,))
    return [change.verdict for change in changes(earlier, later)]


def test_a_change_within_the_noise_is_none() -> None:
    noisy = row_of([1.0, 1.3, 0.8, 1.1, 0.9], [2.0, 2.4, 1.7, 2.1, 1.9])
    assert verdicts(noisy, row_of([1.1, 1.4, 0.9, 1.2, 1.0], [1.9, 2.3, 1.6, 2.0, 1.8])) == ["same", "same"]


def test_a_change_beyond_the_noise_is_told() -> None:
    before, after = row_of([1.0, 1.01, 0.99], [2.0, 2.01, 1.99]), row_of([1.2, 1.21, 1.19], [1.6, 1.61, 1.59])
    assert verdicts(before, after) == ["slower", "slower"]
    assert verdicts(after, before) == ["faster", "faster"]


def test_another_machine_is_compared_by_ratios_alone() -> None:
    before, after = row_of([1.0, 1.01, 0.99], [2.0, 2.01, 1.99]), row_of([3.0, 3.1, 2.9], [2.0, 2.01, 1.99])
    assert verdicts(before, after, MACHINE.model_copy(update={"device": "another"})) == ["same"]


def test_a_result_that_became_wrong_is_told() -> None:
    red = row_of([1.0], [2.0], untimed="off by 1e-01, more than 1e-06")
    assert verdicts(row_of([1.0], [2.0]), red) == ["wrong"]


def test_small_sizes_are_not_compared_with_full_ones() -> None:
    assert verdicts(row_of([1.0], [2.0], quick=True), row_of([2.0], [1.0])) == []


def test_rows_are_added_to_a_file_of_the_same_machine(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    first, second = row_of([1.0], [2.0]), row_of([1.5], [2.0])
    write_results(file, with_results(earlier_results(file, MACHINE), CEILINGS, [first]))
    quick = row_of([0.1], [2.0], quick=True)
    write_results(file, with_results(earlier_results(file, MACHINE), CEILINGS, [second, quick]))
    assert read_results(file).rows == (second, quick)
    with pytest.raises(InputError, match=r"holds results of another machine.*name another file with --json"):
        earlier_results(file, MACHINE.model_copy(update={"threads": 2}))


def test_the_median_and_the_extremes_are_of_the_rounds() -> None:
    assert timing([3.0, 1.0, 2.0]) == Timing(median=2.0, low=1.0, high=3.0, rounds=3, each=(3.0, 1.0, 2.0))


# -- command ---------------------------------------------------------------------------------------


def test_the_command_lists_measures_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list", "--device", "cpu"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{subject} " in listed for subject in (*SUBJECTS, "growth"))
    file, figure = tmp_path / "a.json", tmp_path / "growth.svg"
    base = ["--quick", "--device", "cpu", "--rounds", "1", "--json", str(file)]
    assert main(["bench", "kernels", "--works", "vendi_q2", *base]) == 0
    printed = capsys.readouterr().out
    assert "package_dual" in printed
    assert "floor " in printed
    curve = ["bench", "growth", "--works", "gaussian_by_width", "--figure", str(figure)]
    assert main([*curve, *base]) == 0
    assert "time grows as the" in capsys.readouterr().out
    assert figure.read_text().startswith("<svg")
    assert main(["bench", "compare", str(file), str(file)]) == 0
    assert "0 worse, 0 better" in capsys.readouterr().out


def test_compare_ends_with_one_where_ours_became_slower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("before.json", "after.json")]
    for file, ratios in zip(files, ([2.0, 2.01, 1.99], [1.5, 1.51, 1.49]), strict=True):
        write_results(file, Results(machine=MACHINE, rows=(row_of([1.0, 1.01, 0.99], ratios),)))
    assert main(["bench", "compare", *map(str, files)]) == 1
    assert "1 worse, 0 better" in capsys.readouterr().out


def test_files_without_a_figure_in_common_are_not_called_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("quick.json", "full.json")]
    for file, quick in zip(files, (True, False), strict=True):
        write_results(file, Results(machine=MACHINE, rows=(row_of([1.0], [2.0], quick=quick),)))
    assert main(["bench", "compare", *map(str, files)]) == 2
    assert "have no figure in common; compare files of the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a.json"], "compare takes two files of results, got 1"),
        (["kernels", "a.json"], "a.json: only compare takes files; name one subject, or none for all"),
        (["--rounds", "0"], "--rounds is 0, expected at least 1"),
        (["kernels", "--works", "fast"], r"no work is called fast; there are dire, gaussian"),
        (["compare", "a.json", "b.json"], "cannot read a.json: No such file or directory; name a file"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments, *(["--device", "cpu"] if "compare" not in arguments else [])]) == 2
    assert re.match(f"error: {message}", capsys.readouterr().err)


def test_a_file_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps({"rows": []}))
    assert main(["bench", "compare", str(file), str(file)]) == 2
    assert "is no file of benchmark results" in capsys.readouterr().err


def test_results_survive_being_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds each work before it is told, so what was measured is kept whatever ends the command."""

    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_show_row", interrupt)
    file = tmp_path / "results.json"
    arguments = ["--works", "vendi_*", "--quick", "--device", "cpu", "--rounds", "1", "--json", str(file)]
    assert main(["bench", "kernels", *arguments]) == 130
    assert [row.work for row in read_results(file).rows] == ["vendi_q1"]


def test_names_are_listed_without_measuring() -> None:
    listed = list(names(SMALL, ["recover"]))
    assert [name for _, name, _ in listed][:4] == ["statistics", "sre2l", "dire", "deda"]
