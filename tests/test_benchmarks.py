"""The scripts of benchmarks/, and the page that is made of the results."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import forked
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_walk_counts_the_files_that_run_for_each_stage() -> None:
    printed = forked.output(ROOT / "benchmarks/walk.py", "--files", folder=ROOT)
    counts = re.findall(r"^(one .*): (\d+) files, \d+ functions of fastdd; ", printed, re.MULTILINE)
    assert [stage for stage, _ in counts] == ["one SRe2L unit", "one bank pass", "one student"]
    assert all(int(files) > 0 for _, files in counts)
    assert "    fastdd/recover/loop.py: " in printed
    assert "    fastdd_kernels/resample.py: " in printed


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("page")


def test_the_committed_page_is_what_the_results_give(page: ModuleType) -> None:
    wanted = "run python benchmarks/page.py"
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), wanted
    assert (page.RESULTS / page.FIGURE).read_text(encoding="utf-8") == page.figure(), wanted


def test_every_figure_that_was_asked_for_is_met_or_has_a_reason(page: ModuleType) -> None:
    asked = page.asked_figures()
    assert len(asked) > 50
    for each in asked:
        found = page.value_of(each)
        assert (each.at_least is None) != (each.at_most is None), each.figure
        assert each.file or each.how, each.figure
        missed = found is None or not each.met(found)
        assert missed == bool(each.reason), f"{each.figure}: {found}"


def test_the_page_names_only_files_that_are_there(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((results/[^)#]+)\)", text))
    assert all((ROOT / "benchmarks" / name).exists() for name in named), named
    scripts = set(re.findall(r"benchmarks/\w+\.(?:py|sh)", text))
    assert all((ROOT / name).exists() for name in scripts), scripts
