"""Validation of plain values against the vocabulary, with messages that name path, value and nearest known key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import InputError, suggestion
from . import Method, Recipe, Teacher, Terms
from .terms import vocabulary

NAMED: dict[str, type[BaseModel]] = {"arms": Method, "committee": Teacher}  # sections of named configurations


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The configuration type in an annotation such as ``Gaussian | None``."""
    if annotation is Terms:
        return vocabulary()
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def schema_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all leaves of a configuration type, without a recipe's sections of named ones and its sweep."""
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if name in (*NAMED, "sweep"):
            continue
        if inner is None:
            yield prefix + name
        else:
            yield prefix + name  # the section itself may be set, to null or to a mapping
            yield from schema_paths(inner, f"{prefix}{name}.")


def _model_at(path: Sequence[str]) -> type[BaseModel] | None:
    """The configuration type that a key's parents lead to."""
    model: type[BaseModel] | None = Recipe
    parts = iter(path)
    for part in parts:
        if model is Recipe and part in NAMED:
            next(parts, None)
            model = NAMED[part]
        elif model and part in model.model_fields:
            model = _model_of(model.model_fields[part].annotation)
    return model


def _explain(error: ValidationError, origin: str) -> str:
    """Pydantic's list as sentences: path, what is wrong, what was given, the nearest known key."""
    lines = []
    for item in error.errors():
        # of a choice such as ``Count | All`` the first alternative says enough; its name is pydantic's own
        if any(part == "literal['all']" for part in item["loc"]):
            continue
        loc = [str(part) for part in item["loc"]]
        parts = [part for part in loc if part != "constrained-int" and not part.startswith("literal[")]
        path = ".".join(parts)
        if item["type"] == "extra_forbidden":
            model = _model_at(parts[:-1])
            lines.append(f"unknown key {path}{suggestion(parts[-1], model.model_fields if model else ())}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = "" if item["type"] == "value_error" else f", got {item['input']!r}"
            lines.append(f"{path + ': ' if path else ''}{message[0].lower()}{message[1:]}{given}")
    return f"{origin}: " + "; ".join(lines)


def validated(plain: Any, origin: str) -> Recipe:
    """The recipe of plain values.

    Args:
        origin: where they are from, for the message.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of range.
    """
    try:
        return Recipe.model_validate(plain)
    except ValidationError as error:
        raise InputError(_explain(error, origin)) from error
