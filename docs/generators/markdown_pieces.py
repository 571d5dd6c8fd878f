"""Small pieces of Markdown that the generated pages share."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""the checkout"""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar or a line break in a cell is kept as text."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Text as code, also where it has back quotes."""
    fence = "``" if "`" in str(text) else "`"
    return f"{fence}{text}{fence}"


def docstring(file: Path) -> str:
    """The docstring of a Python file, without importing the file; empty: it has none."""
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def prose(text: str) -> str:
    """A docstring as Markdown: ``code`` becomes `code`; indented lines are code in both already.

    Lines that are aligned in columns and not indented, such as a list of files, become a block of code.
    """
    blocks = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if any(line.startswith("    ") for line in lines):
            blocks.append(_with_indented(lines))
        elif sum(bool(re.search(r"\S {3,}\S", line)) for line in lines) > 0:
            blocks.append("```text\n" + block.replace("``", "") + "\n```")
        else:
            blocks.append(_inline(block))
    return "\n\n".join(blocks)


def _with_indented(lines: Sequence[str]) -> str:
    """A paragraph whose indented lines are code; the text around them stands in paragraphs of its own."""
    if not lines[0].startswith("    ") and any(re.search(r"\S {3,}\S", line) for line in lines):
        return "```text\n" + "\n".join(lines).replace("``", "") + "\n```"
    parts: list[tuple[bool, list[str]]] = []
    for line in lines:
        is_code = line.startswith("    ")
        if not parts or parts[-1][0] != is_code:
            parts.append((is_code, []))
        parts[-1][1].append(line[4:] if is_code else line)
    return "\n\n".join(
        "```text\n" + "\n".join(each) + "\n```" if is_code else _inline("\n".join(each))
        for is_code, each in parts
    )


def _inline(text: str) -> str:
    """A paragraph of a docstring, in which no letter is markup but that of code."""
    pieces = re.split(r"(``.+?``|`[^`]+?`)", text.replace("\n", " "))
    return "".join(code(piece.strip("`")) if i % 2 else escaped(piece) for i, piece in enumerate(pieces))


def escaped(text: str) -> str:
    """Text in which no letter is Markdown's or HTML's markup."""
    return re.sub(r"([*_<>\[\]\\])", r"\\\1", text)
