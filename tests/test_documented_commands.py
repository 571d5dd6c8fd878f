"""The commands that README and documentation print: each is understood, and its recipe takes its values."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastdd.cli
from fastdd.cli.options import overrides_of
from fastdd.recipes.resolve import resolve

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACEHOLDERS = ("...", "RECIPE", "RUN", "PATH", "DIR", "NAME", "FILE", "METHOD", "COMMAND", "ITEM", "MODEL")
"""words of commands that are only forms of others"""


def commands(page: Path) -> Iterator[str]:
    """The commands of a page's shell blocks and indented blocks, and runs of a recipe in its text."""
    text = page.read_text()
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^    (fastdd (?:run|sweep|show|recipes).*)$", text, re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        yield from (part.strip() for part in line.split("&&") if part.strip().startswith("fastdd "))
    yield from re.findall(r"`(fastdd (?:run|sweep|squeeze) [a-z][^`]*)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_commands_are_understood(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command, comments=True)[1:]
        if any(placeholder in word for word in words for placeholder in PLACEHOLDERS) or "|" in words:
            continue
        if ">" in words:
            words = words[: words.index(">")]
        try:
            arguments = fastdd.cli._parse(words)
        except SystemExit:
            pytest.fail(f"{page.name}: {command}")
        _require_recipe(arguments, command)


def _require_recipe(arguments: argparse.Namespace, command: str) -> None:
    """The recipe exists, or is a file of the reader's, and its overrides are keys and values."""
    recipe = getattr(arguments, "recipe", None)
    if recipe is None or recipe.endswith((".yaml", "/")) or recipe.startswith(("runs/", "hf:")):
        return
    resolve(recipe, overrides_of(arguments), arguments.add, arguments.arms)
