"""Layers of values: nests whose leaves remember which layer set them, laid one over another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .sources import Sourced


@dataclass(frozen=True)
class Leaf:
    """A value, the layer that set it, and its source where one is named."""

    value: Any
    origin: str
    source: str = ""


def tag(node: Any, origin: str) -> Any:
    """The same nest with every leaf wrapped."""
    if isinstance(node, dict):
        return {key: tag(value, origin) for key, value in node.items()}
    if isinstance(node, Sourced):
        return Leaf(node.value, origin, node.source)
    return Leaf(node, origin)


def untag(node: Any) -> Any:
    """The plain values of a wrapped nest."""
    return node.value if isinstance(node, Leaf) else {key: untag(value) for key, value in node.items()}


def merge(base: Any, patch: Any) -> Any:
    """patch over base: mappings are merged key by key, anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(patch, dict)):
        return patch
    return {**base, **{key: merge(base.get(key), value) for key, value in patch.items()}}


def nest(path: str, leaf: Any) -> dict[str, Any]:
    """The nest that holds one leaf, at a dotted path."""
    for key in reversed(path.split(".")):
        leaf = {key: leaf}
    return leaf


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Dotted path and leaf of everything in a wrapped nest."""
    if isinstance(node, Leaf):
        yield path, node
    else:
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
