"""How keys and values of a grid, and the arms on it, are written in names and titles."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from .method import Method


def labels(arms: Mapping[str, Method]) -> dict[str, str]:
    """The title of each arm, followed by its name where two share a title."""
    titles = {arm: method.title or arm for arm, method in arms.items()}
    shared = [title for title in titles.values() if list(titles.values()).count(title) > 1]
    return {arm: f"{title} ({arm})" if title in shared else title for arm, title in titles.items()}


def tails(keys: Collection[str]) -> dict[str, str]:
    """Each dotted key's shortest ending that no other has: ``gamma`` of ``method.terms.gaussian.gamma``."""
    return {
        key: next(tail for tail in _endings(key) if _bearers(tail, keys) <= 1 or tail == key) for key in keys
    }


def _endings(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]


def _bearers(tail: str, keys: Collection[str]) -> int:
    return sum(key == tail or key.endswith(f".{tail}") for key in keys)


def shown(value: Any) -> str:
    """A value as YAML writes it on a line, numbers without needless digits: ``10``, ``[0.08, 1]``, ``null``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def described(at: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """For example ``gamma = 10, lr = 0.1``; names are those of ``tails``."""
    return ", ".join(f"{names[key]} = {shown(value)}" for key, value in at.items())


def folder_name(at: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """For example ``gamma-10-lr-0_1``: letters, digits, ``+``, ``-`` and ``_`` alone."""
    return "-".join(f"{_plain(names[key])}-{_plain(shown(value))}" for key, value in at.items())


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+-]+", "_", text).strip("_")
