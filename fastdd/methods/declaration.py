"""What a method's file declares: values that hold everywhere, and what differs by data set and by images a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.sources import Sourced, ours

Patch = dict[str, Any]
"""nested mapping with Sourced leaves"""
Rule = Callable[[str | None, int], Patch]
"""(data set, images a class) -> what they change"""

LARGE = {"imagenette": "imagenet1k"}
"""data sets that take another's values where a method has none for them: the same size of images and network"""


def _nothing(dataset: str | None, ipc: int) -> Patch:
    return {}


@dataclass(frozen=True)
class Declaration:
    """A method.

    Attributes:
        method: values that hold where nothing else is said.
        scripts: data sets for which the authors released settings; on others released values are our choice.
        on: by data set, what differs there.
        at: what the number of images a class changes.
    """

    method: Patch
    scripts: tuple[str, ...] = ()
    on: Mapping[str, Patch] = field(default_factory=dict)
    at: Rule = _nothing

    def layers(self, name: str, dataset: str | None, ipc: int) -> list[tuple[str, Patch]]:
        """(origin, patch), the later over the earlier.

        Args:
            name: of the method, for the origin.
            dataset: None where the images are none of the known ones.
        """
        everywhere, there = f"method {name}", f"method {name} on {dataset}" if dataset else f"method {name}"
        patch = {} if dataset is None else self.on.get(dataset, self.on.get(LARGE.get(dataset, ""), {}))
        found = [(everywhere, self.method), (there, patch), (f"{there} at ipc {ipc}", self.at(dataset, ipc))]
        if dataset is None or dataset in self.scripts:
            return found
        return [(origin, borrowed(patch)) for origin, patch in found]


def borrowed(node: Any) -> Any:
    """A patch whose released values were released for other images, which makes them our choice; the paper's stay."""
    if isinstance(node, dict):
        return {key: borrowed(value) for key, value in node.items()}
    return ours(node.value) if isinstance(node, Sourced) and node.source == "code" else node
