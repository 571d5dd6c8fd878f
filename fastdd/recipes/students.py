"""The protocols of a recipe's students: presets, what a data set and a recipe say, and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from pydantic import JsonValue

from ..config import Config, Student
from ..config.sources import (
    Leaf,
    Sourced,
    Tree,
    merge,
    nested,
    plain_values,
    section,
    tree_of,
    value_at,
    with_origin,
)
from ..config.student import OF_LABELS, PLAIN, REGIMES, Regime
from ..config.validation import validated
from ..errors import InputError, suggestion
from ..methods import ADDITIONS, METHODS
from ..protocols import preset
from .arms import base_method
from .overrides import Address, Override, parse_overrides, set_value, values_outside_arms
from .presets import Document


class _Protocol(Config):
    """A recipe's section ``student`` alone, so that its keys and messages are those of recipes."""

    student: Student


LENGTHS = ("steps", "epochs")
"""The two ways of saying how long a student is trained; one replaces the other."""


OF_STUDENTS = ("students", "student_arms", "student_labels", "student_views")
"""The sections of a recipe that are by name of a further student."""


def of_students(document: Document, names: Sequence[str]) -> Document:
    """A recipe with some of its further students.

    Args:
        names: the students that are kept beside those of the section ``student``; empty: all.

    Raises:
        InputError: the recipe has no student of a name.
    """
    if not names:
        return document
    known = cast("dict[str, object]", document.values.get("students") or {})
    for name in names:
        if name not in known:
            listed = f"students: {', '.join(known)}" if known else "leave --students out, for it has none"
            raise InputError(
                f"{document.origin} has no further student {name!r}{suggestion(name, known)}; {listed}"
            )
    kept = {
        section: {name: value for name, value in values.items() if name in names}
        for section in OF_STUDENTS
        if isinstance(values := document.values.get(section), dict)
    }
    return replace(document, values={**document.values, **kept})


def resolve_student(
    values: Mapping[str, object], protocol: str | None = None, overrides: Sequence[str] = ()
) -> Student:
    """Resolve the students' protocol alone, for a set that need not be a run's.

    Args:
        values: the section ``student`` of a run's recipe; empty for other sets.
        protocol: name of a preset, which takes the place of ``values``.
        overrides: ``key=value`` texts of a recipe's section ``student``, as ``resolve`` takes them.

    Raises:
        InputError: an unknown protocol or key, or a value of the wrong type or out of range.
    """
    given = parse_overrides(overrides)
    named = value_at(values_outside_arms(_Protocol, given), "student.protocol")
    name = protocol if named is None else str(named)
    if name is not None:
        values = preset(name)
    tree: Tree = {"student": with_origin(dict(values), "protocol")}
    addresses: list[Address] = []
    for override in given:
        tree, found = set_value(_Protocol, tree, override)
        addresses += found
    tree = with_plain(with_one_length(tree, addresses), addresses)
    return validated(_Protocol, plain_values(tree), "the students' protocol").student


def named_network(overrides: Sequence[str]) -> bool:
    """Whether overrides of a recipe's section ``student`` name the network."""
    asked = values_outside_arms(_Protocol, parse_overrides(overrides))
    return value_at(asked, "student.network") is not None


def network_key(students: Sequence[str], overrides: Sequence[str]) -> str:
    """How a command was told the students' network, for messages: by ``--student``, or by ``network=``."""
    return "network" if named_network(overrides) and not students else "--student"


def protocol_of_methods(document: Document, ipc: int, default: str) -> tuple[Tree, str]:
    """The section ``student`` that names the protocol which the methods of all arms declare.

    Args:
        ipc: images a class, by which what a method declares may differ.
        default: the data set's protocol, for methods that declare none.

    Returns:
        The section, empty where they do not agree on one; and what is then to be said, empty where none of
        them declares any.
    """
    dataset = None if document.dataset is None else str(document.dataset)
    by_protocol: dict[str, list[str]] = {}
    declared: dict[str, object] = {}
    for values in document.arms.values():
        method = str(cast("dict[str, object]", values).get("method", "custom"))  # arm_values has looked
        student = METHODS[base_method(method)].student(dataset, ipc)
        if method in ADDITIONS and (own := ADDITIONS[method].protocol_on.get(dataset or "")):
            student = {"protocol": own}
        declared |= student
        protocol = cast("Sourced", student["protocol"]).value if student else default
        methods = by_protocol.setdefault(str(protocol), [])
        methods += [method] if method not in methods else []
    if not declared:
        return {}, ""
    if len(by_protocol) == 1:
        (methods,) = by_protocol.values()
        return tree_of(declared, f"method{'s' * (len(methods) > 1)} {', '.join(methods)}"), ""
    texts = (f"{protocol} ({', '.join(methods)})" for protocol, methods in by_protocol.items())
    return {}, (
        f"student.protocol is {default} for all arms, since their methods are evaluated under different "
        f"ones: {', '.join(texts)}; student.protocol=NAME chooses one"
    )


def with_protocol(base: Tree, tree: Tree, asked: Tree) -> Tree:
    """A data set's values with the protocol of ``student`` in their section.

    Args:
        asked: the values that overrides give.
    """
    given = value_at(asked, "student.protocol")
    named = value_at(tree, "student.protocol") if given is None else given
    student = _protocol_over(section(base, "student"), named)
    return {**base, "student": student} if student else base


def with_students(base: Tree, tree: Tree, overrides: Sequence[Override]) -> Tree:
    """The recipe's values with each of the further students laid over the data set's and its protocol."""
    students: Tree = {}
    for name, own in section(tree, "students").items():
        asked = [override.text for override in overrides if override.key == f"students.{name}.protocol"]
        written = own.get("protocol") if isinstance(own, dict) else None
        named = asked[-1] if asked else None if written is None else plain_values(written)
        try:
            below = _protocol_over(section(base, "student"), named)
        except InputError as error:
            raise InputError(f"students.{name}.protocol: {error}") from error
        students[name] = student_over(below, own) if isinstance(own, dict) else own
    return {**tree, "students": students} if students else tree


def with_student_labels(tree: Tree) -> Tree:
    """The recipe's values with the labels of each further student laid over the section ``labels``."""
    if not (own := section(tree, "student_labels")):
        return tree
    labels = section(tree, "labels")
    whole: Tree = {}
    for name, each in own.items():
        whole[name] = merge(labels, each) if isinstance(each, dict) else each
    return {**tree, "student_labels": whole}


def _protocol_over(student: Tree, named: JsonValue) -> Tree:
    """A data set's section ``student`` with a protocol over it; beneath it where the data set names it.

    Args:
        named: the protocol that a recipe or a command names; None: they name none.
    """
    name = value_at(student, "protocol") if named is None else named
    if name is None:
        return student
    values = tree_of(preset(str(name)), f"protocol {name}")
    return student_over(values, student) if named is None else student_over(student, values)


def student_over(below: Tree, own: Tree) -> Tree:
    """A section ``student`` laid over another; its length replaces one of the other kind, steps or epochs."""
    for key, other in (LENGTHS, LENGTHS[::-1]):
        if other not in own and isinstance(leaf := own.get(key), Leaf) and leaf.value is not None:
            below = {**below, other: Leaf(None, leaf.origin, leaf.source)}
    return merge(below, own)


def with_one_length(tree: Tree, addresses: Sequence[Address]) -> Tree:
    """The tree in which a length that overrides give replaces one of the other kind.

    Args:
        addresses: the values that overrides set; both kinds given are left for validation to refuse.
    """
    given = {".".join(address) for address in addresses}
    for path in sorted(given):
        *outer, key = path.split(".")
        if outer[:1] not in (["student"], ["students"]) or key not in LENGTHS:
            continue
        other = LENGTHS[1 - LENGTHS.index(key)]
        leaf = _leaf_at(tree, [*outer, key])
        if leaf.value is not None and not any(
            ".".join(each) == ".".join([*outer, other]) for each in addresses
        ):
            tree = merge(tree, nested([*outer, other], Leaf(None, leaf.origin, leaf.source)))
    return tree


def with_plain(tree: Tree, addresses: Sequence[Address]) -> Tree:
    """The tree in which students with ``augment: none`` have no augmentation.

    Args:
        addresses: the values that overrides set, which stay; validation refuses those that augment.
    """
    given = {".".join(address) for address in addresses}
    sections = ["student", *(f"students.{name}" for name in section(tree, "students"))]
    for path in sections:
        if value_at(tree, f"{path}.augment") != "none":
            continue
        for key, value in PLAIN.items():
            if f"{path}.{key}" not in given:
                leaf = Leaf(value, f"{path}.augment none")
                tree = merge(tree, nested([*path.split("."), key], leaf))
    return tree


def with_regimes(tree: Tree, regimes: Sequence[Regime]) -> Tree:
    """The recipe's values with each kind of students once in every regime.

    The regime of a kind, or else the first that is asked for, keeps the kind's name, so that a paper's
    numbers stay beside it; the others are called ``REGIME`` or ``NAME-REGIME``.

    Args:
        regimes: the regimes; empty: students stay as they are.

    Raises:
        InputError: the recipe has students of such a name already.
    """
    if not regimes:
        return tree
    further, arms = section(tree, "students"), dict(section(tree, "student_arms"))
    kinds = {"": section(tree, "student")}
    kinds |= {name: kind for name, kind in further.items() if isinstance(kind, dict)}
    found = dict(further)  # what is no section is left for validation to refuse
    for name, kind in kinds.items():
        labels = value_at(kind, "labels") or Student.model_fields["labels"].default
        own = OF_LABELS.get(str(labels), regimes[0])
        keeps = own if own in regimes else regimes[0]
        for regime in (keeps, *(each for each in regimes if each != keeps)):
            called = name if regime == keeps else f"{name}-{regime}" if name else regime
            if regime != keeps and called in kinds:
                raise InputError(
                    f"regimes: students.{called} is there already, but {name or 'student'} takes that name "
                    f"in regime {regime}; name it otherwise"
                )
            changed = {} if regime == own else tree_of(dict(REGIMES[regime]), f"regime {regime}")
            found[called] = merge(kind, changed)
            if name in arms:
                arms[called] = arms[name]
    student = found.pop("")
    return {**tree, "student": student, "students": found} | ({"student_arms": arms} if arms else {})


def _leaf_at(tree: Tree, keys: Sequence[str]) -> Leaf:
    node: Tree | Leaf = tree
    for key in keys:
        assert isinstance(node, dict)  # an override has set a value there
        node = node[key]
    assert isinstance(node, Leaf)
    return node
