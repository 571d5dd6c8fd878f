"""Validation of plain values; messages name the key, what is wrong, the value and the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import InputError, suggestion
from .base import alternatives
from .data import Teacher
from .method import Method
from .student import Student
from .terms import Terms, vocabulary
from .yaml_text import shown

NAMED: dict[str, type[BaseModel]] = {"arms": Method, "committee": Teacher, "students": Student}
"""sections of a recipe that hold configurations by name, and the type of those"""
FILE_ALONE = ("student_arms", "student_labels", "student_views", "published", "sweep")
"""sections of a recipe that no override changes"""
LONGEST = 120
"""characters of a value in a message"""
TYPES = ("bool", "int", "float", "str", "constrained-int", "constrained-float")
"""pydantic's names for the types in ``Count | Literal["all"]``, which follow the keys in a location"""

WORDS = {
    "tuple_type": "Input should be a list in brackets",
    "too_short": "Input should be a list of at least one item",
    "dict_type": "Input should be a section, such as {key: value}",
    "model_type": "Input should be a section, such as {key: value}",
}
"""pydantic's name for an error -> how it is put in the words of YAML"""

C = TypeVar("C", bound=BaseModel)


def validated(model: type[C], plain: object, origin: str) -> C:
    """The configuration that plain values make.

    Args:
        model: the type of the configuration, such as Recipe.
        plain: nested mappings of JSON-like values.
        origin: where the values come from, for the message.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of range, or a text that no file could
            be named by.
    """
    for path, text in _texts(plain):
        if "\0" in text or not _is_unicode(text):
            raise InputError(
                f"{origin}: {path}: text may hold no zero byte and is in UTF-8, got {_shown(text)}"
            )
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"{origin}: {_explained(model, error)}") from error


def _texts(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The dotted path of each text in nested values, keys included, and the text."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}".removeprefix(".")
            yield here.encode(errors="replace").decode(), str(key)
            yield from _texts(value, here)
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from _texts(value, f"{path}.{place}")


def _is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8; an argument or a YAML escape may hold half of a letter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def schema(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The dotted path and the type of each value of a configuration that ``key=value`` may name.

    Sections have paths too. A recipe's ``arms``, ``committee`` and ``students`` hold names of the user's, and
    those of FILE_ALONE are for files alone; their paths are left out.
    """
    named = NAMED if "arms" in model.model_fields else ()  # an arm's own ``committee`` is a value
    for name, field in model.model_fields.items():
        if name in named or name in FILE_ALONE:
            continue
        yield prefix + name, field.annotation
        inner = _model_in(field.annotation)
        if inner is not None:
            yield from schema(inner, f"{prefix}{name}.")


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The type of a section, from an annotation such as ``Gaussian | None``; None where it is a value."""
    if annotation is Terms:
        return vocabulary()
    for candidate in alternatives(annotation):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the section at a path."""
    section: type[BaseModel] | None = model
    keys = iter(path)
    for key in keys:
        if key in NAMED:
            next(keys, None)  # the name
            section = NAMED[key]
        elif section is not None and key in section.model_fields:
            section = _model_in(section.model_fields[key].annotation)
    return [] if section is None else list(section.model_fields)


def _explained(model: type[BaseModel], error: ValidationError) -> str:
    """Pydantic's list of errors in one line."""
    unknown: list[str] = []
    found: dict[str, list[ErrorDetails]] = {}
    for item in error.errors():
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # pydantic counts the valid items alone; each other one has a message of its own
        path = _keys(item["loc"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, path[:-1])
            unknown.append(f"unknown key {'.'.join(path)}{suggestion(path[-1], known)}")
        else:
            found.setdefault(".".join(path), []).append(item)
    return "; ".join([*unknown, *(_sentence(path, items) for path, items in found.items())])


def _keys(location: Sequence[int | str]) -> list[str]:
    """The keys of an error's location, without pydantic's names for the types that a value may have."""
    keys: list[str] = []
    for part in map(str, location):
        is_name = bool(keys) and keys[-1] in NAMED
        if is_name or not (part in TYPES or "[" in part):
            keys.append(part)
    return keys


def _sentence(path: str, items: Sequence[ErrorDetails]) -> str:
    """What is wrong at a path; there is one item for each type that the value may have."""
    first, *others = (WORDS.get(item["type"], item["msg"].removeprefix("Value error, ")) for item in items)
    message = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    given = "" if items[0]["type"] == "value_error" else f", got {_shown(items[0]['input'])}{_near(items)}"
    if any(_wants_text(item) for item in items) and isinstance(items[0]["input"], bool | int | float):
        given += "; write text in quotes"
    return f"{path + ': ' if path else ''}{message[0].lower()}{message[1:]}{given}"


def _near(items: Sequence[ErrorDetails]) -> str:
    """The nearest of the words that the value may be, as a question; empty where it is like none of them."""
    given = items[0]["input"]
    expected = " ".join(str(item.get("ctx", {}).get("expected")) for item in items)
    return suggestion(given, re.findall("'([^']*)'", expected)) if isinstance(given, str) else ""


def _wants_text(item: ErrorDetails) -> bool:
    """Whether text would have been valid, of which some looks like a number or a truth value."""
    expected = str(item.get("ctx", {}).get("expected", ""))
    return item["type"] == "string_type" or f"'{str(item['input']).lower()}'" in expected


def _shown(value: object) -> str:
    """A value in a message: as it was written, and no longer than a line."""
    text = shown(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
