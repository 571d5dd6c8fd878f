"""``key=value`` texts of the command line and of fastdd.run: what each of them sets.

A key is a dotted path. Its beginning may be left out where only one path ends so: ``minimum_accuracy`` is
``teacher.minimum_accuracy``. ``method.x`` is x of every arm, ``students.NAME.x`` x of one of the further
students. The type of the key decides how its text is read: text as it stands, a word such as ``cosine`` or
``null``, a number in JSON's spelling, or a list or section in brackets, as YAML writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from pydantic import BaseModel, JsonValue

from ..config import Method
from ..config.base import alternatives
from ..config.sources import Tree, merge, nested, section, with_origin
from ..config.validation import FILE_ALONE, NAMED, schema
from ..config.yaml_text import load_yaml, scalar
from ..errors import InputError, suggestion

Address: TypeAlias = tuple[str, ...]
"""where a value stands: ("student.lr",) or, in a named section, ("arms", "deda", "terms.gaussian.gamma")"""


@dataclass(frozen=True)
class Override:
    """A key as it was given, perhaps shortened, and the text of its value."""

    key: str
    text: str


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """Read ``key=value`` texts.

    Raises:
        InputError: a text without an equals sign, or one text where a list of them is expected.
    """
    found = []
    for text in texts_of("overrides", texts, "ipc=10"):
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"override {text!r} must look like key=value, for example ipc=10")
        found.append(Override(key, value))
    return found


def texts_of(name: str, given: Iterable[str], example: str) -> list[str]:
    """The texts of an argument of fastdd.run.

    Raises:
        InputError: a single text, which Python would take for a list of its letters, or something else.
    """
    texts = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if isinstance(given, str) or (given and not texts) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} must be a list of texts, such as {[example]}, got {given!r}")
    return texts


def value_of(text: str, model: type[BaseModel], address: Address) -> JsonValue:
    """The value that a text means at an address.

    Args:
        model: the configuration that the address is in, such as Recipe.

    Raises:
        InputError: brackets whose content is not valid YAML.
    """
    types = dict(schema(NAMED[address[0]] if len(address) > 1 else model))
    allowed = list(alternatives(types[address[-1]]))
    if text == "null" and None in allowed:
        return None
    if str in allowed or any(text == word for word in allowed):
        return text
    if text.lstrip().startswith(("[", "{")):
        found = load_yaml(text, f"the value {text!r} of {'.'.join(address)}")
        return cast("JsonValue", found)
    return scalar(text.strip())


def set_value(model: type[BaseModel], tree: Tree, override: Override) -> tuple[Tree, tuple[Address, ...]]:
    """Lay an override over a tree.

    Args:
        model: the configuration that the tree is of, such as Recipe.

    Returns:
        The new tree, and the address of each value that was set.

    Raises:
        InputError: the key is unknown, or may mean several values; or the text is no value.
    """
    addresses = _addresses(model, tree, override.key)
    for address in addresses:
        *outer, path = address
        leaf = with_origin(value_of(override.text, model, address), "command line")
        tree = merge(tree, nested([*outer, *path.split(".")], leaf))
    return tree, addresses


def values_outside_arms(model: type[BaseModel], overrides: Sequence[Override]) -> Tree:
    """What overrides set outside of arms, committee and students, whose names are not known yet."""
    tree: Tree = {}
    for override in overrides:
        if override.key.partition(".")[0] not in NAMED:
            tree, _ = set_value(model, tree, override)
    return tree


def _addresses(model: type[BaseModel], tree: Tree, key: str) -> tuple[Address, ...]:
    """What a key means: one value, or one of each arm."""
    head, _, rest = key.partition(".")
    if head in NAMED and head in model.model_fields:
        return (_named(tree, head, rest, key),)
    if head in FILE_ALONE and head in model.model_fields:
        raise InputError(
            f"{key!r} is of the section {head}, which no override changes; write it in a .yaml file"
        )
    of_method = _paths(Method) if "arms" in model.model_fields else []
    of_arms = [f"method.{path}" for path in of_method]
    if head == "method" and of_method:
        path = f"method.{_completed(rest, of_method, key)}"
    else:
        path = _completed(key, [*_paths(model), *of_arms], key)
    if path not in of_arms:
        return ((path,),)
    path = path.removeprefix("method.")
    return tuple(("arms", arm, path) for arm in _arms_with(tree, path))


def _paths(model: type[BaseModel]) -> list[str]:
    return [path for path, _ in schema(model)]


def _named(tree: Tree, head: str, rest: str, key: str) -> Address:
    """The address of ``arms.NAME.path``, ``committee.NAME.path`` or ``students.NAME.path``."""
    name, _, inner = rest.partition(".")
    names = list(section(tree, head))
    if not inner and (not name or name in names):
        which = name or next(iter(names), "NAME")
        said = f"of {', '.join(names)}" if names else "that this recipe does not have"
        value = "epochs=10" if head == "committee" else "steps=500"
        raise InputError(
            f"{key!r} is a section {said}, and an override gives one value in it, such as "
            f"{head}.{which}.{value}; write whole sections in a .yaml file"
        )
    if name not in names:
        what = "further teacher" if head == "committee" else head.removesuffix("s")
        listed = ", ".join(names) or f"the recipe has none, write a section `{head}` in a .yaml file"
        raise InputError(f"{key}: unknown {what} {name!r}{suggestion(name, names)}; {head}: {listed}")
    return head, name, _completed(inner, _paths(NAMED[head]), key)


def _completed(key: str, paths: Sequence[str], shown: str) -> str:
    """The path that a key is, or the one that ends in it.

    Args:
        shown: the key as it was given, for the message.
    """
    if key in paths:
        return key
    matches = [path for path in paths if path.endswith(f".{key}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"{shown!r} is ambiguous: it may mean {', '.join(matches)}")
    known = [*(path.rsplit(".", 1)[-1] for path in paths), *paths]
    raise InputError(f"unknown key {shown!r}{suggestion(key, known)}; `fastdd show RECIPE` lists all keys")


def _arms_with(tree: Tree, path: str) -> list[str]:
    """The arms that ``method.path`` sets: for an option of a term those that have the term, else all."""
    arms = section(tree, "arms")
    first, *option = path.split(".")
    if first != "terms" or len(option) < 2:
        return list(arms)
    having = [
        arm for arm, method in arms.items() if isinstance(section(method, "terms").get(option[0]), dict)
    ]
    return having or list(arms)
