"""From a recipe's name and ``key=value`` texts to one validated Recipe, with who set each value.

Each of these is laid over the ones before it:

    run     the types' defaults, the data set, the student's protocol, the recipe, key=value
            (each of the further students has its own protocol, over the data set's student; where nobody
            names one, the protocol that the methods of all arms declare; with ``regimes`` each kind of
            students is then there once in every regime)
    arm     the types' defaults, the method, what it declares for the data set and the images a class, its
            additions, the recipe's section ``method`` (for every arm), the arm's own section, --add,
            key=value

overrides.py says how a key may be written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from ..config import Config, Count, Recipe, as_plain
from ..config.sources import Leaf, Tree, leaves, merge, plain_values, section, tree_of, value_at
from ..config.student import Regime, read_regimes
from ..config.validation import validated
from ..errors import InputError
from .arms import add_to_all, arm_values, of_arms, reduced_arms, with_declared_committees, with_student_arms
from .overrides import Address, Override, parse_overrides, set_value, texts_of, values_outside_arms
from .presets import Document, data_set, read, recipe_names
from .published import printed_arms, unknown_names, with_published
from .students import (
    of_students,
    protocol_of_methods,
    student_over,
    with_one_length,
    with_plain,
    with_protocol,
    with_regimes,
    with_student_labels,
    with_students,
)

REGIMES = "regimes"
"""key of a recipe that is no value of it, but says how its students are multiplied"""


@dataclass(frozen=True)
class Resolved:
    """A validated recipe and who set its values.

    Attributes:
        leaves: the leaf at each dotted path; a path that is absent has its type's default.
        addresses: for each override, the addresses of the values that it set.
        note: lines on the students' protocol and on a paper's numbers that whoever runs the recipe should
            know; empty: there are none.
        reduced: what arms have less of than their methods declare, see ``reduced_arms``.
    """

    recipe: Recipe
    leaves: dict[str, Leaf]
    addresses: tuple[tuple[Address, ...], ...] = ()
    note: str = ""
    reduced: Mapping[str, str] = field(default_factory=dict)


class Row(NamedTuple):
    """A value of a resolved recipe: its dotted path, who set it, and where that one says it comes from."""

    path: str
    value: JsonValue
    origin: str
    source: str


class _ImagesAClass(Config):
    """A recipe's ``ipc`` alone, which is needed before the arms are known."""

    ipc: Count = Recipe.model_fields["ipc"].default


def resolve(
    name: str,
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    arms: Sequence[str] = (),
    students: Sequence[str] = (),
) -> Resolved:
    """Resolve a recipe.

    Args:
        name: a built-in recipe or the path of a YAML file.
        overrides: ``key=value`` texts, the later over the earlier.
        add: additions for every arm, such as ``dire``; an arm ``x`` is then called ``x+dire``, and where the
            addition changes its batch, ``x-as-dire`` before it is the control with that batch.
        arms, students: as for ``fastdd.run``.

    Raises:
        InputError: an unknown recipe, key or method, or a value of the wrong type or out of range.
    """
    texts = parse_overrides(overrides)
    given = [override for override in texts if override.key != REGIMES]
    add = texts_of("add", add, "dire")
    whole = read(name)
    chosen = of_students(whole, texts_of("students", students, "convnet"))
    document = on_data_set(of_arms(chosen, texts_of("arms", arms, "deda")), name, given)
    origin, dataset = document.origin, document.dataset
    base = {} if dataset is None else tree_of(data_set(dataset, origin), f"data set {dataset}")
    named_set = {} if dataset is None else {"dataset": dataset}
    tree = tree_of({"name": Path(name).stem, **named_set, **document.values}, origin)
    asked = values_outside_arms(Recipe, given)
    ipc = _images_a_class(merge(merge(base, tree), asked), origin)
    unknown = unknown_names(whole)
    tree, unprinted = with_published(tree, document, ipc)
    if not arms:
        document, left_out = printed_arms(document, section(tree, "published"))
        unprinted = unprinted or left_out
    document, committee = with_declared_committees(document)
    tree |= tree_of(committee, "the methods of the arms")
    made: Tree = {arm: arm_values(arm, document, ipc) for arm in document.arms}
    named = any(value_at(each, "student.protocol") is not None for each in (tree, asked))
    default = str(value_at(base, "student.protocol") or "house")
    declared, note = ({}, "") if named else protocol_of_methods(document, ipc, default)
    tree = merge({"student": declared}, tree)
    for extra in dict.fromkeys(add):
        made = add_to_all(made, extra)
    tree = with_student_arms(tree, written=whole.arms, made=made)
    tree = _with_committee(base, with_students(base, tree, given))
    below = with_protocol(base, tree, asked)
    student = student_over(section(below, "student"), section(tree, "student"))
    tree = merge(below, tree) | ({"student": student} if student else {}) | {"arms": made}
    addresses: list[tuple[Address, ...]] = []
    for override in texts:
        found: tuple[Address, ...] = ()
        if override in given:
            tree, found = set_value(Recipe, tree, override)
        addresses.append(found)
    set_by_hand = list(chain(*addresses))
    tree = with_student_labels(with_plain(with_one_length(tree, set_by_hand), set_by_hand))
    tree = with_regimes(tree, _regimes(document, texts))
    recipe = validated(Recipe, plain_values(tree), origin)
    unmeasured = ""
    if recipe.published is not None and recipe.published.features and recipe.metrics.features is None:
        unmeasured = (
            f"{recipe.published.item} has numbers in CLIP's features too, which metrics.features=clip:FILE "
            "measures; without it they stand in no table"
        )
    notes = "\n".join(text for text in (note, unknown, unprinted, unmeasured) if text)
    reduced = reduced_arms(recipe, document)
    return Resolved(recipe, dict(leaves(tree)), tuple(addresses), notes, reduced)


def _regimes(document: Document, overrides: Sequence[Override]) -> list[Regime]:
    """The regimes that an override or the recipe asks for; empty: none does."""
    asked = [override.text for override in overrides if override.key == REGIMES]
    given, origin = (asked[-1], REGIMES) if asked else (document.regimes, f"{document.origin}: {REGIMES}")
    return [] if given is None else read_regimes(given, origin)


def table(resolved: Resolved) -> list[Row]:
    """Every value of a resolved recipe, defaults included."""
    rows = []
    for path, value in _values({**as_plain(resolved.recipe), **_unsaved(resolved.recipe)}):
        leaf = resolved.leaves.get(path, Leaf(value, "default"))
        rows.append(Row(path, value, leaf.origin, leaf.source))
    return rows


def _unsaved(recipe: Recipe) -> dict[str, JsonValue]:
    """The values of a recipe that change no result and that the saved recipe is without, by dotted path."""
    students = {"student": recipe.student}
    students |= {f"students.{name}": each for name, each in recipe.students.items()}
    values: dict[str, JsonValue] = {}
    for key, student in students.items():
        values |= {f"{key}.keep": student.keep, f"{key}.checkpoint_every": student.checkpoint_every}
    return {**values, "log": list(recipe.log)}


def _values(node: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The dotted path and the value of each value that is no mapping, or an empty one."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _values(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def on_data_set(document: Document, name: str, overrides: Sequence[Override]) -> Document:
    """A recipe with the data set that ``dataset=NAME`` gives it.

    Args:
        name: the recipe's name, or its file.

    Raises:
        InputError: the recipe takes no data set, or is of one by its name.
    """
    asked = [override.text for override in overrides if override.key == "dataset"]
    if not asked or document.dataset == asked[-1]:
        return document
    if document.dataset is None:
        raise InputError(
            f"dataset={asked[-1][:60]}: {document.origin} takes no data set, it says itself where its images "
            "are; leave it out"
        )
    dataset, _, method = name.partition("-")
    if dataset == document.dataset and f"{asked[-1]}-{method}" in recipe_names():
        raise InputError(
            f"dataset={asked[-1]}: {name} is of {dataset}; the recipe is called {asked[-1]}-{method}"
        )
    return replace(document, dataset=asked[-1])


def _with_committee(base: Tree, tree: Tree) -> Tree:
    """The recipe's values with each further teacher laid over the data set's teacher."""
    teacher, committee = section(base, "teacher"), section(tree, "committee")
    if not teacher or not committee:
        return tree
    whole: Tree = {}
    for name, member in committee.items():
        whole[name] = merge(teacher, member) if isinstance(member, dict) else member
    return {**tree, "committee": whole}


def data_root(name: str, overrides: Sequence[str] = ()) -> str | None:
    """``data.root`` of a recipe, which is not resolved: that needs its arms' terms, and they torch.

    Args:
        name, overrides: as for ``resolve``.

    Returns:
        The root; None: it is no text.

    Raises:
        InputError: an unknown recipe or data set.
    """
    texts = parse_overrides(overrides)
    document = on_data_set(read(name), name, texts)
    base: Tree = {}
    if document.dataset is not None:
        base = tree_of(data_set(document.dataset, document.origin), f"data set {document.dataset}")
    root = value_at(merge(base, tree_of(document.values, document.origin)), "data.root")
    for override in texts:
        if override.key in ("data.root", "root"):
            root = override.text
    return root if isinstance(root, str) else None


def _images_a_class(tree: Tree, origin: str) -> int:
    """The recipe's ``ipc``, validated, for which the methods' declarations are asked."""
    given = {"ipc": value_at(tree, "ipc")} if "ipc" in tree else {}
    return validated(_ImagesAClass, given, origin).ipc
