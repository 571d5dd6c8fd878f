"""What a method's file declares: values for everywhere, and what differs by data set and images a class.

A file of this folder ends with ``register_method(name, Declaration(...))``. Other distributions name a
Declaration, or a plain mapping, by an entry point of the group ``fastdd.methods``. Importing the declarations
does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from ..config.sources import Source, Sourced, ours
from ..errors import InputError
from ..runtime.registry import Registry

Patch = Mapping[str, object]
"""nested mapping of a method's keys; its leaves are Sourced, or plain values, whose source is ours"""
Rule = Callable[[str | None, int], Patch]
"""(data set or None, images a class) -> values that they change"""
Members = Mapping[str, Patch]
"""name of a further teacher -> values in which it differs from the data set's teacher"""

LARGE = {"imagenette": "imagenet1k"}
"""data set -> data set with images and networks of the same size, whose values it takes if a method has none
for it"""
SAME_IMAGES = {"cifar10cpu": "cifar10"}
"""data set -> data set of the same images, whose values a method takes; teacher and students are its own"""


def _nothing(dataset: str | None, ipc: int) -> Patch:
    return {}


@dataclass(frozen=True)
class Declaration:
    """A method.

    Attributes:
        values: values that hold everywhere unless ``on`` or ``at`` changes them, in the keys of a recipe's
            arm.
        scripts: data sets for which the authors released settings; elsewhere the source of released values is
            ours.
        on: data set -> values that differ there.
        at: (data set, images a class) -> values that the number of images a class changes.
        committee: data set -> further teachers, for a method that uses several.
        protocol: protocol of the students in recipes that name none and whose arms all declare this one, such
            as DATASET-METHOD; None: the data set's.
        protocol_on: data set -> protocol in place of ``protocol``.
        student_at: (data set, images a class) -> values of the students that differ from their protocol's.
        labels: the section ``labels`` of recipes DATASET-METHOD that have a committee.
    """

    values: Patch
    scripts: tuple[str, ...] = ()
    on: Mapping[str, Patch] = field(default_factory=dict)
    at: Rule = _nothing
    committee: Mapping[str, Members] = field(default_factory=dict)
    protocol: Sourced | None = None
    protocol_on: Mapping[str, Sourced] = field(default_factory=dict)
    student_at: Rule = _nothing
    labels: Patch = field(default_factory=dict)

    def title(self, name: str) -> str:
        """The method's label in figures: its declared title, else its name."""
        title = self.values.get("title", name)
        return str(title.value if isinstance(title, Sourced) else title)

    def layers(self, name: str, dataset: str | None, ipc: int) -> list[tuple[str, dict[str, object]]]:
        """The declared values for a data set and images a class, as (origin, patch); later ones override.

        Args:
            dataset: name of the data set; None: the images are of no known data set.
        """
        dataset = SAME_IMAGES.get(dataset or "", dataset)
        everywhere, there = f"method {name}", f"method {name} on {dataset}" if dataset else f"method {name}"
        patch = {} if dataset is None else self.on.get(dataset, self.on.get(LARGE.get(dataset, ""), {}))
        found = [(everywhere, self.values), (there, patch), (f"{there} at ipc {ipc}", self.at(dataset, ipc))]
        return [(origin, self._there(patch, dataset)) for origin, patch in found]

    def student(self, dataset: str | None, ipc: int) -> dict[str, object]:
        """The recipe's section ``student`` on a data set, or on images of none, which names the protocol;
        empty where the method declares none."""
        protocol = self.protocol_on.get(dataset or "", self.protocol)
        if protocol is None:
            return {}
        images = SAME_IMAGES.get(dataset or "", dataset)
        return self._there({"protocol": protocol, **self.student_at(images, ipc)}, images)

    def _there(self, patch: Patch, dataset: str | None) -> dict[str, object]:
        """A patch with the sources that its values have on a data set."""
        borrows = dataset is not None and dataset not in self.scripts
        return borrowed(patch) if borrows else marked(patch)


def marked(patch: Patch) -> dict[str, object]:
    """The patch with the source ours at its plain values."""
    return _mapped(patch, lambda leaf: leaf)


def borrowed(patch: Patch) -> dict[str, object]:
    """The patch on a data set without released settings: released values become ours, the paper's stay."""
    return _mapped(patch, lambda leaf: ours(leaf.value) if leaf.source == "code" else leaf)


def _mapped(patch: Patch, change: Callable[[Sourced], Sourced]) -> dict[str, object]:
    """The patch with every leaf changed, a plain value first into a Sourced one."""
    changed: dict[str, object] = {}
    for key, value in patch.items():
        if isinstance(value, Mapping):
            changed[key] = _mapped(value, change)
        else:
            changed[key] = change(value if isinstance(value, Sourced) else ours(cast("JsonValue", value)))
    return changed


def members(
    source: Source, networks: str, minimum: float | None = None, training: Patch | None = None
) -> Members:
    """Further teachers, each called by the name of its network.

    Args:
        networks: names of the networks, separated by spaces.
        minimum: test accuracy, 0 to 1, that each must reach; None: that of the run's own teacher.
        training: values of squeeze that differ from those of the run's own teacher.
    """
    floor = {} if minimum is None else {"minimum_accuracy": ours(minimum)}
    rest = {**floor, **(training or {})}
    return {name: {"network": Sourced(name, source), **rest} for name in networks.split()}


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
                f"method {name!r} must be a mapping of method keys, such as {{'init': 'real'}}, "
                f"or a fastdd.methods.Declaration, got {thing!r}"
            )


@dataclass(frozen=True)
class Addition:
    """Terms that ``--add NAME`` lays over any method.

    Attributes:
        title: label in figures, written after the title of the method.
        terms: the terms, in the keys of ``terms`` in recipes.
        beside_match: for a method of the matching family, how the terms join it, in the keys of
            ``match.added``.
        several_slots: slots of a batch, for a method whose batch would hold one image of each class; with
            --add a control then has the same batch without the terms.
        over: name of the method that the released settings extend.
        released: data set -> values that the released settings change in that method, for recipes
            DATASET-NAME.
        protocol_on: data set -> protocol of the students in recipes DATASET-NAME; others have the method's.
    """

    title: str
    terms: Patch
    beside_match: Patch
    several_slots: Sourced
    over: str
    released: Callable[[str], Patch]
    protocol_on: Mapping[str, Sourced] = field(default_factory=dict)


METHODS = _MethodRegistry("method", "fastdd.methods", "fastdd.methods")
ADDITIONS: Registry[Addition] = Registry("addition", "fastdd.methods", "fastdd.additions")


def register_method(name: str, declaration: Declaration | Patch) -> None:
    """Make a method known to this process; see ``fastdd.register_method``."""
    METHODS.register(name, declaration)


def register_addition(name: str, addition: Addition) -> None:
    """Make an addition known: ``--add NAME``, and recipes DATASET-NAME for its released settings."""
    ADDITIONS.register(name, addition)
