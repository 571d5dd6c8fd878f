"""What a method's file declares: values that hold everywhere, and what differs by data set and by images a class.

A file of this folder ends with ``register_method(name, Declaration(...))``; other distributions name a Declaration, or a
plain mapping, by an entry point of the group ``fastdd.methods``. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.sources import Source, Sourced, ours
from ..errors import InputError
from ..runtime.registry import Registry

Patch = Mapping[str, object]
"""nested mapping of a method's keys; its leaves are Sourced, or plain values, which count as our choice"""
Rule = Callable[[str | None, int], Patch]
"""(data set, images a class) -> what they change"""
Members = Mapping[str, Patch]
"""further teachers by name -> what differs from the data set's teacher"""

LARGE = {"imagenette": "imagenet1k"}
"""data sets that take another's values where a method has none for them: the same size of images and network"""


def _nothing(dataset: str | None, ipc: int) -> Patch:
    return {}


@dataclass(frozen=True)
class Declaration:
    """A method.

    Attributes:
        values: what holds where nothing else is said, in the keys of ``method`` in recipes.
        scripts: data sets for which the authors released settings; on others released values are our choice.
        on: data set -> what differs there.
        at: what the number of images a class changes.
        committee: data set -> further teachers of a method that hears several.
    """

    values: Patch
    scripts: tuple[str, ...] = ()
    on: Mapping[str, Patch] = field(default_factory=dict)
    at: Rule = _nothing
    committee: Mapping[str, Members] = field(default_factory=dict)

    def title(self, name: str) -> str:
        """What figures call the method; its name where it declares no title."""
        title = self.values.get("title", name)
        return str(title.value if isinstance(title, Sourced) else title)

    def layers(self, name: str, dataset: str | None, ipc: int) -> list[tuple[str, dict[str, object]]]:
        """(origin, patch) of all that is declared for a data set and images a class, the later over the earlier.

        Args:
            name: name of the method, for the origin.
            dataset: None where the images are none of the known ones.
            ipc: images a class.
        """
        everywhere, there = f"method {name}", f"method {name} on {dataset}" if dataset else f"method {name}"
        patch = {} if dataset is None else self.on.get(dataset, self.on.get(LARGE.get(dataset, ""), {}))
        found = [(everywhere, self.values), (there, patch), (f"{there} at ipc {ipc}", self.at(dataset, ipc))]
        borrows = dataset is not None and dataset not in self.scripts
        return [(origin, borrowed(patch) if borrows else marked(patch)) for origin, patch in found]


def marked(patch: Patch) -> dict[str, object]:
    """A patch whose plain values are marked as our choice."""
    return _mapped(patch, lambda leaf: leaf if isinstance(leaf, Sourced) else ours(leaf))


def borrowed(patch: Patch) -> dict[str, object]:
    """A patch whose released values were released for other images, which makes them our choice; the paper's stay."""
    return _mapped(marked(patch), lambda leaf: ours(leaf.value) if leaf.source == "code" else leaf)


def _mapped(patch: Patch, change: Callable[[Any], Sourced]) -> dict[str, object]:
    """The patch with every leaf changed."""
    return {
        key: _mapped(value, change) if isinstance(value, Mapping) else change(value)
        for key, value in patch.items()
    }


def members(source: Source, networks: str, minimum: float | None = None) -> Members:
    """Further teachers by the names of their networks.

    Args:
        source: where the choice of networks is from.
        networks: names, separated by spaces.
        minimum: test accuracy that each must reach, where that is not the one of the run's own teacher.
    """
    floor = {} if minimum is None else {"minimum_accuracy": ours(minimum)}
    return {name: {"network": Sourced(name, source), **floor} for name in networks.split()}


class _MethodRegistry(Registry[Declaration]):
    """All methods by name; a plain mapping becomes a Declaration of values that hold everywhere."""

    def register(self, name: str, thing: Declaration | Patch) -> None:
        super().register(name, Declaration(thing) if isinstance(thing, Mapping) else thing)

    def _check(self, name: str, thing: Declaration) -> None:
        if "." in name:
            raise InputError(
                f"{name!r} cannot name a method, whose images lie in a folder of that name; leave out '.'"
            )
        if not isinstance(thing, Declaration):
            raise InputError(
                f"method {name!r} must be a mapping of method keys, such as {{'init': 'real', 'steps': 500}}, or a "
                f"fastdd.methods.Declaration, got {thing!r}"
            )


@dataclass(frozen=True)
class Addition:
    """Terms that ``--add NAME`` lays over any method.

    Attributes:
        title: what the title of the method is followed by.
        terms: the terms.
        several_slots: slots of a batch, for methods whose batch holds one image of each class.
        over: the method that the released settings are for.
        released: data set -> what the released settings change in that method; recipes DATASET-NAME take them.
    """

    title: str
    terms: Patch
    several_slots: Sourced
    over: str
    released: Callable[[str], Patch]


METHODS = _MethodRegistry("method", "fastdd.methods", "fastdd.methods")
ADDITIONS: Registry[Addition] = Registry("addition", "fastdd.methods", "fastdd.additions")


def register_method(name: str, declaration: Declaration | Patch) -> None:
    """Make a method known: recipes may then say ``method: NAME``, and there are recipes DATASET-NAME.

    Raises:
        InputError: the name is taken or no folder's name, or the declaration is no mapping.
    """
    METHODS.register(name, declaration)


def register_addition(name: str, addition: Addition) -> None:
    """Make an addition known: ``--add NAME``, and recipes DATASET-NAME for its released settings.

    Raises:
        InputError: the name is taken.
    """
    ADDITIONS.register(name, addition)
