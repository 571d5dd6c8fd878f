"""Whatever people type, it ends in a result or in one line: overrides, recipes, grids and arguments.

``pytest tests/test_properties_of_recipes.py --hypothesis-profile long`` tries many more than the suite does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("hypothesis", reason="pip install 'fastdd[dev]'")

from hypothesis import given
from hypothesis import strategies as st
from limits import bounded, damages, tries
from small_recipe import SMALL

from fastdd.config import Recipe
from fastdd.config.validation import schema
from fastdd.errors import InputError
from fastdd.recipes.grid import expand, parse_grid
from fastdd.recipes.presets import recipe_names
from fastdd.recipes.resolve import resolve, table
from fastdd.recipes.students import resolve_student

LONGEST_LINE = 4000
"""characters of a message; what was typed is shortened in it"""


# -- what is typed ---------------------------------------------------------------------------------

PATHS = [path for path, _ in schema(Recipe)]
KEYS = [*PATHS, *(f"method.{path}" for path in ("steps", "lr", "terms.ce.weight", "augment.roll"))]
KEYS += ["arms.deda.steps", "arms.plain.terms", "arms", "arms.", "arms.x.steps", "committee.second.lr"]
KEYS += ["students.other.network", "students", "sweep", "sweep.keys", "name", "steps", "lr", "weight"]
TRICKS = [
    "&a [*a]",
    "*a",
    "!!python/object:os.system",
    "!!binary aGk=",
    "<<: {a: 1}",
    "{<<: {a: 1}}",
    "? [a]",
    "---",
    "%YAML 9",
    "|",
    ">-\n x",
    "'",
    '"\\u0000"',
    '"\\ud800"',
    "\ud800",
    "\0",
    "\x85",
    "\ufeff",
    "{a: 1, a: 2}",
    "{{}: {}}",
    "[[]: []]",
    "{[1]: 2}",
    "{1: 2}",
    "{null: null}",
    "0x1p3",
    "1_000",
    "0b1",
    "-0",
    "1e400",
    "-1e-400",
    "9" * 399,
    "9" * 5000,
    "1." + "0" * 5000,
    "[" * 3000,
    "{a: " * 3000,
    "[" * 39 + "]" * 39,
    "[" + "1," * 5000 + "]",
    "é" * 3000,
    "a.b.c",
    "__class__",
    "-1",
    "2147483648",
    "9223372036854775808",
    ".inf",
    "nan",
    "{weight: .nan}",
    "= =",
    "#",
    " ",
    "",
]
SHAPES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["all", "auto", "real", "noise", "deda", "mtt", "resnet8", "none", "null", "cosine"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=6) | st.sampled_from([part for path in PATHS for part in path.split(".")]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
VALUES = (
    st.sampled_from(TRICKS)
    | st.text(max_size=40)
    | SHAPES.map(json.dumps)
    | SHAPES.map(lambda shape: yaml.safe_dump(shape, default_flow_style=True).strip())
)


@st.composite
def keys(draw: st.DrawFn) -> str:
    """A key, an ending of one, one with a slip of the pen, or any text."""
    key = draw(st.sampled_from(KEYS))
    kind = draw(st.sampled_from(["whole", "whole", "ending", "slip", "text"]))
    if kind == "ending":
        return key[draw(st.integers(0, max(0, len(key) - 1))) :]
    if kind == "slip":
        at = draw(st.integers(0, len(key)))
        return key[:at] + draw(st.text(max_size=3)) + key[at + draw(st.integers(0, 2)) :]
    return draw(st.text(max_size=30)) if kind == "text" else key


OVERRIDES = st.builds(lambda key, value: f"{key}={value}", keys(), VALUES) | st.text(max_size=30)


def one_line(error: InputError) -> str:
    """The line that the command prints."""
    line = "\\n".join(str(error).splitlines())
    assert line.strip()
    assert len(line) < LONGEST_LINE, f"{len(line)} characters: {line[:300]} ..."
    return line


def resolves(recipe: str, overrides: list[str], **more: object) -> None:
    """Resolve a recipe and list its values, or refuse it in one line."""
    with bounded():
        try:
            resolved = resolve(recipe, overrides, **more)
            assert table(resolved)
            assert isinstance(resolved.recipe, Recipe)
        except InputError as error:
            one_line(error)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("typed") / "small.yaml"
    path.write_text(SMALL)
    assert set(resolve(str(path)).recipe.arms) == {"deda", "plain"}
    return str(path)


@tries(150)
@given(overrides=st.lists(OVERRIDES, min_size=1, max_size=3))
def test_overrides_of_any_text(small: str, overrides: list[str]) -> None:
    resolves(small, overrides)


@tries(60)
@given(key=keys(), value=VALUES)
def test_each_trick_at_each_key(small: str, key: str, value: str) -> None:
    resolves(small, [f"{key}={value}"])


@tries(30)
@given(key=keys(), value=VALUES)
def test_overrides_of_a_protocol_alone(key: str, value: str) -> None:
    with bounded():
        try:
            resolve_student({}, None, [f"{key}={value}"])
        except InputError as error:
            one_line(error)


@tries(40)
@given(axes=st.lists(OVERRIDES | st.text(max_size=20), min_size=1, max_size=2))
def test_grids_of_any_text(small: str, axes: list[str]) -> None:
    with bounded():
        try:
            expand(small, [parse_grid(axis) for axis in axes])
        except InputError as error:
            one_line(error)


@tries(20)
@given(
    name=st.text(max_size=30) | st.sampled_from(recipe_names()), add=st.lists(st.text(max_size=6), max_size=2)
)
def test_names_of_any_text(name: str, add: list[str]) -> None:
    resolves(name, [], add=add)


# -- recipe files ----------------------------------------------------------------------------------

WHOLE = (SMALL, (Path(__file__).parent / "three_arms.yaml").read_text())
FILES = st.sampled_from(WHOLE)


def places(tree: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where the values of a document stand, sections and lists included."""
    found = [at] if at else []
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            found += places(value, (*at, key))
    return found


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A recipe in which one to three values are replaced, taken out, renamed, doubled or put elsewhere."""
    tree = yaml.safe_load(draw(FILES))
    for _ in range(draw(st.integers(1, 3))):
        where = places(tree)
        if not where:
            break
        *outer, last = draw(st.sampled_from(where))
        inner = tree
        for key in outer:
            inner = inner[key]
        kind = draw(st.sampled_from(["replace", "out", "rename", "nest", "copy"]))
        if kind == "replace":
            inner[last] = draw(SHAPES)
        elif kind == "out":
            del inner[last]
        elif kind == "nest":
            inner[last] = draw(st.sampled_from([[inner[last]], {"a": inner[last]}, {last: inner[last]}]))
        elif isinstance(inner, dict):
            new = draw(st.text(max_size=8) | st.sampled_from([str(part) for at in where for part in at]))
            inner[new] = inner[last] if kind == "copy" else inner.pop(last)
    return yaml.safe_dump(tree, allow_unicode=True)


@tries(120)
@given(text=changed())
def test_recipes_whose_values_are_changed(small: str, text: str) -> None:
    file = Path(small).with_name("changed.yaml")
    file.write_text(text, encoding="utf-8")
    resolves(str(file), [])


@tries(80)
@given(whole=FILES, damage=damages())
def test_recipe_files_that_are_damaged(small: str, whole: str, damage: Callable[[bytes], bytes]) -> None:
    file = Path(small).with_name("damaged.yaml")
    file.write_bytes(damage(whole.encode()))
    resolves(str(file), [])


@tries(40)
@given(content=st.binary(max_size=60) | VALUES.map(lambda text: text.encode(errors="replace")))
def test_files_that_are_no_recipes(small: str, content: bytes) -> None:
    file = Path(small).with_name("any.yaml")
    file.write_bytes(content)
    resolves(str(file), [])
