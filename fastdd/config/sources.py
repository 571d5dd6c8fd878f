"""Where a value comes from: who set it, and whether it is printed in a paper, found in released code, or our
own choice. Values that remember it stand in trees, which are laid one over another.

A method's file writes ``"lr": code(0.25)``; a recipe writes the same as ``lr: !code 0.25``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import yaml
from pydantic import JsonValue

from .yaml_text import Loader, load_yaml, mistake

Source = Literal["paper", "code", "ours"]
SOURCES: tuple[Source, ...] = ("paper", "code", "ours")


@dataclass(frozen=True)
class Sourced:
    """A value with its source."""

    value: JsonValue
    source: Source


def paper(value: JsonValue) -> Sourced:
    """A value that the method's paper prints."""
    return Sourced(value, "paper")


def code(value: JsonValue) -> Sourced:
    """A value of the released code, where the paper is silent or differs."""
    return Sourced(value, "code")


def ours(value: JsonValue) -> Sourced:
    """A value that fastdd chose; the recipe or the method's docstring says why."""
    return Sourced(value, "ours")


class _Loader(Loader):
    """A recipe's YAML, which also knows !paper, !code and !ours."""

    def sourced(self, source: Source, node: yaml.Node) -> Sourced:
        """The Sourced of a value with the tag ``!source``."""
        if isinstance(node, yaml.SequenceNode):
            return Sourced(cast("JsonValue", self.sequence(node)), source)
        if not isinstance(node, yaml.ScalarNode):
            raise mistake(f"!{source} takes a value, not a mapping", node)
        return Sourced(cast("JsonValue", self.plain(node)), source)


def _constructor(source: Source) -> Callable[[_Loader, yaml.Node], Sourced]:
    return lambda loader, node: loader.sourced(source, node)


for _source in SOURCES:
    _Loader.add_constructor(f"!{_source}", _constructor(_source))


def parse_recipe(text: str, origin: str) -> object:
    """The document in a recipe's YAML; values with a tag become Sourced.

    Args:
        origin: where the text is from, for the message.

    Raises:
        InputError: the text is not valid YAML.
    """
    return load_yaml(text, origin, _Loader)


@dataclass(frozen=True)
class Leaf:
    """A value and who set it.

    Attributes:
        origin: such as a file's name, ``method deda`` or ``command line``.
        source: ``paper``, ``code`` or ``ours`` where the origin says so, else empty.
    """

    value: JsonValue
    origin: str
    source: str = ""


Tree: TypeAlias = "dict[str, Tree | Leaf]"


def with_origin(node: object, origin: str) -> Tree | Leaf:
    """The same mappings with each value made a Leaf."""
    if isinstance(node, dict):
        return {key: with_origin(value, origin) for key, value in node.items()}
    if isinstance(node, Sourced):
        return Leaf(node.value, origin, node.source)
    return Leaf(cast(JsonValue, node), origin)


def tree_of(mapping: dict[str, object], origin: str) -> Tree:
    """``with_origin`` of a mapping."""
    return {key: with_origin(value, origin) for key, value in mapping.items()}


def plain_values(node: Tree | Leaf) -> JsonValue:
    """The values alone."""
    return node.value if isinstance(node, Leaf) else {key: plain_values(value) for key, value in node.items()}


def value_at(tree: Tree, path: str) -> JsonValue:
    """The plain value at a dotted path; None where there is none."""
    node: Tree | Leaf | None = tree
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return None if node is None else plain_values(node)


def section(node: Tree | Leaf, key: str) -> Tree:
    """The mapping at a key; empty where there is none."""
    found = node.get(key) if isinstance(node, dict) else None
    return found if isinstance(found, dict) else {}


def merge(base: Tree, patch: Tree) -> Tree:
    """Lay ``patch`` over ``base``: mappings are merged key by key, anything else is replaced."""
    merged: Tree = dict(base)
    for key, value in patch.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def nested(keys: list[str], node: Tree | Leaf) -> Tree:
    """The tree in which only ``keys``, one within the other, lead to ``node``."""
    *outer, last = keys
    tree: Tree = {last: node}
    for key in reversed(outer):
        tree = {key: tree}
    return tree


def leaves(node: Tree | Leaf, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """The dotted path and the leaf of each value."""
    if isinstance(node, Leaf):
        yield path, node
    else:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
