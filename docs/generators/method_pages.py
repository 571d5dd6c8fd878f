"""A page for each method, from its declaration: what it does, its values with their sources, and what was
measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import result_tables
from markdown_pieces import ROOT, code, docstring, escaped, prose, table

from fastdd.methods import ADDITIONS, METHODS
from fastdd.recipes.resolve import resolve
from fastdd.recipes.resolve import table as values_of

GALLERY = ROOT / "docs/gallery"
DATA_SETS = ("cifar10", "cifar100", "tiny", "imagenet1k")
CONSTANTS = {
    "METHOD is": "The values are those of",
    "RELEASED is": "The released settings are",
    "TABLE is": "The table of values is",
}
"""how docstrings name the values that they declare -> words for a page without that code"""
FAMILIES = {
    "teacher": "Through a trained teacher",
    "matching": "By networks of their own",
    "addition": "Laid over any method",
}


@cache
def files() -> dict[str, Path]:
    """The file that declares each method or addition."""
    found = {}
    for file in sorted((ROOT / "fastdd/methods").glob("*.py")):
        for name in re.findall(
            r'^register_(?:method|addition)\(\s*"([\w+-]+)"', file.read_text(), re.MULTILINE
        ):
            found[name] = file
    return found


def names() -> list[str]:
    """All methods and additions that have a page."""
    return [name for name in (*METHODS, *ADDITIONS) if name in files() and name != "custom"]


def family(name: str) -> str:
    """How a method learns from the real images: a key of FAMILIES."""
    if name in ADDITIONS:
        return "addition"
    return "matching" if "match" in METHODS[name].values else "teacher"


def title(name: str) -> str:
    """The method's name as its paper writes it."""
    return ADDITIONS[name].title if name in ADDITIONS else METHODS[name].title(name)


def summary(name: str) -> tuple[str, str]:
    """(where it was published, what it does in a sentence), from the first line of its declaration."""
    first = docstring(files()[name]).split("\n\n")[0].replace("\n", " ")
    found = re.fullmatch(r"(?:[^(:]+ )?\(?([^():]*)\)?: (.+)", first)
    published, _, said = first.partition(": ")
    inner = re.search(r"\((.+)\)$", published)
    return (inner[1] if inner else "", said if found and said else first)


def method_page(name: str) -> str:
    """A method's page as Markdown."""
    published, said = summary(name)
    rest = docstring(files()[name]).partition("\n\n")[2]
    for constant, words in CONSTANTS.items():
        rest = rest.replace(constant.replace(" ", "\n"), constant).replace(constant, words)
    parts = [f"# {escaped(title(name))}\n", f"{escaped(said[:1].upper() + said[1:])}\n"]
    if published:
        parts.append(f"*{escaped(published)}*\n")
    parts.append(_picture(name))
    parts.append(_commands(name))
    parts.append("## What it does, and where paper and code differ\n")
    parts.append(prose(rest) + "\n")
    parts.append(_values(name))
    found = _measured_addition(name) if name in ADDITIONS else result_tables.measured(name)
    parts.append(f"## Measured\n\n{found}")
    parts.append(
        "\nAccuracies are those after the last step. A run with fewer steps or teachers than the method "
        "declares is marked *reduced* in its table, and is no result of the method. "
        "[What the numbers mean](../concepts/protocols.md).\n"
    )
    source = files()[name].relative_to(ROOT).as_posix()
    parts.append(f"The declaration is [{source}]({{{{ repository }}}}/blob/main/{source}).\n")
    return "\n".join(parts)


def _picture(name: str) -> str:
    file = GALLERY / (f"sre2l-{name}.png" if name in ADDITIONS else f"{name}.png")
    if not file.is_file():
        return ""
    return (
        f"![Ten distilled images, one a class]({{{{ gallery }}}}/{file.name}){{ .distilled }}\n\n"
        f"*One distilled image of each class of CIFAR-10. [How they were made](../results/gallery.md).*\n"
    )


def _commands(name: str) -> str:
    if name in ADDITIONS:
        return (
            "## Run it\n\n```sh\n"
            f"fastdd run cifar10cpu-sre2l --add {name}     # its terms on any method\n"
            f"fastdd run cifar100-{name}                   # the released settings\n"
            f"fastdd show cifar100-{name}                  # every value and its source\n```\n"
        )
    return (
        "## Run it\n\n```sh\n"
        f"fastdd run cifar10cpu-{name}    # CIFAR-10 at a laptop's size\n"
        f"fastdd run cifar10-{name}       # as published, for a GPU\n"
        f"fastdd show cifar10-{name}      # every value and its source\n```\n"
    )


def _values(name: str) -> str:
    """The declared values on each data set, with their sources."""
    columns: dict[str, dict[str, tuple[str, str]]] = {}
    arm_name = name
    for dataset in DATA_SETS:
        arms = {}
        for row in values_of(resolve(f"{dataset}-{arm_name}")):
            declared = row.origin.startswith(("method ", "addition ", "add ")) or name in row.origin
            found = re.fullmatch(r"arms\.[^.]+\.(.+)", row.path)
            if declared and found and found[1] != "title" and row.source:
                arms[found[1]] = ("null" if row.value is None else str(row.value), row.source)
        columns[dataset] = arms
    keys = list(dict.fromkeys(key for arms in columns.values() for key in arms))
    rows = []
    for key in keys:
        cells = []
        for dataset in DATA_SETS:
            value, source = columns[dataset].get(key, ("", ""))
            cells.append(f"{code(value)} {source}" if value else "")
        rows.append([f"`{key}`", *cells])
    return (
        "## Switches\n\nEach value with its source: the paper, the released code, or ours. A key is one of "
        "[`arms.NAME`](../reference/recipe.md#armsname), and is overridden as `method.KEY=VALUE`. The values "
        "are those of ten images a class.\n\n" + table(["key", *DATA_SETS], rows)
    )


def _measured_addition(name: str) -> str:
    rows = [
        [
            f"[{run}](../results/runs.md#{run.replace('_', '-')})",
            escaped(row.title),
            row.student,
            "diverged" if row.accuracy is None else f"{row.accuracy:.1f}",
            escaped(row.told),
        ]
        for run, found in result_tables.runs().items()
        for row in found
        if row.arm.endswith(f"+{name}")
    ]
    return table(["run", "set", "student", "last %", "against the control"], rows)


def index_page() -> str:
    """The list of methods."""
    parts = [
        "# Methods\n",
        "Each method is one file that only declares: what images start from, what is compared, and the "
        "values of paper and code. Where they differ, both are switches, and each value says where it comes "
        "from.\n",
    ]
    for kind, heading in FAMILIES.items():
        rows = []
        for name in sorted(
            (each for each in names() if family(each) == kind), key=lambda each: title(each).lower()
        ):
            published, said = summary(name)
            rows.append(
                [f"[{escaped(title(name))}]({name}.md)", code(name), escaped(published), escaped(said)]
            )
        parts.append(
            f"## {heading}\n\n" + table(["method", "name in recipes", "published", "what it does"], rows)
        )
    parts.append(
        "Random real images, `init: kmeans` and other choices of real images are arms without steps: see "
        "[coresets](../how-to/coresets.md). A method of your own is [one file](../how-to/own-method.md).\n"
    )
    return "\n".join(parts)


def pages() -> Iterator[tuple[str, str]]:
    """(path in the documentation, Markdown) of every page of a method."""
    yield "methods/index.md", index_page()
    for name in names():
        yield f"methods/{name}.md", method_page(name)
