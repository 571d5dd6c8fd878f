"""Methods: one file each, which only declares initial images, batches, augmentation, terms and schedule.

METHOD holds where nothing else is said, ON what differs by data set, ``at`` what the number of images a class changes,
and SCRIPTS names the data sets for which the authors released settings.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError, suggestion
from . import cda, cvdd, deda, delt, dire, dwa, edc, gvbsm, infer, lpld, rded, sre2l, sre2lpp
from .committees import committee
from .declaration import Declaration, Patch

DECLARED = {
    "sre2l": Declaration(sre2l.METHOD, sre2l.SCRIPTS, sre2l.ON),
    "cda": Declaration(cda.METHOD, cda.SCRIPTS, cda.ON),
    "dwa": Declaration(dwa.METHOD, dwa.SCRIPTS, dwa.ON),
    "lpld": Declaration(lpld.METHOD, lpld.SCRIPTS, lpld.ON),
    "gvbsm": Declaration(gvbsm.METHOD, gvbsm.SCRIPTS, gvbsm.ON, gvbsm.at),
    "edc": Declaration(edc.METHOD, edc.SCRIPTS, edc.ON, edc.at),
    "deda": Declaration(deda.METHOD, deda.SCRIPTS, deda.ON, deda.at),
    "delt": Declaration(delt.METHOD, delt.SCRIPTS, {}, delt.at),
    "infer": Declaration(infer.METHOD, infer.SCRIPTS, infer.ON),
    "rded": Declaration(rded.METHOD, rded.SCRIPTS),
    "sre2lpp": Declaration(sre2lpp.METHOD, sre2lpp.SCRIPTS, sre2lpp.ON),
    "cvdd": Declaration(cvdd.METHOD, cvdd.SCRIPTS, cvdd.ON),
    "custom": Declaration({}),
}
METHODS: dict[str, Patch] = {name: declared.method for name, declared in DECLARED.items()}
ADDITIONS: dict[str, dict[str, Any]] = {"dire": dire.ADDITION}

__all__ = ["ADDITIONS", "DECLARED", "METHODS", "addition", "committee", "declaration", "layers"]


def declaration(name: str) -> Patch:
    """The declaration of a method, a nested mapping with Sourced leaves."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}{suggestion(name, METHODS)}; known: {', '.join(METHODS)}")
    return METHODS[name]


def layers(name: str, dataset: str | None, ipc: int) -> list[tuple[str, Patch]]:
    """(origin, patch) of all that a method declares for a data set and images a class, the later over the earlier."""
    declaration(name)
    return DECLARED[name].layers(name, dataset, ipc)


def addition(name: str) -> dict[str, Any]:
    """What ``--add NAME`` merges into a method."""
    if name not in ADDITIONS:
        raise InputError(f"cannot add {name!r}{suggestion(name, ADDITIONS)}; known: {', '.join(ADDITIONS)}")
    return ADDITIONS[name]
