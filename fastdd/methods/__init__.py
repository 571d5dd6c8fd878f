"""Methods: one file each, which only declares initial images, batches, augmentation, terms and schedule."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, suggestion
from . import cda, cvdd, deda, delt, dire, dwa, edc, gvbsm, infer, lpld, rded, sre2l, sre2lpp

METHODS: dict[str, dict[str, Any]] = {
    "sre2l": sre2l.METHOD,
    "cda": cda.METHOD,
    "dwa": dwa.METHOD,
    "lpld": lpld.METHOD,
    "gvbsm": gvbsm.METHOD,
    "edc": edc.METHOD,
    "deda": deda.METHOD,
    "delt": delt.METHOD,
    "infer": infer.METHOD,
    "rded": rded.METHOD,
    "sre2lpp": sre2lpp.METHOD,
    "cvdd": cvdd.METHOD,
    "custom": {},
}
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
