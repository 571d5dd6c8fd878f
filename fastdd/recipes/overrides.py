"""``key=value`` texts of the command line and of fastdd.run: what each of them sets.

A key is a dotted path. Its beginning may be left out where only one path ends so: ``minimum_accuracy`` is
``teacher.minimum_accuracy``. ``method.x`` is x of every arm. The value is YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import yaml
from pydantic import BaseModel, JsonValue

from ..config import Method
from ..config.origins import Tree, merge, nested, section, with_origin
from ..config.validation import NAMED, schema_paths
from ..errors import InputError, suggestion

Address: TypeAlias = tuple[str, ...]
"""where a value stands: ("student.lr",) or, in a named arm, ("arms", "deda", "terms.gaussian.gamma")"""


@dataclass(frozen=True)
class Override:
    """A key as it was given, perhaps shortened, and the value that it gets."""

    key: str
    value: JsonValue


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Read ``key=value`` texts.

    Raises:
        InputError: a text without an equals sign, or a value that is not YAML.
    """
    found = []
    for text in texts:
        key, equals, raw = text.partition("=")
        if not equals:
            raise InputError(f"override {text!r} must look like key=value, for example ipc=10")
        try:
            found.append(Override(key, yaml.safe_load(raw)))
        except yaml.YAMLError as error:
            raise InputError(f"override {text!r}: {raw!r} is not a YAML value") from error
    return found


def last_value(overrides: Sequence[Override], *keys: str) -> JsonValue:
    """The value that the last override of one of the keys gives; None where there is none."""
    values = [override.value for override in overrides if override.key in keys]
    return values[-1] if values else None


def set_value(model: type[BaseModel], tree: Tree, override: Override) -> tuple[Tree, tuple[Address, ...]]:
    """Lay an override over a tree.

    Args:
        model: the configuration that the tree is of, such as Recipe.

    Returns:
        The new tree, and the address of each value that was set.

    Raises:
        InputError: the key is unknown, or may mean several values.
    """
    addresses = _addresses(model, tree, override.key)
    leaf = with_origin(override.value, "command line")
    for *outer, path in addresses:
        tree = merge(tree, nested([*outer, *path.split(".")], leaf))
    return tree, addresses


def _addresses(model: type[BaseModel], tree: Tree, key: str) -> tuple[Address, ...]:
    """What a key means: one value, or one of each arm."""
    head, _, rest = key.partition(".")
    if head in NAMED and head in model.model_fields:
        return (_named(tree, head, rest, key),)
    of_method = list(schema_paths(Method)) if "arms" in model.model_fields else []
    of_arms = [f"method.{path}" for path in of_method]
    if head == "method" and of_method:
        path = f"method.{_completed(rest, of_method, key)}"
    else:
        path = _completed(key, [*schema_paths(model), *of_arms], key)
    if path not in of_arms:
        return ((path,),)
    path = path.removeprefix("method.")
    return tuple(("arms", arm, path) for arm in _arms_with(tree, path))


def _named(tree: Tree, head: str, rest: str, key: str) -> Address:
    """The address of ``arms.NAME.path`` or ``committee.NAME.path``."""
    name, _, inner = rest.partition(".")
    names = list(section(tree, head))
    if name not in names:
        what = head.removesuffix("s")
        raise InputError(f"unknown {what} {name!r}{suggestion(name, names)}; {head}: {', '.join(names)}")
    return head, name, _completed(inner, list(schema_paths(NAMED[head])), key)


def _completed(key: str, paths: Sequence[str], shown: str) -> str:
    """The path that a key is, or the one that ends in it.

    Args:
        shown: the key as it was given, for the message.
    """
    if key in paths:
        return key
    matches = [path for path in paths if path.endswith(f".{key}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{shown!r} is ambiguous: it may mean {', '.join(matches)}")
    known = [*(path.rsplit(".", 1)[-1] for path in paths), *paths]
    raise InputError(f"unknown key {shown!r}{suggestion(key, known)}; `fastdd show RECIPE` lists all keys")


def _arms_with(tree: Tree, path: str) -> list[str]:
    """The arms that ``method.path`` sets: for an option of a term those that have the term, else all."""
    arms = section(tree, "arms")
    first, *option = path.split(".")
    if first != "terms" or len(option) < 2:
        return list(arms)
    having = [
        arm for arm, method in arms.items() if isinstance(section(method, "terms").get(option[0]), dict)
    ]
    return having or list(arms)
