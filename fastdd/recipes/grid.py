"""A grid of values over a recipe, expanded into runs: ``--grid method.gamma=0,10,50 --grid ipc=1,10``.

A key of the method makes arms: every arm that the key speaks of becomes one arm a value, and all of them share the
run's real images, teacher, bank and control. A key of the run itself, such as ``ipc``, makes runs. Each point is what
``fastdd run RECIPE KEY=VALUE`` with its values is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from ..config import Method, Point, Recipe, Sweep, as_plain
from ..config.naming import described, folder_name, labels, tails
from ..config.validation import validated
from ..errors import InputError
from .overrides import Address
from .resolve import Resolved, resolve

MOST = 1000
"""points of a grid: more are a slip of the pen"""
EXAMPLE = "for example --grid method.gamma=0,10,50"


@dataclass(frozen=True)
class Axis:
    """A key as given, and the texts of its values in YAML."""

    key: str
    values: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """One ``key=value`` a value."""
        return [f"{self.key}={value}" for value in self.values]


@dataclass(frozen=True)
class GridRun:
    """One run of a sweep.

    Attributes:
        folder: name of its folder in the sweep's; empty where the sweep is one run.
        at: the run's own keys that the grid varies, and their values.
        recipe: complete, with an arm for each point of the method's keys.
    """

    folder: str
    at: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Grid:
    """The runs of a sweep, and all keys that differ: a run's own, and ``method.`` and the path in the methods."""

    keys: tuple[str, ...]
    runs: tuple[GridRun, ...]


def parse_grid(text: str) -> Axis:
    """``KEY=VALUE,VALUE,...``; values are in YAML, so a list is ``[0.08, 1]``.

    Raises:
        InputError: no key, no values, or values that are not YAML.
    """
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise InputError(f"--grid {text!r} must look like KEY=VALUE,VALUE,..., {EXAMPLE}")
    try:
        values = yaml.safe_load(f"[{raw}]")
    except yaml.YAMLError as error:
        raise InputError(
            f"--grid {text!r}: {raw!r} is no list of YAML values; put a list in brackets, text in quotes"
        ) from error
    if not values:
        raise InputError(f"--grid {text!r} has no values; give some, {EXAMPLE}")
    if twice := [value for value in values if values.count(value) > 1]:
        raise InputError(f"--grid {text!r} has the value {_on_a_line(twice[0])} twice; give each once")
    return Axis(key, tuple(map(_on_a_line, values)))


def _on_a_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def expand(recipe: str, axes: Sequence[Axis], overrides: Sequence[str] = (), add: Sequence[str] = ()) -> Grid:
    """The runs of a grid, in its order; the last key varies fastest.

    Args:
        recipe, overrides, add: as of ``resolve``; the grid's values go over the overrides.

    Raises:
        InputError: no keys, too many points, a key twice, an unknown key, or a value of the wrong type.
    """
    points = math.prod(len(axis.values) for axis in axes)
    if not axes:
        raise InputError(f"a sweep needs a grid, {EXAMPLE}")
    if points > MOST:
        raise InputError(f"the grid has {points} points, at most {MOST} are allowed; give fewer values")
    first = resolve(recipe, [*overrides, *(axis.overrides[0] for axis in axes)], add)
    addresses = first.addresses[len(overrides) :]
    _require_apart(axes, addresses)
    of_runs = [axis for axis, found in zip(axes, addresses, strict=True) if found[0][0] != "arms"]
    of_arms = [axis for axis in axes if axis not in of_runs]
    runs = []
    for chosen in product(*(axis.overrides for axis in of_runs)):
        given = [*overrides, *chosen]
        resolved = [
            resolve(recipe, [*given, *point], add) for point in product(*(axis.overrides for axis in of_arms))
        ]
        own = [found[0] for found in resolved[0].addresses[len(overrides) : len(given)]]
        plain = as_plain(resolved[0].recipe)
        at = {_key(address): _value(plain, address) for address in own}
        runs.append(GridRun(folder_name(at, tails(at)), at, _joined(recipe, resolved, len(given))))
    names = [run.folder for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"the grid has {twice[0]} twice; give each value once")
    return Grid(tuple(dict.fromkeys(_key(address) for found in addresses for address in found)), tuple(runs))


def _key(address: Address) -> str:
    """``student.lr``, or ``method.terms.gaussian.gamma`` whichever arm it is of."""
    return f"method.{address[-1]}" if address[0] == "arms" else ".".join(address)


def _require_apart(axes: Sequence[Axis], addresses: Sequence[Sequence[Address]]) -> None:
    """Refuse two keys that set the same value, or one a part of what the other sets."""
    seen: dict[str, str] = {}
    for axis, found in zip(axes, addresses, strict=True):
        paths = [".".join(address) for address in found]
        for path in paths:
            for other, key in seen.items():
                if f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}."):
                    raise InputError(
                        f"--grid {axis.key} and --grid {key} both set {max(path, other, key=len)}; use one"
                    )
        seen |= dict.fromkeys(paths, axis.key)


def _value(plain: Any, address: Address) -> Any:
    """What was set there, with the type that it has in the recipe."""
    *sections, path = address
    for key in (*sections, *path.split(".")):
        plain = plain[key]
    return plain


def _joined(name: str, points: Sequence[Resolved], given: int) -> Recipe:
    """One recipe with the arms of all points, in the recipe's order of arms.

    Args:
        given: number of overrides that are not of the grid's arms; those after them are.
    """
    keys = tuple(dict.fromkeys(_key(address) for found in points[0].addresses[given:] for address in found))
    names = tails(keys)
    arms: dict[str, dict[str, Method]] = {arm: {} for arm in points[0].recipe.arms}
    places: dict[str, Point] = {}
    for resolved in points:
        at: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
        titles, plain = labels(resolved.recipe.arms), as_plain(resolved.recipe)
        for address in (address for found in resolved.addresses[given:] for address in found):
            at[address[1]][_key(address)] = _value(plain, address)
        for arm, method in resolved.recipe.arms.items():
            key, made = arm, method
            if at[arm]:
                key = f"{arm}-{folder_name(at[arm], names)}"
                places[key] = Point(of=arm, title=titles[arm], at=at[arm])
                made = method.model_copy(update={"title": f"{titles[arm]}, {described(at[arm], names)}"})
            if arms[arm].setdefault(key, made) != made:
                raise InputError(f"two points of the grid would both be called {key}; sweep them one by one")
    plain = as_plain(points[0].recipe)
    plain["arms"] = {
        key: made.model_dump(mode="json") for found in arms.values() for key, made in found.items()
    }
    plain["sweep"] = Sweep(keys=keys, points=places).model_dump(mode="json")
    return validated(Recipe, plain, f"the sweep of {name}")
