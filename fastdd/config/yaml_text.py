"""YAML as recipes write it: numbers in one spelling each, text as it stands, and errors of one line.

YAML 1.1 reads 1_0 as 10, 02 as 2, 1:30 as 90, on as true and 1e-3 as text. Here a number is written as in
JSON, true, false and null are the only words that are no text, keys are always text, and everything else is
text. Anchors may stand, but nothing refers to them, so a document is as large as its file.
"""

from __future__ import annotations

import json
import math
import re
from typing import cast

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError
from yaml.resolver import BaseResolver

from ..errors import InputError

WORDS = re.compile(r"true|false")
NULL = re.compile(r"null|~|")
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan")
DIGITS = 400
"""characters of a longer number are a mistake; Python itself stops at 4300"""
DEPTH = 40
"""sections and lists within each other, of which a recipe has 7"""


def scalar(text: str) -> bool | int | float | str | None:
    """The value of a text without quotes: null, true, false, a number as JSON has it, or else the text."""
    if NULL.fullmatch(text):
        return None
    if WORDS.fullmatch(text):
        return text == "true"
    if len(text) > DIGITS:
        return text
    if WHOLE.fullmatch(text):
        return int(text)
    if NUMBER.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text


def shown(value: object) -> str:
    """A value in a message: YAML's word for it where it has one, with texts in quotes."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def mistake(problem: str, at: yaml.Node | yaml.Event) -> ConstructorError:
    """An error at the start of a part of a document."""
    return ConstructorError(None, None, problem, cast("yaml.Mark | None", at.start_mark))


class Loader(yaml.SafeLoader):
    """YAML of null, bool, int, float, str, list and dict alone, without references.

    Another loader derives from it to know more tags.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise mistake(f"*{event.anchor} refers to another value; write that value here", event)
        if self.depth == DEPTH:
            raise mistake(f"more than {DEPTH} sections or lists within each other", event)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def plain(self, node: yaml.ScalarNode) -> object:
        """The value of a scalar: text where it is in quotes, else as ``scalar`` reads it."""
        return scalar(node.value) if node.style is None else node.value

    def sequence(self, node: yaml.SequenceNode) -> list[object]:
        return [self.construct_object(item, deep=True) for item in node.value]

    def mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        """A mapping; its keys are text, and each stands there once."""
        found: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise mistake("a key must be text", key)
            if key.value in found:
                raise mistake(f"key written twice: {key.value}", key)
            found[key.value] = self.construct_object(value, deep=True)
        return found

    def unknown(self, node: yaml.Node) -> object:
        raise mistake(f"the tag {node.tag} means nothing here; write text in quotes", node)


# nothing of YAML 1.1's types is inherited
Loader.yaml_implicit_resolvers = {}
Loader.yaml_constructors = {}
Loader.add_constructor(BaseResolver.DEFAULT_SCALAR_TAG, Loader.plain)
Loader.add_constructor(BaseResolver.DEFAULT_SEQUENCE_TAG, Loader.sequence)
Loader.add_constructor(BaseResolver.DEFAULT_MAPPING_TAG, Loader.mapping)
Loader.add_constructor(None, Loader.unknown)


def load_yaml(text: str, origin: str, loader: type[Loader] = Loader) -> object:
    """The document in a text.

    Args:
        origin: where the text is from, for the message.

    Raises:
        InputError: the text is not valid YAML; one line says where.
    """
    try:
        document: object = loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise InputError(f"{origin} is not valid YAML: {_one_line(error)}") from error
    return document


def _one_line(error: yaml.YAMLError) -> str:
    """``line 3, column 8: ...`` of YAML's error, which has up to eight lines."""
    if isinstance(error, ReaderError):
        return f"character {error.position}: {error.reason}"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + (problem or " ".join(str(error).split()))


class _Dumper(yaml.SafeDumper):
    """YAML in which text that either this module or YAML 1.1 would read as a number is in quotes."""


for _first in "-+.0123456789":
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{NUMBER.pattern})$"), [_first])


def dump_yaml(value: object, *, one_line: bool = False) -> str:
    """JSON-like values as YAML, which reads the same with and without this module's rules."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=one_line,
        width=math.inf if one_line else 80,
    )
    return text.removesuffix("...\n").strip() if one_line else text
