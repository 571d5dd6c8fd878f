"""Protocols: how the papers' released code trains and tests students, declared as presets of ``recipe.Student``.

Each is a mapping with Sourced values, as the methods' declarations are; a recipe or a command lays its own values over
them. rules.py settles what depends on the set and on the student. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.sources import Sourced, code
from ..errors import InputError, suggestion
from . import cvdd, gvbsm, rded, sre2l
from .rules import SettledStudent, images_seen, settle_student, steps_of

PROTOCOLS: dict[str, dict[str, Any]] = {
    "house": {},
    "sre2l-cifar": sre2l.CIFAR,
    "sre2l-tiny": sre2l.TINY,
    "sre2l-imagenet": sre2l.IMAGENET,
    "dire": sre2l.DIRE,
    "lpld-tiny": sre2l.LPLD_TINY,
    "lpld-imagenet": sre2l.LPLD_IMAGENET,
    "dwa-cifar": sre2l.DWA_CIFAR,
    "dwa-tiny": sre2l.DWA_TINY,
    "dwa-imagenet": sre2l.DWA_IMAGENET,
    "rded": rded.RDED,
    "rded-small": rded.RDED_SMALL,
    "delt": rded.DELT,
    "delt-small": rded.DELT_SMALL,
    "gvbsm-cifar10": gvbsm.GVBSM_CIFAR10,
    "gvbsm-cifar100": gvbsm.GVBSM_CIFAR100,
    "gvbsm-tiny": gvbsm.GVBSM_TINY,
    "gvbsm-imagenet": gvbsm.GVBSM_IMAGENET,
    "edc-cifar10": gvbsm.EDC_CIFAR10,
    "edc-cifar100": gvbsm.EDC_CIFAR100,
    "cvdd": cvdd.CVDD,
}

__all__ = ["PROTOCOLS", "SettledStudent", "declaration", "images_seen", "plain", "settle_student", "steps_of"]


def declaration(name: str) -> dict[str, Any]:
    """The declaration of a protocol, a nested mapping with Sourced leaves.

    Raises:
        InputError: no such protocol; the nearest is named.
    """
    if name not in PROTOCOLS:
        raise InputError(
            f"unknown protocol {name!r}{suggestion(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}"
        )
    declared = PROTOCOLS[name]
    return {"steps": code(None), **declared} if "epochs" in declared else declared


def plain(declared: Any) -> Any:
    """A declaration's bare values."""
    if isinstance(declared, Mapping):
        return {key: plain(value) for key, value in declared.items()}
    return declared.value if isinstance(declared, Sourced) else declared
