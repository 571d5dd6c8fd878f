"""The README: short, in short sentences, with the committed numbers and with links that lead somewhere."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REPOSITORY = "https://github.com/fastdd/fastdd"
PROSE = (
    "README.md",
    *(
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.name not in ("glossary.md", "papers.md")
    ),
)


def sentences(text: str) -> list[list[str]]:
    """The sentences of the running text, as words; code, tables, headings and addresses are left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{\{.*?\}\}", "number", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)(\{[^}]*\})?", r"\1", text)
    lines = ["" if re.match(r"\s*(\||#|>|:::|!!!|-- )", line) else line for line in text.splitlines()]
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(lines))
    found = [re.split(r"(?<=[.!?])\s+", re.sub(r"`[^`]*`", "code", block).strip()) for block in blocks]
    words = [[word for word in each.split() if re.search(r"\w", word)] for block in found for each in block]
    return [each for each in words if each]


def test_it_is_read_to_the_end() -> None:
    assert len(README.splitlines()) <= 120
    assert README.splitlines().index("## Results") <= 60
    found = sentences(README)
    assert sum(map(len, found)) / len(found) < 18


@pytest.mark.parametrize("name", PROSE)
def test_pages_have_short_sentences(name: str) -> None:
    found = sentences((ROOT / name).read_text())
    if len(found) > 3:
        assert sum(map(len, found)) / len(found) < 18
    for each in found:
        assert len(each) <= 40, " ".join(each)


def test_links_and_picture_are_absolute_and_lead_to_files() -> None:
    """A package index shows the README without the files beside it."""
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://"), target
        for start in (f"{REPOSITORY}/blob/main/", "https://raw.githubusercontent.com/fastdd/fastdd/main/"):
            if target.startswith(start):
                assert (ROOT / target.removeprefix(start)).is_file(), target
        if target.startswith("https://fastdd.github.io/fastdd/"):
            page = target.removeprefix("https://fastdd.github.io/fastdd/").rstrip("/")
            assert (ROOT / f"docs/{page or 'index'}.md").is_file() or (
                ROOT / f"docs/{page}/index.md"
            ).is_file()


def test_the_table_has_the_committed_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs/generators")
    from result_tables import gain, last

    arms = {
        "**random real images**, the control": "random",
        "SRe2L++": "sre2lpp",
        "FADRM, at a small learning rate": "fadrm-near",
        "k-means": "kmeans",
        "**DM from k-means**, with the teacher's cross-entropy": "house-a+ce",
        "CIM": "cim",
        "**four in one + DEDA**": "house-b",
        "*all 50,000 images, same steps*": "full",
    }
    frontier = "cifar10_frontier_ipc10"
    expected = [(name, last(frontier, arm), last(frontier, arm, "convnet")) for name, arm in arms.items()]
    number = r"(–|\d+\.\d ± \d+\.\d)"
    rows = re.findall(rf"^\| (.+?) \| {number} \| {number} \|", README, re.MULTILINE)
    assert rows[: len(expected)] == expected

    one, ten = "cifar10_matching_ipc1", "cifar10_matching_times_ipc10"
    assert rows[len(expected) :] == [
        ("**random real images**, the control", last(one, "random"), last(ten, "random")),
        ("DM", last(one, "dm"), last(ten, "ten-minutes")),
        ("MTT", last(one, "mtt"), last(ten, "mtt")),
        ("random real images, four in one", "–", last(ten, "random-four")),
        ("**DM, four in one**", "–", last(ten, "hour")),
    ]
    longer = [
        gain("cifar10_longer_ipc10", arm, student)
        for arm in ("house-b", "house-a+ce", "kmeans")
        for student in ("", "convnet")
    ]
    house = "four in one is {} points above the control with ResNet-20 and {} with ConvNet-3."
    sentence = f"{house} DM from k-means is {{}} and {{}} above it, k-means {{}} and {{}}.".format(*longer)
    assert sentence in " ".join(README.split())
    sys.modules.pop("result_tables", None)


def test_every_extra_is_explained() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "docs/install.md").read_text()
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert set(extras) <= named


def test_it_counts_the_methods() -> None:
    from fastdd.methods import METHODS

    count = len([name for name in METHODS if name not in ("custom", "deda-paper")])
    assert f"There are {count} methods" in README
