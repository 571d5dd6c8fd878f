"""Where a value comes from: printed in a paper, found in released code, or our own choice.

A method's file writes ``"lr": code(0.25)``; a recipe writes the same as ``lr: !code 0.25``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

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
