"""The page of protocols: how students are trained and tested, each value with its source."""

from __future__ import annotations

from markdown_pieces import ROOT, code, docstring, escaped, prose, table

from fastdd.config.sources import Sourced
from fastdd.protocols import PROTOCOLS

INTRODUCTION = """# Protocols

A protocol says everything about how students are trained and tested. Accuracies compare only where the
protocol's hash is the same; [why](../concepts/protocols.md). `student.protocol=NAME` in a recipe, or
`--protocol NAME` of `fastdd evaluate`, takes one; `fastdd show RECIPE` prints every value. What a protocol
leaves out is the house protocol's. A key is explained under [`student`](recipe.md#student). """


def protocol_page() -> str:
    """The page as Markdown: a section for each file of presets."""
    parts, left = [INTRODUCTION], dict.fromkeys(PROTOCOLS)
    for file in sorted((ROOT / "fastdd/protocols").glob("*.py")):
        text = file.read_text()
        if "register_protocol(" not in text or file.name == "registry.py":
            continue
        here = [name for name in left if _belongs(name, file.stem, text)]
        if not here:
            continue
        for name in here:
            del left[name]
        said = docstring(file)
        parts.append(f"\n## {file.stem}\n\n{prose(said)}\n")
        parts.append(table(["protocol", "values"], [[code(name), _values(name)] for name in here]))
    assert not left, f"protocols without a section: {', '.join(left)}"
    return "\n".join(parts)


def _belongs(name: str, stem: str, text: str) -> bool:
    """Whether a file registers a protocol, by its text or by the beginning of the name."""
    return f'"{name}"' in text or name.startswith(f"{stem}-") or name == stem


def _values(name: str) -> str:
    told = []
    for key, value in PROTOCOLS[name].items():
        plain = value.value if isinstance(value, Sourced) else value
        source = f" {value.source}" if isinstance(value, Sourced) else ""
        told.append(f"{code(f'{key}={plain}')}{source}")
    return ", ".join(told) or escaped("the defaults of `student`")
