"""Protocols by name: how the papers' released code trains and tests students.

A protocol is a preset of a recipe's section ``student``: a mapping of its keys to values, plain ones or with
their source, as methods have them. A recipe or a command lays its own values over it. presets.py registers
fastdd's; another distribution gives its own as entry points of the group ``fastdd.protocols``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..config import Student
from ..config.sources import code, plain_values, with_origin
from ..config.validation import validated
from ..errors import InputError
from ..runtime.registry import Registry


class Protocols(Registry[Mapping[str, object]]):
    """Presets of ``student`` by name; one with an unknown key or a bad value is refused."""

    def _check(self, name: str, thing: Mapping[str, object]) -> None:
        if not isinstance(thing, Mapping):
            raise InputError(f"protocol {name} must be a mapping of keys of `student`, got {thing!r}")
        validated(Student, plain_values(with_origin(_whole(name, thing), "")), f"protocol {name}")


PROTOCOLS = Protocols("protocol", package="fastdd.protocols", group="fastdd.protocols")


def register_protocol(name: str, values: Mapping[str, object]) -> None:
    """Add a protocol to this process; see ``fastdd.register_protocol``."""
    PROTOCOLS.register(name, values)


def preset(name: str) -> dict[str, object]:
    """The section ``student`` that a protocol makes, with the sources that the protocol names.

    Raises:
        InputError: there is no such protocol; the nearest name is told.
    """
    return _whole(name, PROTOCOLS[name])


def _whole(name: str, values: Mapping[str, object]) -> dict[str, object]:
    """A preset with its name; where it counts epochs, the house protocol's steps are set to null."""
    steps = {"steps": code(None)} if "epochs" in values and "steps" not in values else {}
    return {"protocol": name, **steps, **values}
