"""The values of a recipe's arms: the method, what it declares, additions, and what the recipe says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import cast

from pydantic import JsonValue

from ..config import Recipe
from ..config.sources import Leaf, Sourced, Tree, merge, section, tree_of, value_at
from ..config.yaml_text import shown
from ..errors import InputError, suggestion
from ..methods import ADDITIONS, METHODS
from ..methods.declaration import SAME_IMAGES
from .presets import Document


def of_arms(document: Document, names: Sequence[str]) -> Document:
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


def with_student_arms(tree: Tree, *, written: Collection[str], made: Collection[str]) -> Tree:
    """The recipe's values with ``student_arms`` of the arms that it has; students of none are left out.

    Args:
        written: names of the arms in the recipe as it is written.
        made: names of its arms now, where some were not chosen, and additions have told their names.
    """
    students, kept = dict(section(tree, "students")), {}
    for student, leaf in section(tree, "student_arms").items():
        names = leaf.value if isinstance(leaf, Leaf) else None
        if not isinstance(names, list) or not names or not all(name in list(written) for name in names):
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


def with_declared_committees(document: Document) -> tuple[Document, dict[str, object]]:
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
        if isinstance(values, dict) and isinstance(method, str):  # arm_values refuses others
            own = METHODS[base_method(method)].committee.get(str(document.dataset), {})
            every = {**own, **every}
            arms[arm] = {"committee": Sourced(list(own), "ours"), **values}
    return (replace(document, arms=arms), {"committee": every}) if every else (document, {})


def arm_values(name: str, document: Document, ipc: int) -> Tree:
    """The values of an arm.

    Args:
        ipc: images a class, by which what a method declares may differ.
    """
    values, where = document.arms[name], f"{document.origin}: arms.{name}"
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping, such as {{method: deda}}, got {shown(values)}")
    own = dict(values)
    method, additions = own.pop("method", "custom"), own.pop("add", [])
    if not isinstance(method, str):
        raise InputError(f"{where} must name its `method` ({', '.join(METHODS)}), got {shown(method)}")
    if not isinstance(additions, list) or not all(isinstance(extra, str) for extra in additions):
        raise InputError(f"{where}.add must be a list of names such as [dire], got {shown(additions)}")
    tree: Tree = {}
    dataset = None if document.dataset is None else str(document.dataset)
    base = base_method(method)
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


def base_method(name: str) -> str:
    """The method that an arm's ``method`` names; an addition's name is that of the method it extends."""
    return ADDITIONS[name].over if name in ADDITIONS else name


def add_to_all(arms: Tree, extra: str) -> Tree:
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


def reduced_arms(recipe: Recipe, document: Document) -> dict[str, str]:
    """What each arm has less of than its method: arm -> text such as ``400 of the method's 4,000 steps``.

    What is compared is what runs and what the method's file declares for the data set and the images a class:
    the steps, and the number of teachers. Images of no known data set have no declared values.

    Args:
        recipe: the resolved recipe, whose arms ``--add`` may have renamed.
        document: the recipe as it is written, on its data set.
    """
    if recipe.dataset is None:
        return {}
    found = {}
    for arm, method in recipe.arms.items():
        written = _written(arm, document)
        values = document.arms.get(written)
        if not isinstance(values, dict) or "method" not in values:
            continue
        declared = replace(document, method={}, arms={written: {"method": values["method"]}})
        steps = value_at(arm_values(written, declared, recipe.ipc), "steps")
        images = SAME_IMAGES.get(recipe.dataset, recipe.dataset)
        further = METHODS[base_method(str(values["method"]))].committee.get(images, {})
        used = recipe.committee if method.committee is None else method.committee
        parts = []
        if isinstance(steps, int) and method.steps < steps:
            parts.append(f"{method.steps:,} of the method's {steps:,} steps")
        if len(used) < len(further):
            parts.append(f"{len(used) + 1} of the method's {len(further) + 1} teachers")
        if parts:
            found[arm] = ", ".join(parts)
    return found


def _written(arm: str, document: Document) -> str:
    """The name that the recipe's file gives to an arm which additions may have renamed."""
    if arm in document.arms:
        return arm
    names = [name for name in document.arms if arm.startswith((f"{name}+", f"{name}-as-"))]
    return max(names, key=len, default=arm)
