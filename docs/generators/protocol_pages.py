"""The page of protocols: how students are trained and tested, each value with its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import cleandoc
from itertools import pairwise

from markdown_pieces import ROOT, code, escaped, prose, table

from fastdd.config.sources import Sourced
from fastdd.protocols import PROTOCOLS

INTRODUCTION = """# Protocols

A protocol says everything about how students are trained and tested. Accuracies compare only where the
protocol's hash is the same; [why](../concepts/protocols.md). `student.protocol=NAME` in a recipe, or
`--protocol NAME` of `fastdd evaluate`, takes one; `fastdd show RECIPE` prints every value. What a protocol
leaves out is the house protocol's. A key is explained under [`student`](recipe.md#student). """


def protocol_page() -> str:
    """The page as Markdown: a section for each paper, as the file of presets has them."""
    parts, left = [INTRODUCTION], dict.fromkeys(PROTOCOLS)
    for said, declared in _sections():
        heading = re.split(r"'s|: ", said)[0]
        here = [name for name in left if _belongs(name, heading, declared)]
        for name in here:
            del left[name]
        parts.append(f"\n## {heading}\n\n{prose(said)}\n")
        parts.append(table(["protocol", "values"], [[code(name), _values(name)] for name in here]))
    assert not left, f"protocols without a section: {', '.join(left)}"
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, str]]:
    """(text, declarations) of each section: it begins with a text that documents no value before it."""
    source = (ROOT / "fastdd/protocols/presets.py").read_text()
    texts = [
        node
        for before, node in pairwise(ast.parse(source).body)
        if _is_text(node) and not isinstance(before, ast.Assign | ast.AnnAssign)
    ]
    lines = source.splitlines()
    ends = [node.lineno - 1 for node in texts[1:]] + [len(lines)]
    for node, end in zip(texts, ends, strict=True):
        yield cleandoc(ast.literal_eval(node.value)), "\n".join(lines[node.end_lineno : end])


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _belongs(name: str, heading: str, declared: str) -> bool:
    """Whether a section registers a protocol, by its declarations or by the beginning of the name."""
    return f'"{name}"' in declared or name.startswith(f"{heading.lower()}-")


def _values(name: str) -> str:
    told = []
    for key, value in PROTOCOLS[name].items():
        plain = value.value if isinstance(value, Sourced) else value
        source = f" {value.source}" if isinstance(value, Sourced) else ""
        told.append(f"{code(f'{key}={plain}')}{source}")
    return ", ".join(told) or escaped("the defaults of `student`")
