"""The documentation: generated pages have everything; the site builds without warnings, fetching nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastdd.methods import ADDITIONS, METHODS
from fastdd.protocols import PROTOCOLS
from fastdd.recipes.resolve import resolve, table

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs/gallery"


@pytest.fixture(autouse=True)
def _generators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "docs/generators")
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "generators" in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_every_command_and_option_has_its_entry() -> None:
    from command_pages import command_page, commands

    page = command_page()
    for name, _, parser in commands():
        assert f"\n## {name}\n" in page
        for action in parser._actions:
            for option in action.option_strings:
                assert option in page, f"{name} {option}"


def test_every_command_says_in_its_help_what_it_does() -> None:
    from command_pages import commands

    for name, _, parser in commands():
        assert parser.description, name


@pytest.mark.parametrize(
    "recipe", ["digits", "cifar10-gvbsm", "cifar100-mtt", "imagenet1k-fadrmplus", "tiny-cim"]
)
def test_every_key_of_a_recipe_has_its_entry(recipe: str) -> None:
    from recipe_pages import sections

    keys = {key for section in sections() for key in section.keys}
    names = {"arms", "committee", "students"}
    for row in table(resolve(recipe)):
        parts = row.path.split(".")
        if parts[0] in names:
            parts = [parts[0], *parts[2:]]
        assert set(parts) <= keys, row.path


def test_every_key_is_explained() -> None:
    from recipe_pages import recipe_page

    rows = re.findall(r"^\| `(\w+)` \| .* \| .* \| *(.*) \|$", recipe_page(), re.MULTILINE)
    assert len(rows) > 200
    assert [key for key, meaning in rows if not meaning.strip()] == []


def test_every_section_of_a_recipe_is_linked_where_it_is_a_key() -> None:
    from recipe_pages import recipe_page, sections

    page = recipe_page()
    anchors = {section.path.lower().replace(".", "") for section in sections()}
    assert set(re.findall(r"\[section\]\(#(\w+)\)", page)) <= anchors


def test_every_method_and_protocol_has_its_page() -> None:
    from method_pages import pages
    from protocol_pages import protocol_page

    found = dict(pages())
    for name in (*METHODS, *ADDITIONS):
        if name != "custom":
            page = found[f"methods/{name}.md"]
            assert "## Switches" in page
            assert "## Measured" in page
            assert f"({name}.md)" in found["methods/index.md"]
    protocols = protocol_page()
    for name in PROTOCOLS:
        assert f"| `{name}` |" in protocols


def test_numbers_come_from_the_committed_results() -> None:
    from result_tables import FUNCTIONS, runs

    assert len(runs()) >= 4
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", FUNCTIONS["last"]("cifar10_best_ipc10", "best"))
    for name, rows in runs().items():
        assert f"## {name.replace('_', '-')}" in FUNCTIONS["every_run"]()
        assert rows


def test_a_table_of_an_addition_has_the_control_at_its_batch_and_marks_reduced_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import result_tables

    metrics = json.loads((result_tables.RESULTS / "cifar10_methods_ipc10.json").read_bytes())
    arms = {name: metrics["arms"][name] for name in ("random", "sre2l", "sre2l+dire", "rded")}
    arms["sre2l-as-dire"] = arms["sre2l"] | {"last": [0.11, 0.12, 0.13]}
    arms["sre2l"] |= {"reduced": "400 of the method's 1,000 steps"}
    (tmp_path / "m.json").write_text(json.dumps(metrics | {"arms": arms}))
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    heading, _, *rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in result_tables.additions("m", "dire").strip().splitlines()
    ]
    assert heading[1:4] == ["last %", "at DiRe's batch, last %", "+ DiRe, last %"]
    cells = {row[0]: row[1:4] for row in rows}
    assert cells["SRe2L (reduced)"][1] == "12.0 ± 1.0"
    assert cells["RDED"][1:] == ["–", "–"]
    assert len(rows) == 4  # the control, two methods and the whole training set


def test_pictures_are_small_and_of_methods_that_exist() -> None:
    files = sorted(GALLERY.glob("*.png"))
    assert sum(file.stat().st_size for file in files) < 600_000
    others = {"random", "kmeans", "dm-four", "sre2l-dire"}
    assert {file.stem for file in files} <= {*METHODS, *ADDITIONS, *others}


def test_pictures_of_any_run_folder(tmp_path: Path) -> None:
    """The script takes a finished run as it is."""
    from gallery import write
    from PIL import Image

    from fastdd.config import as_plain
    from fastdd.config.yaml_text import dump_yaml

    recipe = resolve("digits").recipe
    (tmp_path / "recipe.yaml").write_text(dump_yaml(as_plain(recipe)))
    for arm in ("random", "sre2l+dire"):
        for name in ("zero", "one"):
            folder = tmp_path / "images" / arm / name
            folder.mkdir(parents=True)
            Image.new("L", (8, 8), 90).save(folder / "00000.png")
    written = write(tmp_path, [], tmp_path)
    assert [file.name for file in written] == ["random.png", "sre2l-dire.png"]
    with Image.open(written[0]) as picture:
        assert picture.size == (2 * 64 + 2, 64)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None or find_spec("mkdocstrings") is None, reason="no mkdocs")
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        text = page.read_text()
        assert not re.search(r'<(?:script|img|iframe)[^>]*\ssrc="?https?:', text), page
        assert not re.search(r'<link[^>]*rel="?(?:stylesheet|preconnect|preload)[^>]*href="?https?:', text), (
            page
        )
        assert "{{" not in re.sub(r"<(pre|code|script|style).*?</\1>", "", text, flags=re.DOTALL), page
