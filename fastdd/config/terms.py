"""The objective of a recipe: terms by name, each with the configuration type that the term itself declares.

The terms are classes in fastdd/recover/terms/, one a file, and in other distributions. ``TERMS`` finds them
by name and imports them when a recipe first names a term, so this module imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any, Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from ..errors import InputError
from ..runtime.registry import Registry
from .base import Config
from .yaml_text import shown

DEFAULT = "ce"
"""name of cross-entropy, the one term that is present unless a recipe sets it to null"""


class DeclaredTerm(Protocol):
    """What recipes read of a term's class; ``fastdd.recover.terms.base.Term`` explains each attribute."""

    configuration: type[Config]
    labels: Mapping[str, str]
    position: int
    excludes: Mapping[str, str]
    paired: bool

    def beside(self, config: Config, terms: Mapping[str, Config]) -> Config:
        """The configuration among the other terms."""


class _TermRegistry(Registry[DeclaredTerm]):
    """All terms by name."""

    def _check(self, name: str, thing: DeclaredTerm) -> None:
        if not name.isidentifier():
            raise InputError(
                f"{name!r} cannot name a term, which is a key of recipes; use letters, digits and '_'"
            )
        if not isinstance(thing, type):
            raise InputError(f"term {name!r} must be a class derived from fastdd.recover.Term, got {thing!r}")
        has = {member for base in thing.__mro__[:-1] for member in vars(base)}
        has -= getattr(thing, "__abstractmethods__", frozenset())
        parts = ("configuration", "labels", "position", "excludes", "needs", "targets", "__call__")
        if missing := [part for part in parts if part not in has]:
            raise InputError(
                f"term {name!r}: the class {thing.__name__} has no `{missing[0]}`; "
                f"derive it from fastdd.recover.Term and give it one"
            )
        if not (isinstance(thing.configuration, type) and issubclass(thing.configuration, Config)):
            raise InputError(
                f"term {name!r}: {thing.__name__}.configuration must be a class derived from "
                f"fastdd.config.Config, got {thing.configuration!r}"
            )
        for part, example in (("labels", f"{{{name!r}: 'its label in figures'}}"), ("excludes", "{}")):
            texts = getattr(thing, part)
            if not isinstance(texts, Mapping) or not all(
                isinstance(text, str) for text in chain(*texts.items())
            ):
                raise InputError(
                    f"term {name!r}: {thing.__name__}.{part} must be a mapping of str to str, such as "
                    f"{example}, got {texts!r}"
                )
        if not thing.labels:
            raise InputError(
                f"term {name!r}: {thing.__name__}.labels is empty; give each value that the term "
                f"returns a label there"
            )
        self._check_values(name, thing)

    def _check_values(self, name: str, thing: DeclaredTerm) -> None:
        """Refuse a name of a value that another term has, unless the two are never in one objective."""
        for other, term in self._things.items():
            shared = sorted(thing.labels.keys() & term.labels.keys())
            if shared and other not in thing.excludes and name not in term.excludes:
                raise InputError(
                    f"term {name!r}: its value {shared[0]!r} is also one of the term {other!r}; give it "
                    f"another name in `labels` and in what the term returns"
                )

    def in_order(self) -> list[str]:
        """The names in the order in which an objective adds the terms up; rounding depends on it."""
        return sorted(self, key=lambda name: (self[name].position, name))


TERMS = _TermRegistry("term", "fastdd.recover.terms", "fastdd.terms")


class Terms(Mapping[str, Config]):
    """The terms of an objective by name, in the order in which they are added up.

    ``Terms(bn=BatchNorm(weight=0.05))`` is cross-entropy and BatchNorm statistics; ``ce=None`` leaves
    cross-entropy out. A term that is absent has no key, and is None as an attribute.

    Args:
        terms: name -> configuration, or its values as a mapping, or None for a term that is absent.

    Raises:
        pydantic.ValidationError: an unknown term or key, or a value of the wrong type or out of range.
        ValueError: two terms that exclude each other.
    """

    _read_whole = True
    """false: the configurations are not known, see ``named``"""

    def __init__(self, **terms: Config | Mapping[str, JsonValue] | None) -> None:
        self._terms = _validated(terms)

    @classmethod
    def none(cls) -> Terms:
        """No terms, for a method that optimizes nothing; unlike ``Terms(ce=None)`` it imports no term."""
        made = cls.__new__(cls)
        made._terms = {}
        return made

    @classmethod
    def named(cls, names: Iterable[str]) -> Terms:
        """Terms of which the names alone are known, for a look at a recipe that was validated before: unlike
        ``Terms`` it imports no term, and no torch."""
        made = cls.none()
        made._terms, made._read_whole = {name: Config() for name in names}, False
        return made

    @property
    def paired(self) -> list[str]:
        """Names of the terms that compare images with the real ones that they start from.

        None are told of terms whose names alone are known.
        """
        return [name for name in self if TERMS[name].paired] if self._read_whole else []

    def __getitem__(self, name: str) -> Config:
        return self._terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def __repr__(self) -> str:
        return f"Terms({', '.join(f'{name}={config!r}' for name, config in self._terms.items())})"

    def __getattr__(self, name: str) -> Any:
        # The type of a term's configuration is known to the registry alone, not to a type checker.
        if name.startswith("_") or name not in TERMS:
            raise AttributeError(f"Terms has no attribute {name!r}")
        return self._terms.get(name)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(cls._plain)
        return core_schema.no_info_plain_validator_function(cls._read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(vocabulary().__pydantic_core_schema__)

    @classmethod
    def _read(cls, given: object) -> Terms:
        if isinstance(given, Terms):
            return given
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise ValueError(
                f"terms must be a mapping of terms by name, such as {{bn: {{weight: 0.01}}}}, "
                f"got {shown(given)}"
            )
        return cls(**given)

    def _plain(self) -> dict[str, JsonValue]:
        """Values as in a recipe file: null for an absent term of fastdd.

        An absent term of another distribution has no key, so that the run can be read where that is not
        installed.
        """
        own = (name for name in TERMS.in_order() if TERMS[name].__module__.startswith(f"{TERMS.package}."))
        present = {name: config.model_dump(mode="json") for name, config in self._terms.items()}
        return dict.fromkeys(own) | present


def term_labels() -> dict[str, str]:
    """Name of a value in logs of losses -> its label in figures, for all terms."""
    return {value: label for name in TERMS.in_order() for value, label in TERMS[name].labels.items()}


def vocabulary() -> type[Config]:
    """The keys under ``terms`` of a recipe, as a type with one field for each registered term."""
    return _vocabulary(tuple(TERMS.in_order()))


@cache
def _vocabulary(names: tuple[str, ...]) -> type[Config]:
    fields: dict[str, Any] = {}  # name -> (type, default), as create_model wants them
    for name in names:
        configuration = TERMS[name].configuration
        fields[name] = (configuration | None, configuration() if name == DEFAULT else None)
    return create_model("Terms", __base__=Config, **fields)


def _validated(terms: Mapping[str, object]) -> dict[str, Config]:
    """The configurations of the terms that are present, each validated by its type."""
    checked = dict(vocabulary().model_validate(dict(terms)))
    present = {name: config for name, config in checked.items() if config is not None}
    for name in present:
        for other, why in TERMS[name].excludes.items():
            if other in present:
                raise ValueError(f"{why}: set {other} to null, or {name}")
    return {name: TERMS[name].beside(config, present) for name, config in present.items()}
