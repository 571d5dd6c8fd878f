"""Things found by name, to which anybody may add: terms, methods, protocols, data layouts, networks, exports.

A registry knows the things of three origins, under one rule, that no name is given twice:

    its own      modules of one package of fastdd, which register what they define when they are imported
    of others    entry points of the registry's group, in any installed distribution
    registered   at run time, by ``register``

So a new term is one new file, and a package of somebody else's is found without an import. The modules and
entry points are read when the registry is first asked, not when fastdd is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from ..errors import InputError, suggestion
from .user_code import FAILURES, reason

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
LONGEST_LIST = 400
"""characters of the known names in a message"""


class Registry(Generic[T]):
    """Things of one kind by their names, in the order in which they were registered.

    Args:
        kind: what a thing is called in messages, such as ``term``.
        package: the package of fastdd whose modules register their own things.
        group: the entry-point group of other distributions' things, such as ``fastdd.terms``.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind, self.package, self.group = kind, package, group
        self._things: dict[str, T] = {}
        self._own_loaded = self._loaded = False
        self._fault: Exception | None = None

    def register(self, name: str, thing: T) -> None:
        """Add a thing.

        Raises:
            InputError: the name is taken, or is not made of letters, digits and ``_ . + -``.
        """
        self._load_own()
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot name a {self.kind}; use letters, digits, '_', '.', '+' and '-'"
            )
        if name in self._things:
            raise InputError(f"there is a {self.kind} {name!r} already; register yours under another name")
        self._check(name, thing)
        self._things[name] = thing

    def _check(self, name: str, thing: T) -> None:
        """Refuse a thing that could not work; for registries whose things can be judged beforehand."""

    def _load_own(self) -> None:
        """Import fastdd's own modules, once, which register what they define; a failure stays a failure."""
        if self._fault is not None:
            raise self._fault
        if self._own_loaded:
            return
        self._own_loaded = True
        try:
            package = import_module(self.package)
            for module in sorted(iter_modules(package.__path__), key=lambda module: module.name):
                import_module(f"{self.package}.{module.name}")
        except Exception as error:
            self._fault = error
            raise

    def _load(self) -> None:
        """Find the things of fastdd's own modules and of entry points, once; a failure stays a failure."""
        self._load_own()
        if self._loaded:
            return
        self._loaded = True
        try:
            self._discover()
        except Exception as error:
            self._fault = error
            raise

    def _discover(self) -> None:
        """Load the entry points by name, at the first lookup and not before: who registers may be a module
        that is half imported, which the package of an entry point imports too.

        Raises:
            InputError: an entry point cannot be loaded, its name is taken, or it is no such thing; the
                message names the distribution.
        """
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            try:
                self.register(point.name, point.load())
            except FAILURES as error:  # loading executes other people's modules
                of = point.dist.name if point.dist else point.value
                why = str(error) if isinstance(error, InputError) else reason(error)
                raise InputError(
                    f"the entry point {point.name!r} of {of} ({self.group}) cannot be loaded: {why}; mend "
                    f"or uninstall {of}"
                ) from error

    def __getitem__(self, name: str) -> T:
        """The thing of a name.

        Raises:
            InputError: there is none; the nearest name is told.
        """
        self._load()
        if name not in self._things:
            near = suggestion(name, self._things)
            raise InputError(f"unknown {self.kind} {name!r}{near}; known: {_listed(list(self._things))}")
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._things)

    def __len__(self) -> int:
        self._load()
        return len(self._things)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._things


def _listed(names: Sequence[str]) -> str:
    """Names for a message; of many those that are no variant, as a-b is of a, and how many more there are."""
    if len(whole := ", ".join(names)) <= LONGEST_LIST:
        return whole
    heads = [name for name in names if not any(name.startswith(f"{other}-") for other in names)]
    shown = ""
    for number, name in enumerate(heads):
        longer = f"{shown}, {name}" if shown else name
        if len(longer) > LONGEST_LIST:
            return f"{shown} and {len(names) - number} more"
        shown = longer
    return f"{shown} and {len(names) - len(heads)} more"
