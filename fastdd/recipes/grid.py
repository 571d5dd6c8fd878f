"""A grid of values over a recipe, expanded into runs: ``--grid method.gamma=0,10,50 --grid ipc=1,10``.

A key of the method makes arms: each arm that the key sets becomes one arm for each value, and all of them
share the run's real images, teacher, bank and control. A key of the run, such as ``ipc``, makes runs. A point
of the grid gives what ``fastdd run RECIPE KEY=VALUE`` gives with its values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias, cast

from pydantic import JsonValue

from ..config import Method, Point, Recipe, Sweep, as_plain
from ..config.naming import arm_titles, folder_name, point_text, short_keys, value_text
from ..config.validation import validated
from ..errors import InputError
from .overrides import Address, parse_overrides, value_of
from .presets import paper_items, read
from .published import images_a_class
from .resolve import Resolved, on_data_set, resolve

MAX_POINTS = 1000
"""a grid with more points is taken for a slip of the pen"""
EXAMPLE = "for example --grid method.gamma=0,10,50"
PART = re.compile(r"""(?:\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*'|[^,])+""")
"""a value of a grid, up to a comma that is in no brackets or quotes"""

Values: TypeAlias = dict[str, JsonValue]
"""values by dotted key; those of methods begin with ``method.``, whichever arm they are of"""


@dataclass(frozen=True)
class Axis:
    """A key as it was given, and its values as texts of overrides."""

    key: str
    values: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """One ``key=value`` text for each value."""
        return [f"{self.key}={value}" for value in self.values]


@dataclass(frozen=True)
class GridRun:
    """One run of a sweep.

    Attributes:
        folder: name of its folder in the sweep's folder; empty where the sweep is one run.
        at: values of the keys of the run, such as ``ipc``, that the grid varies.
        recipe: the whole recipe, with an arm for each point of the method's keys.
        reduced: what its arms have less of than their methods declare, by arm.
    """

    folder: str
    at: Values
    recipe: Recipe
    reduced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """The runs of a sweep, and the keys that it varies; those of methods begin with ``method.``."""

    keys: tuple[str, ...]
    runs: tuple[GridRun, ...]


def parse_grid(text: str) -> Axis:
    """Read ``KEY=VALUE,VALUE,...``; commas in brackets or quotes belong to a value, such as ``[0.08, 1]``.

    Raises:
        InputError: no key, or no values.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise InputError(f"--grid {text!r} must look like KEY=VALUE,VALUE,..., {EXAMPLE}")
    values = tuple(part.strip() for part in PART.findall(raw))
    if not values:
        raise InputError(f"--grid {text!r} has no values; give some, {EXAMPLE}")
    return Axis(key, values)


def whole_item(recipe: str, overrides: Sequence[str] = ()) -> list[Axis]:
    """The grid that makes the whole of a paper's table or figure.

    It is the one that the recipe names, or all images a class for which the paper has numbers there.

    Args:
        recipe, overrides: as for ``resolve``.

    Returns:
        The axes; empty where the recipe names no grid and no paper's numbers.
    """
    document = on_data_set(read(recipe), recipe, parse_overrides(overrides))
    if document.grid:
        return [
            Axis(key, tuple(map(value_text, cast("list[JsonValue]", values))))
            for key, values in document.grid.items()
        ]
    printed = document.values.get("published")
    numbers = printed.get("numbers") if isinstance(printed, dict) else None
    counts = images_a_class(numbers.get(document.dataset, {})) if isinstance(numbers, dict) else []
    return [Axis("ipc", tuple(map(str, counts)))] if counts else []


def expand(
    recipe: str,
    axes: Sequence[Axis],
    overrides: Sequence[str] = (),
    add: Sequence[str] = (),
    arms: Sequence[str] = (),
    students: Sequence[str] = (),
) -> Grid:
    """Make the runs of a grid, in its order; the last key varies fastest.

    Args:
        recipe, overrides, add, arms, students: as for ``resolve``; the grid's values are laid over the
            overrides.

    Raises:
        InputError: no keys, too many points, a key twice, an unknown key, or a value of the wrong type.
    """
    points = math.prod(len(axis.values) for axis in axes)
    if not axes:
        whole = (
            f"the whole of {recipe} is one run: `fastdd run {recipe}`; " if recipe in paper_items() else ""
        )
        raise InputError(f"{whole}a sweep needs a grid, {EXAMPLE}")
    if points > MAX_POINTS:
        raise InputError(f"the grid has {points} points, at most {MAX_POINTS} are allowed; give fewer values")
    first = resolve(recipe, [*overrides, *(axis.overrides[0] for axis in axes)], add, arms, students)
    addresses = first.addresses[len(overrides) :]
    _require_apart(axes, addresses)
    _require_distinct(axes, addresses)
    for text, found in zip(overrides, first.addresses, strict=False):
        _require_effect(text, found, axes, addresses)
    of_runs = [axis for axis, found in zip(axes, addresses, strict=True) if found[0][0] != "arms"]
    of_arms = [axis for axis in axes if axis not in of_runs]
    runs: list[GridRun] = []
    for chosen in product(*(axis.overrides for axis in of_runs)):
        given = [*overrides, *chosen]
        resolved = [
            resolve(recipe, [*given, *point], add, arms, students)
            for point in product(*(axis.overrides for axis in of_arms))
        ]
        at = _values_at(
            resolved[0], (found[0] for found in resolved[0].addresses[len(overrides) : len(given)])
        )
        folder = folder_name(at, short_keys(at))
        if any(run.folder == folder for run in runs):
            raise InputError(f"the grid has {folder} twice; give each value once")
        joined, reduced = _joined(recipe, resolved, len(given))
        runs.append(GridRun(folder, at, joined, reduced))
    return Grid(_keys(addresses), tuple(runs))


def _require_distinct(axes: Sequence[Axis], addresses: Sequence[Sequence[Address]]) -> None:
    """Refuse a value that a key has twice, however it is written."""
    for axis, found in zip(axes, addresses, strict=True):
        values = [value_of(text, Recipe, found[0]) for text in axis.values]
        for value, text in zip(values, axis.values, strict=True):
            if values.count(value) > 1:
                raise InputError(f"--grid {axis.key} has the value {text} twice; give each once")


def _key(address: Address) -> str:
    """``student.lr``, or ``method.terms.gaussian.gamma`` whichever arm it is of."""
    return f"method.{address[-1]}" if address[0] == "arms" else ".".join(address)


def _keys(addresses: Iterable[Sequence[Address]]) -> tuple[str, ...]:
    """The keys of all addresses, each once."""
    return tuple(dict.fromkeys(_key(address) for found in addresses for address in found))


def _values_at(resolved: Resolved, addresses: Iterable[Address]) -> Values:
    """The values that stand at addresses of a recipe, by key, with the types that they have there."""
    plain, values = as_plain(resolved.recipe), {}
    for address in addresses:
        *outer, path = address
        node: JsonValue = plain
        for key in (*outer, *path.split(".")):
            node = node.get(key) if isinstance(node, dict) else None  # a key that says nothing is absent
        values[_key(address)] = node
    return values


def _require_apart(axes: Sequence[Axis], addresses: Sequence[Sequence[Address]]) -> None:
    """Refuse two keys that set the same value, or one a part of what the other sets."""
    seen: dict[str, str] = {}
    for axis, found in zip(axes, addresses, strict=True):
        paths = [".".join(address) for address in found]
        for path in paths:
            for other, key in seen.items():
                if f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}."):
                    both = max(path, other, key=len)
                    raise InputError(f"--grid {axis.key} and --grid {key} both set {both}; use one")
        seen |= dict.fromkeys(paths, axis.key)


def _require_effect(
    text: str, found: Sequence[Address], axes: Sequence[Axis], addresses: Sequence[Sequence[Address]]
) -> None:
    """Refuse an override of which the grid sets every value anew.

    Args:
        found: addresses of the values that the override sets.
        addresses: for each axis, the addresses of the values that it sets.
    """
    for axis, swept in zip(axes, addresses, strict=True):
        outer = tuple(f"{'.'.join(address)}." for address in swept)
        if all(f"{'.'.join(address)}.".startswith(outer) for address in found):
            raise InputError(f"{text} has no effect, since --grid {axis.key} sets it; leave one of them out")


def _joined(name: str, points: Sequence[Resolved], given: int) -> tuple[Recipe, dict[str, str]]:
    """One recipe with the arms of all points, in the recipe's order of arms, and what they have less of than
    their methods.

    Args:
        name: the recipe that is swept, for messages.
        points: the recipe with the values of each point.
        given: number of overrides before those of the grid's arms.
    """
    keys = _keys(points[0].addresses[given:])
    names = short_keys(keys)
    arms: dict[str, dict[str, Method]] = {arm: {} for arm in points[0].recipe.arms}
    places: dict[str, Point] = {}
    reduced: dict[str, str] = {}
    for resolved in points:
        titles = arm_titles(resolved.recipe.arms)
        addresses = [address for found in resolved.addresses[given:] for address in found]
        for arm, method in resolved.recipe.arms.items():
            at = _values_at(resolved, (address for address in addresses if address[1] == arm))
            key, made = arm, method
            if at:
                key = f"{arm}-{folder_name(at, names)}"
                places[key] = Point(of=arm, title=titles[arm], at=at)
                made = method.model_copy(update={"title": f"{titles[arm]}, {point_text(at, names)}"})
            if arms[arm].setdefault(key, made) != made:
                raise InputError(f"two points of the grid would both be called {key}; sweep them one by one")
            if arm in resolved.reduced:
                reduced[key] = resolved.reduced[arm]
    methods = {key: method for made in arms.values() for key, method in made.items()}
    plain = as_plain(points[0].recipe)
    plain["arms"] = {key: method.model_dump(mode="json") for key, method in methods.items()}
    plain["sweep"] = Sweep(keys=keys, points=places).model_dump(mode="json")
    return validated(Recipe, plain, f"the sweep of {name}"), reduced
