"""From a recipe's name and overrides to one validated Recipe, with the origin of every value.

Later layers win. Of a run: type defaults, the data set, the student's protocol, the recipe. Of an arm: type defaults,
the method's declaration, what it declares for the data set and for the images a class, its additions, the recipe's
``method:`` section (every arm), the arm's own section, ``--add``. Over all of them ``key=value`` overrides: the key is
a dotted path; ``method.x`` means x of every arm; a path may be shortened to its end where that is unambiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Recipe, as_plain
from ..config.origins import Leaf, leaves, merge, tag, untag
from ..config.validation import validated
from ..errors import InputError
from ..methods import METHODS, addition, layers
from ..protocols import declaration as protocol
from .overrides import Address, _override, _value
from .presets import data_set, read


@dataclass(frozen=True)
class Resolved:
    """A validated recipe and where its values come from.

    Attributes:
        leaves: for every dotted path, the leaf that set it (absent: the type's default).
        addresses: for every override, what it set.
    """

    recipe: Recipe
    leaves: dict[str, Leaf]
    addresses: tuple[tuple[Address, ...], ...] = ()


def _arm(name: str, section: Any, shared: Any, origin: str, dataset: str | None, ipc: int) -> dict[str, Any]:
    """One arm's layers, merged."""
    if not isinstance(section, dict):
        raise InputError(
            f"{origin}: arms.{name} must be a mapping, such as {{method: deda}}, got {section!r}"
        )
    section = dict(section)
    method, additions = section.pop("method", "custom"), section.pop("add", [])
    if not isinstance(method, str):
        raise InputError(
            f"{origin}: arms.{name} must name its `method` ({', '.join(METHODS)}), got {method!r}"
        )
    if not isinstance(additions, list) or not all(isinstance(extra, str) for extra in additions):
        raise InputError(
            f"{origin}: arms.{name}.add must be a list of names such as [dire], got {additions!r}"
        )
    merged: Any = {}
    for declared, patch in layers(method, dataset, ipc):
        merged = merge(merged, tag(patch, declared))
    for extra in additions:
        merged = _add(merged, extra, f"add {extra}")
    return merge(merge(merged, tag(shared, origin)), tag(section, origin))


def _add_to_all(arms: dict[str, Any], extra: str) -> dict[str, Any]:
    """All arms with an addition, which their names then tell; an arm that has it stays as it is."""
    has = {
        arm: all(untag(tree).get("terms", {}).get(term) for term in addition(extra)["terms"])
        for arm, tree in arms.items()
    }
    return {
        arm if has[arm] else f"{arm}+{extra}": tree if has[arm] else _add(tree, extra, f"--add {extra}")
        for arm, tree in arms.items()
    }


def _add(merged: Any, extra: str, origin: str) -> Any:
    """An addition over a method; the title says both.

    ``several_slots`` gives a method whose batch holds one image of each class several, and leaves others alone.
    """
    patch, plain = dict(addition(extra)), untag(merged)
    slots = patch.pop("several_slots")
    if plain.get("batch", {}).get("slots", 1) == 1:
        patch["batch"] = {"slots": slots}
    title = Leaf(f"{plain.get('title', 'custom')} + {patch.pop('title')}", origin)
    return merge(merged, tag(patch, origin) | {"title": title})


def _over(base: dict[str, Any], tree: dict[str, Any]) -> Any:
    """A recipe's sections over those of its data set; the teachers of its committee are over the data set's teacher."""
    members = tree.get("committee")
    if base and isinstance(members, dict):
        tree = {
            **tree,
            "committee": {name: merge(base["teacher"], member) for name, member in members.items()},
        }
    return merge(base, tree)


def _images_a_class(overrides: Sequence[str], document: Mapping[str, Any]) -> int:
    """The ``ipc`` that the method's declaration is asked for; one that is no count is found out by validation."""
    ipc = untag(tag(document.get("ipc", Recipe.model_fields["ipc"].default), ""))
    for text in overrides:
        key, _, raw = text.partition("=")
        if key == "ipc":
            ipc = _value(raw, text)
    return ipc if isinstance(ipc, int) and ipc >= 1 else 1


def _with_protocol(
    base: dict[str, Any], document: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """A data set's values and the student's protocol: over them, or beneath them where the data set names it."""
    section = document.get("student")
    named = [section["protocol"]] if isinstance(section, dict) and "protocol" in section else []
    pairs = [text.partition("=") for text in overrides]
    named += [_value(raw, f"{key}={raw}") for key, _, raw in pairs if key in ("student.protocol", "protocol")]
    own = untag(base.get("student", {})).get("protocol")
    if not named and own is None:
        return base
    name = str(untag(tag(named[-1], "")) if named else own)
    preset = {"student": tag(protocol(name), f"protocol {name}")}
    return dict(merge(base, preset) if named else merge(preset, base))


def resolve(name: str, overrides: Sequence[str] = (), add: Sequence[str] = ()) -> Resolved:
    """Resolve a recipe.

    Args:
        name: a built-in recipe or the path of a YAML file.
        overrides: ``key=value`` texts, applied in order.
        add: additions for every arm, such as ``dire``; an arm ``x`` is then called ``x+dire``.

    Raises:
        InputError: an unknown recipe, key or method, or a value of the wrong type or out of range.
    """
    origin, document = read(name)
    document = dict(document)
    shared, sections, dataset = (
        document.pop("method", {}),
        document.pop("arms"),
        document.pop("dataset", None),
    )
    base = {} if dataset is None else tag(data_set(dataset, origin), f"data set {dataset}")
    ipc = _images_a_class(overrides, document)
    arms = {arm: _arm(arm, section, shared, origin, dataset, ipc) for arm, section in sections.items()}
    for extra in add:
        arms = _add_to_all(arms, extra)
    base = _with_protocol(base, document, overrides)
    tree = _over(base, tag({"name": Path(name).stem, **document}, origin)) | {"arms": arms}
    addresses = []
    for text in overrides:
        tree, addressed = _override(tree, text)
        addresses.append(addressed)
    return Resolved(validated(untag(tree), origin), dict(leaves(tree)), tuple(addresses))


def table(resolved: Resolved) -> list[tuple[str, Any, str, str]]:
    """(path, value, origin, source) of every value of a resolved recipe, defaults included."""
    rows = []

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else key)
            return
        leaf = resolved.leaves.get(path)
        rows.append((path, node, leaf.origin if leaf else "default", leaf.source if leaf else ""))

    walk(as_plain(resolved.recipe), "")
    return rows
