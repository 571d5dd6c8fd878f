"""From a recipe's name and ``key=value`` texts to one validated Recipe, with who set each value.

Each of these is laid over the ones before it:

    run     the types' defaults, the data set, the student's protocol, the recipe, key=value
            (each of the further students has its own protocol, over the data set's student; where nobody
            names one, the protocol that the methods of all arms declare)
    arm     the types' defaults, the method, what it declares for the data set and the images a class, its
            additions, the recipe's section ``method`` (for every arm), the arm's own section, --add,
            key=value

overrides.py says how a key may be written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from ..config import Config, Count, Recipe, Student, as_plain
from ..config.origins import (
    Leaf,
    Tree,
    leaves,
    merge,
    nested,
    plain_values,
    section,
    tree_of,
    value_at,
    with_origin,
)
from ..config.sources import Sourced
from ..config.validation import validated
from ..errors import InputError, suggestion
from ..methods import ADDITIONS, METHODS
from ..protocols import preset
from .overrides import Address, Override, parse_overrides, set_value, texts_of, values_outside_arms
from .presets import Document, data_set, read, recipe_names
from .published import arms_with_numbers, images_a_class, numbers_at


@dataclass(frozen=True)
class Resolved:
    """A validated recipe and who set its values.

    Attributes:
        leaves: the leaf at each dotted path; a path that is absent has its type's default.
        addresses: for each override, the addresses of the values that it set.
        note: lines on the students' protocol and on a paper's numbers that whoever runs the recipe should
            know; empty: there are none.
    """

    recipe: Recipe
    leaves: dict[str, Leaf]
    addresses: tuple[tuple[Address, ...], ...] = ()
    note: str = ""


class Row(NamedTuple):
    """A value of a resolved recipe: its dotted path, who set it, and where that one says it comes from."""

    path: str
    value: JsonValue
    origin: str
    source: str


class _Protocol(Config):
    """A recipe's section ``student`` alone, so that its keys and messages are those of recipes."""

    student: Student


LENGTHS = ("steps", "epochs")
"""The two ways of saying how long a student is trained; one replaces the other."""


class _ImagesAClass(Config):
    """A recipe's ``ipc`` alone, which is needed before the arms are known."""

    ipc: Count = Recipe.model_fields["ipc"].default


def resolve(
    name: str, overrides: Sequence[str] = (), add: Sequence[str] = (), arms: Sequence[str] = ()
) -> Resolved:
    """Resolve a recipe.

    Args:
        name: a built-in recipe or the path of a YAML file.
        overrides: ``key=value`` texts, the later over the earlier.
        add: additions for every arm, such as ``dire``; an arm ``x`` is then called ``x+dire``, and where the
            addition changes its batch, ``x-as-dire`` before it is the control with that batch.
        arms: names of the arms that are kept; empty: all of them.

    Raises:
        InputError: an unknown recipe, key or method, or a value of the wrong type or out of range.
    """
    given = parse_overrides(overrides)
    add = texts_of("add", add, "dire")
    whole = read(name)
    document = on_data_set(_of_arms(whole, texts_of("arms", arms, "deda")), name, given)
    origin, dataset = document.origin, document.dataset
    base = {} if dataset is None else tree_of(data_set(dataset, origin), f"data set {dataset}")
    named_set = {} if dataset is None else {"dataset": dataset}
    tree = tree_of({"name": Path(name).stem, **named_set, **document.values}, origin)
    asked = values_outside_arms(Recipe, given)
    ipc = _images_a_class(merge(merge(base, tree), asked), origin)
    tree, unprinted = _with_published(tree, document, ipc)
    if not arms:
        document, left_out = _printed(document, section(tree, "published"))
        unprinted = unprinted or left_out
    document, committee = _with_declared_committees(document)
    tree |= tree_of(committee, "the methods of the arms")
    made: Tree = {arm: _arm(arm, document, ipc) for arm in document.arms}
    named = any(value_at(each, "student.protocol") is not None for each in (tree, asked))
    default = str(value_at(base, "student.protocol") or "house")
    declared, note = ({}, "") if named else _protocol_of_methods(document, ipc, default)
    tree = merge({"student": declared}, tree)
    for extra in dict.fromkeys(add):
        made = _add_to_all(made, extra)
    tree = _with_student_arms(tree, written=whole.arms, made=made)
    tree = _with_committee(base, _with_students(base, tree, given))
    below = _with_protocol(base, tree, asked)
    student = _student_over(section(below, "student"), section(tree, "student"))
    tree = merge(below, tree) | ({"student": student} if student else {}) | {"arms": made}
    addresses = []
    for override in given:
        tree, found = set_value(Recipe, tree, override)
        addresses.append(found)
    tree = _with_one_length(tree, list(chain(*addresses)))
    recipe = validated(Recipe, plain_values(tree), origin)
    notes = "\n".join(text for text in (note, unprinted) if text)
    return Resolved(recipe, dict(leaves(tree)), tuple(addresses), notes)


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
    tree = _with_one_length(tree, addresses)
    return validated(_Protocol, plain_values(tree), "the students' protocol").student


def named_network(overrides: Sequence[str]) -> bool:
    """Whether overrides of a recipe's section ``student`` name the network."""
    asked = values_outside_arms(_Protocol, parse_overrides(overrides))
    return value_at(asked, "student.network") is not None


def table(resolved: Resolved) -> list[Row]:
    """Every value of a resolved recipe, defaults included."""
    rows = []
    for path, value in _values(as_plain(resolved.recipe)):
        leaf = resolved.leaves.get(path, Leaf(value, "default"))
        rows.append(Row(path, value, leaf.origin, leaf.source))
    return rows


def _values(node: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The dotted path and the value of each value that is no mapping, or an empty one."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _values(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _of_arms(document: Document, names: Sequence[str]) -> Document:
    """A recipe with some of its arms.

    Args:
        names: the arms that are kept; empty: all.
    """
    for name in names:
        if name not in document.arms:
            raise InputError(
                f"{document.origin} has no arm {name!r}{suggestion(name, document.arms)}; arms: "
                f"{', '.join(document.arms)}"
            )
    if not names:
        return document
    return replace(document, arms={arm: each for arm, each in document.arms.items() if arm in names})


def _with_student_arms(tree: Tree, *, written: Collection[str], made: Collection[str]) -> Tree:
    """The recipe's values with ``student_arms`` of the arms that it has; students of none are left out.

    Args:
        written: names of the arms in the recipe as it is written.
        made: names of its arms now, where some were not chosen, and additions have told their names.
    """
    students, kept = dict(section(tree, "students")), {}
    for student, leaf in section(tree, "student_arms").items():
        names = leaf.value if isinstance(leaf, Leaf) else None
        if not isinstance(names, list) or not all(name in written for name in names):
            kept[student] = leaf  # for validation to refuse
            continue
        left = [arm for arm in made if any(_is_of(arm, str(name), made) for name in names)]
        if left:
            kept[student] = replace(cast("Leaf", leaf), value=cast("JsonValue", left))
        else:
            students.pop(student, None)
    if not section(tree, "student_arms"):
        return tree
    return {**tree, "students": students, "student_arms": kept}


def _is_of(arm: str, name: str, made: Collection[str]) -> bool:
    """Whether an arm is the one that the recipe calls so, perhaps with additions, or the control of one."""
    return arm == name or (name not in made and arm.startswith((f"{name}+", f"{name}-as-")))


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
            f"dataset={asked[-1]}: {document.origin} takes no data set, it says itself where its images are; "
            "leave it out"
        )
    dataset, _, method = name.partition("-")
    if dataset == document.dataset and f"{asked[-1]}-{method}" in recipe_names():
        raise InputError(
            f"dataset={asked[-1]}: {name} is of {dataset}; the recipe is called {asked[-1]}-{method}"
        )
    return replace(document, dataset=asked[-1])


def _with_declared_committees(document: Document) -> tuple[Document, dict[str, object]]:
    """A recipe that names no further teachers, in which each arm uses those that its method declares.

    Returns:
        The recipe, and its section ``committee`` with the teachers of all arms; empty where the recipe names
        some, or no method declares any for the data set.
    """
    if document.dataset is None or "committee" in document.values:
        return document, {}
    every: dict[str, object] = {}
    arms: dict[str, object] = {}
    for arm, values in document.arms.items():
        arms[arm] = values
        method = values.get("method", "custom") if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(method, str):  # _arm refuses others
            own = METHODS[_base_method(method)].committee.get(str(document.dataset), {})
            every = {**own, **every}
            arms[arm] = {"committee": Sourced(list(own), "ours"), **values}
    return (replace(document, arms=arms), {"committee": every}) if every else (document, {})


def _with_published(tree: Tree, document: Document, ipc: int) -> tuple[Tree, str]:
    """The recipe's values with those of a paper's numbers that are of its data set and images a class.

    Returns:
        The tree, and what is to be said where the paper has no numbers for them.
    """
    printed = document.values.get("published")
    if not isinstance(printed, dict) or not isinstance(by_set := printed.get("numbers"), dict):
        return tree, ""  # none, or those that a saved recipe holds
    if wrong := [name for name, each in by_set.items() if not isinstance(each, dict)]:
        raise InputError(f"{document.origin}: published.numbers.{wrong[0]} must be a mapping of quantities")
    chosen = numbers_at(by_set.get(str(document.dataset), {}), ipc)
    note = ""
    if not chosen:
        there = ", ".join(
            f"{dataset} at ipc {' '.join(map(str, images_a_class(each))) or 'any'}"
            for dataset, each in by_set.items()
        )
        item = printed.get("item")
        note = f"{item} has no numbers for {document.dataset} at ipc {ipc}; it has some for {there}"
    rest = {key: value for key, value in printed.items() if key != "numbers"}
    return {**tree, "published": with_origin(rest | chosen, document.origin)}, note


def _compared(numbers: Mapping[str, object]) -> set[str]:
    """The arms that a paper compares: by their students where it has accuracies, since measures of diversity
    are printed without the images a class."""
    accuracy = numbers.get("accuracy")
    return arms_with_numbers(accuracy if isinstance(accuracy, Mapping) and accuracy else numbers)


def _printed(document: Document, published: Tree) -> tuple[Document, str]:
    """The recipe of a paper's table without the arms that the paper compares elsewhere, but not here.

    Args:
        published: the paper's numbers for the recipe's data set and images a class.

    Returns:
        The recipe, and what is to be said of the arms that were left out.
    """
    printed = document.values.get("published")
    by_set = printed.get("numbers") if isinstance(printed, dict) else None
    if not isinstance(by_set, dict):
        return document, ""
    here = _compared({key: plain_values(each) for key, each in published.items()})
    if not here & document.arms.keys():
        return document, ""
    elsewhere = set[str]().union(*map(_compared, by_set.values()))
    left = [arm for arm in document.arms if arm in elsewhere - here]
    if not left:
        return document, ""
    note = (
        f"left out, since the paper has no numbers for them here: {', '.join(left)}; --arms names arms to run"
    )
    kept = [arm for arm in document.arms if arm not in left]
    return _of_arms(document, kept), note


def _arm(name: str, document: Document, ipc: int) -> Tree:
    """The values of an arm.

    Args:
        ipc: images a class, by which what a method declares may differ.
    """
    values, where = document.arms[name], f"{document.origin}: arms.{name}"
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping, such as {{method: deda}}, got {values!r}")
    own = dict(values)
    method, additions = own.pop("method", "custom"), own.pop("add", [])
    if not isinstance(method, str):
        raise InputError(f"{where} must name its `method` ({', '.join(METHODS)}), got {method!r}")
    if not isinstance(additions, list) or not all(isinstance(extra, str) for extra in additions):
        raise InputError(f"{where}.add must be a list of names such as [dire], got {additions!r}")
    tree: Tree = {}
    dataset = None if document.dataset is None else str(document.dataset)
    base = _base_method(method)
    for declared, patch in METHODS[base].layers(base, dataset, ipc):
        tree = merge(tree, tree_of(patch, declared))
    if method != base:  # an addition with the values that its authors released, as in DATASET-dire
        tree = _add(tree, method, f"add {method}")
        released = cast("dict[str, object]", ADDITIONS[method].released(dataset or ""))
        tree = merge(tree, tree_of(released, f"add {method} as released"))
    for extra in additions:
        tree = _add(tree, extra, f"add {extra}")
    tree = merge(tree, tree_of(document.method, document.origin))
    return merge(tree, tree_of(own, document.origin))


def _base_method(name: str) -> str:
    """The method that an arm's ``method`` names; an addition's name is that of the method it extends."""
    return ADDITIONS[name].over if name in ADDITIONS else name


def _protocol_of_methods(document: Document, ipc: int, default: str) -> tuple[Tree, str]:
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
        method = str(cast("dict[str, object]", values).get("method", "custom"))  # _arm has looked at both
        student = METHODS[_base_method(method)].student(dataset, ipc)
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


def _add_to_all(arms: Tree, extra: str) -> Tree:
    """Every arm with an addition, which its name then tells; an arm that has its terms stays as it is.

    Where the addition changes the batch of an arm, the control with that batch comes before it. An arm of the
    recipe that has the terms and the name already stands in place of the two.

    Raises:
        InputError: a control would have the name of an arm of the recipe that has the terms.
    """
    terms, origin = ADDITIONS[extra].terms, f"--add {extra}"
    kept = {arm for arm in arms if all(value_at(section(arms, arm), f"terms.{term}") for term in terms)}
    found: Tree = {}
    for arm in arms:
        method, added, control = section(arms, arm), f"{arm}+{extra}", f"{arm}-as-{extra}"
        stands = next((name for name in (arm, added) if name in kept), None)
        if stands is not None:
            found[stands] = section(arms, stands)
            continue
        if batch := _batch_patch(method, extra):
            if control in kept:
                raise InputError(
                    f"{origin} makes a control of the arm {arm} and calls it {control}, which is an arm of "
                    "the recipe; name that arm otherwise"
                )
            found[control] = _control(method, extra, batch, origin)
        found[added] = _add(method, extra, origin)
    return found


def _add(method: Tree, extra: str, origin: str) -> Tree:
    """A method with an addition; the title says both.

    A method whose batch holds one image of each class then has several of them in it, unless it matches
    synthetic and real images, whose batch is its own.
    """
    addition = ADDITIONS[extra]
    patch: dict[str, object] = {"terms": addition.terms, **_batch_patch(method, extra)}
    if section(method, "match"):
        patch["match"] = {"added": addition.beside_match}
    return merge(method, tree_of(patch, origin) | {"title": _title(method, f" + {addition.title}", origin)})


def _control(method: Tree, extra: str, batch: dict[str, object], origin: str) -> Tree:
    """A method with the batch that an addition gives it, but without its terms."""
    title = _title(method, f" at {ADDITIONS[extra].title}'s batch", origin)
    return merge(method, tree_of(batch, origin) | {"title": title})


def _batch_patch(method: Tree, extra: str) -> dict[str, object]:
    """What an addition changes in a method's batch."""
    alone = not section(method, "match") and value_at(method, "batch.slots") in (None, 1)
    return {"batch": {"slots": ADDITIONS[extra].several_slots}} if alone else {}


def _title(method: Tree, suffix: str, origin: str) -> Leaf:
    return Leaf(f"{value_at(method, 'title') or 'custom'}{suffix}", origin)


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
        InputError: an unknown recipe.
    """
    document = read(name)
    base: Tree = {}
    if document.dataset is not None:
        base = tree_of(data_set(document.dataset, document.origin), f"data set {document.dataset}")
    root = value_at(merge(base, tree_of(document.values, document.origin)), "data.root")
    for override in parse_overrides(overrides):
        if override.key in ("data.root", "root"):
            root = override.text
    return root if isinstance(root, str) else None


def _images_a_class(tree: Tree, origin: str) -> int:
    """The recipe's ``ipc``, validated, for which the methods' declarations are asked."""
    given = {"ipc": value_at(tree, "ipc")} if "ipc" in tree else {}
    return validated(_ImagesAClass, given, origin).ipc


def _with_protocol(base: Tree, tree: Tree, asked: Tree) -> Tree:
    """A data set's values with the protocol of ``student`` in their section.

    Args:
        asked: the values that overrides give.
    """
    given = value_at(asked, "student.protocol")
    named = value_at(tree, "student.protocol") if given is None else given
    student = _protocol_over(section(base, "student"), named)
    return {**base, "student": student} if student else base


def _with_students(base: Tree, tree: Tree, overrides: Sequence[Override]) -> Tree:
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
        students[name] = _student_over(below, own) if isinstance(own, dict) else own
    return {**tree, "students": students} if students else tree


def _protocol_over(student: Tree, named: JsonValue) -> Tree:
    """A data set's section ``student`` with a protocol over it; beneath it where the data set names it.

    Args:
        named: the protocol that a recipe or a command names; None: they name none.
    """
    name = value_at(student, "protocol") if named is None else named
    if name is None:
        return student
    values = tree_of(preset(str(name)), f"protocol {name}")
    return _student_over(values, student) if named is None else _student_over(student, values)


def _student_over(below: Tree, own: Tree) -> Tree:
    """A section ``student`` laid over another; its length replaces one of the other kind, steps or epochs."""
    for key, other in (LENGTHS, LENGTHS[::-1]):
        if other not in own and isinstance(leaf := own.get(key), Leaf) and leaf.value is not None:
            below = {**below, other: Leaf(None, leaf.origin, leaf.source)}
    return merge(below, own)


def _with_one_length(tree: Tree, addresses: Sequence[Address]) -> Tree:
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


def _leaf_at(tree: Tree, keys: Sequence[str]) -> Leaf:
    node: Tree | Leaf = tree
    for key in keys:
        assert isinstance(node, dict)  # an override has set a value there
        node = node[key]
    assert isinstance(node, Leaf)
    return node
