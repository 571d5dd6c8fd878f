"""Differences between the students of two sets: their intervals, and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fastdd.cli.robust import _points
from fastdd.report.templates import environment
from fastdd.run_folder.comparison import Difference, difference, difference_text, half_interval, more_seeds

T_2 = 4.302652729911275
"""the 97.5 % quantile of Student's distribution with two degrees of freedom"""


def test_an_interval_is_that_of_paired_differences() -> None:
    found = difference([0.50, 0.60, 0.70], [0.45, 0.52, 0.66])
    assert found is not None
    each = [0.05, 0.08, 0.04]
    mean = sum(each) / 3
    deviation = math.sqrt(sum((d - mean) ** 2 for d in each) / 2)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx(deviation)
    assert found.interval == pytest.approx(T_2 * deviation / math.sqrt(3), rel=1e-6)
    assert found.distinguishable
    assert difference_text(found) == "+5.7 ± 5.2"


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("gain", [0.0, 0.02, -0.05])
def test_intervals_and_what_is_distinguishable_are_those_of_scipys_paired_t_test(
    seeds: int, gain: float
) -> None:
    random = np.random.default_rng(seeds)
    control = 0.4 + 0.03 * random.standard_normal(seeds)
    ours = control + gain + 0.02 * random.standard_normal(seeds)
    found = difference(ours.tolist(), control.tolist())
    assert found is not None
    known = stats.ttest_rel(ours, control)
    low, high = known.confidence_interval(0.95)
    assert (found.mean - (found.interval or 0), found.mean + (found.interval or 0)) == pytest.approx(
        (low, high), rel=1e-9
    )
    assert found.distinguishable == (known.pvalue < 0.05)
    # Bonferroni: the interval of one of seven comparisons has the confidence 1 - 0.05 / 7
    best = difference(ours.tolist(), control.tolist(), comparisons=7)
    assert best is not None
    assert best.distinguishable == (known.pvalue < 0.05 / 7)
    assert half_interval(ours.tolist()) == pytest.approx(
        stats.ttest_1samp(ours, 0).confidence_interval(0.95).high - ours.mean(), rel=1e-9
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_95_of_100_intervals_hold_the_true_difference(seeds: int) -> None:
    random = np.random.default_rng(0)
    control = 0.4 + 0.03 * random.standard_normal((4000, seeds))
    ours = control + 0.01 + 0.02 * random.standard_normal((4000, seeds))
    found = [difference(a, b) for a, b in zip(ours.tolist(), control.tolist(), strict=True)]
    held = [abs(each.mean - 0.01) <= (each.interval or 0.0) for each in found if each is not None]
    assert len(held) == 4000
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)  # 3.5 standard deviations of 4,000 draws


def test_differences_that_are_all_the_same_show_no_spread_and_distinguish_nothing() -> None:
    found = difference([0.5, 0.75], [0.25, 0.5])
    assert found is not None
    assert found.interval == 0
    assert not found.distinguishable
    assert difference_text(found) == "≈ +25.0 ± 0.0"


def test_the_best_of_many_has_a_wider_interval() -> None:
    ours, control = [0.50, 0.60, 0.70], [0.45, 0.52, 0.66]
    one, many = difference(ours, control), difference(ours, control, comparisons=5)
    assert one is not None
    assert many is not None
    # t(0.995, 2) = 9.924843
    assert many.interval == pytest.approx((one.interval or 0) * 9.924843200918293 / T_2, rel=1e-6)
    assert not many.distinguishable
    assert difference_text(many).startswith("≈ +5.7 ± ")


def test_one_seed_has_no_interval_and_distinguishes_nothing() -> None:
    found = difference([0.5], [0.4])
    assert found is not None
    assert found.interval is None
    assert not found.distinguishable
    assert difference_text(found) == "+10.0"
    assert more_seeds([found], 0.01) is None


@pytest.mark.parametrize("mean", [0.0, -0.0, -0.0004, 0.0004])
def test_a_difference_that_rounds_to_zero_has_no_minus_and_is_not_below(mean: float) -> None:
    assert _points(mean) == "+0.0 points"
    found = Difference(mean=mean, deviation=None, interval=None, seeds=1)
    assert difference_text(found) == "+0.0"
    assert difference_text(found.model_copy(update={"interval": 0.01, "deviation": 0.01})) == "≈ +0.0 ± 1.0"
    verdict = environment().get_template("figures.html").module.verdict
    text = " ".join(verdict({"difference": found}, [""]).split())
    assert text.startswith("as much as random real images, with one seed")


def test_a_difference_that_is_seen_keeps_its_sign() -> None:
    assert (_points(-0.0006), _points(0.0006)) == ("-0.1 points", "+0.1 points")
    found = Difference(mean=-0.0006, deviation=None, interval=None, seeds=1)
    verdict = environment().get_template("figures.html").module.verdict
    assert " ".join(verdict({"difference": found}, [""]).split()).startswith("0.1 points below random")


def test_students_that_diverged_leave_no_difference() -> None:
    assert difference([0.5, None], [0.4, 0.4]) is None
    assert difference([0.5, 0.5], [None, 0.4]) is None
    assert difference([], []) is None


@pytest.mark.parametrize(
    ("deviation", "half_width", "seeds"),
    [(0.01, 0.01, 7), (0.01, 0.03, None), (0.02, 0.01, 18), (1.0, 0.0001, 1000)],
)
def test_the_seeds_for_an_interval(deviation: float, half_width: float, seeds: int | None) -> None:
    # t(0.975, 6) / sqrt(7) = 0.925 and t(0.975, 5) / sqrt(6) = 1.049; t(0.975, 17) / sqrt(18) = 0.497
    found = Difference(mean=0.0, deviation=deviation, interval=0.0, seeds=3)
    assert more_seeds([found, found], half_width) == seeds
    wanted = next(
        (n for n in range(2, 1000) if stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n) <= half_width),
        1000,
    )
    assert seeds in (None, wanted)
    assert (seeds is None) == (wanted <= 3)
