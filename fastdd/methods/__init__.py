"""Methods: one file each, which only declares initial images, batches, augmentation, terms and schedule."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, suggestion
from . import deda, dire, sre2l

METHODS: dict[str, dict[str, Any]] = {"sre2l": sre2l.METHOD, "deda": deda.METHOD, "custom": {}}
ADDITIONS: dict[str, dict[str, Any]] = {"dire": dire.ADDITION}


def declaration(name: str) -> dict[str, Any]:
    """The declaration of a method, a nested mapping with Sourced leaves."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}{suggestion(name, METHODS)}; known: {', '.join(METHODS)}")
    return METHODS[name]


def addition(name: str) -> dict[str, Any]:
    """What ``--add NAME`` merges into a method."""
    if name not in ADDITIONS:
        raise InputError(f"cannot add {name!r}{suggestion(name, ADDITIONS)}; known: {', '.join(ADDITIONS)}")
    return ADDITIONS[name]
