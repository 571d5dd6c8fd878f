"""``key=value`` texts: from a shortened key to the values it addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ..config import Method, Recipe
from ..config.origins import merge, nest, tag
from ..config.validation import NAMED, schema_paths
from ..errors import InputError, suggestion

Address = tuple[str, ...]
"""("student.lr",) or, in a section of named ones, ("arms", "deda", "terms.gaussian.gamma")"""


def _complete(key: str, paths: Sequence[str], shown: str) -> str:
    """key, or the one path that ends in it."""
    if key in paths:
        return key
    matches = [path for path in paths if path.endswith(f".{key}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{shown!r} is ambiguous: it may mean {', '.join(matches)}")
    tails = {path.rsplit(".", 1)[-1]: path for path in paths} | {path: path for path in paths}
    raise InputError(f"unknown key {shown!r}{suggestion(key, tails)}; `fastdd show RECIPE` lists all keys")


def _value(raw: str, text: str) -> Any:
    """What stands behind the equals sign of an override."""
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: {raw!r} is not a YAML value") from error


def _override(tree: dict[str, Any], text: str) -> tuple[dict[str, Any], tuple[Address, ...]]:
    """The tree with one ``key=value`` applied, and where it was."""
    key, equals, raw = text.partition("=")
    if not equals:
        raise InputError(f"override {text!r} must look like key=value, for example method.steps=500")
    leaf = tag(_value(raw, text), "command line")
    addresses = _addresses(tree, key)
    for *sections, path in addresses:
        patch = nest(path, leaf)
        for section in reversed(sections):
            patch = {section: patch}
        tree = merge(tree, patch)
    return tree, addresses


def _addresses(tree: dict[str, Any], key: str) -> tuple[Address, ...]:
    """What the key of an override speaks of: one value, or one of each arm."""
    head, _, rest = key.partition(".")
    if head in NAMED:
        (name, _, inner), known = rest.partition("."), tree.get(head, {})
        if name not in known:
            what = head.removesuffix("s")
            raise InputError(f"unknown {what} {name!r}{suggestion(name, known)}; {head}: {', '.join(known)}")
        return ((head, name, _complete(inner, list(schema_paths(NAMED[head])), key)),)
    of_arms = [f"method.{path}" for path in schema_paths(Method)]
    if head == "method":
        path = "method." + _complete(rest, list(schema_paths(Method)), key)
    else:
        path = _complete(key, [*schema_paths(Recipe), *of_arms], key)
    if path not in of_arms:
        return ((path,),)
    path = path.removeprefix("method.")
    return tuple(("arms", arm, path) for arm in _arms_with(tree["arms"], path))


def _arms_with(arms: Mapping[str, Any], path: str) -> list[str]:
    """Arms that ``method.path`` speaks of: for an option of a term, those that have the term, else all."""
    parts = path.split(".")
    if parts[0] != "terms" or len(parts) < 3:
        return list(arms)
    having = [arm for arm, tree in arms.items() if isinstance(tree.get("terms", {}).get(parts[1]), dict)]
    return having or list(arms)
