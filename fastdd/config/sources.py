"""Where a value comes from: printed in a paper, found in released code, or our own choice.

A method's file writes ``"lr": code(0.25)``; a recipe writes the same as ``lr: !code 0.25``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import yaml
from pydantic import JsonValue

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


class _Loader(yaml.SafeLoader):
    """Safe YAML that also knows !paper, !code and !ours, and refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                problem=f"key written twice: {min(map(str, twice))}", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def _constructor(source: Source) -> Callable[[_Loader, yaml.Node], Sourced]:
    """What makes a Sourced of a value with the tag ``!source``."""

    def construct(loader: _Loader, node: yaml.Node) -> Sourced:
        if isinstance(node, yaml.SequenceNode):
            return Sourced(loader.construct_sequence(node, deep=True), source)
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                problem=f"!{source} takes a value, not a mapping", problem_mark=node.start_mark
            )
        # "0.25" becomes a number, as YAML makes it without the tag
        tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))
        untagged = yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark)
        return Sourced(loader.construct_object(untagged), source)

    return construct


for _source in SOURCES:
    _Loader.add_constructor(f"!{_source}", _constructor(_source))


def parse_yaml(text: str) -> object:
    """The document in a recipe's YAML; values with a tag become Sourced.

    Raises:
        yaml.YAMLError: the text is not valid YAML.
    """
    document: object = yaml.load(text, Loader=_Loader)
    return document
