"""Where a value comes from: printed in a paper, found in released code, or our own choice.

Method declarations write ``lr=code(0.25)``; recipes write the same as ``lr: !code 0.25``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml

Source = Literal["paper", "code", "ours"]
SOURCES: tuple[Source, ...] = ("paper", "code", "ours")


@dataclass(frozen=True)
class Sourced:
    """A value with its source."""

    value: Any
    source: Source


def paper(value: Any) -> Sourced:
    """The value that the method's paper prints."""
    return Sourced(value, "paper")


def code(value: Any) -> Sourced:
    """The value of the released code, where the paper is silent or differs."""
    return Sourced(value, "code")


def ours(value: Any) -> Sourced:
    """The value that we chose; the recipe or the method's docstring says why."""
    return Sourced(value, "ours")


class _Loader(yaml.SafeLoader):
    """Safe YAML that also knows !paper, !code and !ours, and refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                None, None, f"key written twice: {sorted(map(str, twice))[0]}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _sourced(source: Source) -> Any:
    def construct(loader: yaml.SafeLoader, node: yaml.Node) -> Sourced:
        if isinstance(node, yaml.SequenceNode):
            return Sourced(loader.construct_sequence(node, deep=True), source)
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"!{source} takes a value, not a mapping", node.start_mark
            )
        # resolve "0.25" to a number as YAML would without the tag
        tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))
        return Sourced(
            loader.construct_object(yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark)), source
        )

    return construct


for _source in SOURCES:
    _Loader.add_constructor(f"!{_source}", _sourced(_source))


def parse_yaml(text: str) -> Any:
    """Parse recipe YAML; tagged values become Sourced.

    Raises:
        yaml.YAMLError: the text is not valid YAML.
    """
    return yaml.load(text, Loader=_Loader)
