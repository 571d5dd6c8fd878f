"""The page of recipe keys: every section and key, with type, default and meaning, from the types'
docstrings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from markdown_pieces import code, prose, table

from fastdd.recipes.schema import recipe_schema

INTRODUCTION = """# Recipe keys

A recipe is a YAML file of the sections below. Every key may stand in the file, and may be overridden on the
command line as `key=value`, where `key` may be shortened to its end while it stays unique:
`method.gamma=10`. `fastdd show RECIPE` prints every value of a recipe, who set it and why. This page is
made from the types; so is the schema of `fastdd schema`, with which editors complete recipes.

In the keys, `arms.NAME` is any arm. The same keys under `method` hold for every arm of the recipe.
"""
Node = Mapping[str, object]


class Section(NamedTuple):
    """A mapping of a recipe: its dotted path, what its type says of it, and its keys with what each is."""

    path: str
    description: str
    keys: Mapping[str, Node]


NAMED = {"committee": "committee.NAME", "arms": "arms.NAME", "students": "students.NAME"}
"""section of things that the recipe names -> path of one of them"""


def sections() -> Iterator[Section]:
    """All sections, each type once: what has the keys of an earlier section is named there."""
    schema = recipe_schema()
    definitions = cast("dict[str, Node]", schema["$defs"])
    seen: set[str] = set()

    def walk(path: str, node: Node) -> Iterator[Section]:
        keys = cast("Mapping[str, Node]", node.get("properties", {}))
        yield Section(path, str(node.get("description", "")), keys)
        for key, each in keys.items():
            found = _definition(each, definitions)
            if found is None or found[0] in seen or (not path and key == "method"):
                continue
            seen.add(found[0])
            inner = f"{path}.{key}" if path else NAMED.get(key, key)
            yield from walk(inner, found[1])

    yield from walk("", schema)


def _definition(node: Node, definitions: Mapping[str, Node]) -> tuple[str, Node] | None:
    """The mapping type that a key holds, or holds one of under each name, with its name; None: a value."""
    if "properties" in node:
        return str(id(node)), node
    inner = node.get("additionalProperties")
    for each in (node, *cast("list[Node]", node.get("anyOf", [])), inner if isinstance(inner, dict) else {}):
        name = str(each.get("$ref", "")).rpartition("/")[2]
        if "properties" in definitions.get(name, {}):
            return name, definitions[name]
    return None


def recipe_page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    definitions = cast("dict[str, Node]", recipe_schema()["$defs"])
    places = {_type_of(each): each.path for each in sections()}
    for section in sections():
        parts.append(f"\n## {section.path or 'top level'}\n")
        if section.path:
            parts.append(prose(section.description) + "\n")
        rows = [
            [f"`{key}`", _type(node, definitions, places), _default(node), _meaning(node, definitions)]
            for key, node in section.keys.items()
        ]
        parts.append(table(["key", "value", "default", "what it means"], rows))
    return "\n".join(parts)


def _type_of(section: Section) -> str:
    return section.description + ",".join(section.keys)


def _type(node: Node, definitions: Mapping[str, Node], places: Mapping[str, str]) -> str:
    found = _definition(node, definitions)
    if found is not None:
        inner = found[1]
        keys = cast("Mapping[str, Node]", inner["properties"])
        place = places.get(_type_of(Section("", str(inner.get("description", "")), keys)), "arms.NAME")
        link = f"[section](#{place.lower().replace('.', '')})"
        return f"null or {link}" if _may_be_null(node) else link
    choices = cast("list[Node]", node.get("anyOf", [node]))
    return " or ".join(dict.fromkeys(_simple(each) for each in choices))


def _may_be_null(node: Node) -> bool:
    return any(each.get("type") == "null" for each in cast("list[Node]", node.get("anyOf", [])))


def _simple(node: Node) -> str:
    if "const" in node:
        return code(node["const"])
    if "enum" in node:
        words = cast("list[object]", node["enum"])
        if len(words) > 12:
            return f"one of {len(words)} names"
        return ", ".join(code(word) for word in words)
    kind = str(node.get("type", "value"))
    if kind == "array":
        items = node.get("items", {})
        return f"list of {_simple(items)}" if isinstance(items, dict) and items else "list"
    limits = [
        f"{sign} {node[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in node and abs(cast("float", node[key])) < 2**31 - 1
    ]
    name = {"string": "text", "boolean": "true, false", "object": "mapping", "null": "null"}.get(kind, kind)
    return f"{name} {', '.join(limits)}".strip()


def _default(node: Node) -> str:
    if "default" not in node or isinstance(node["default"], dict):
        return ""
    value = node["default"]
    told = {None: "null", True: "true", False: "false", "": "empty"}
    return code(told[value]) if isinstance(value, bool | str | None) and value in told else code(value)


def _meaning(node: Node, definitions: Mapping[str, Node]) -> str:
    found = _definition(node, definitions)
    said = str(
        node.get("description") or ""
        if found is None
        else node.get("description") or found[1].get("description", "")
    )
    return prose(said.replace("\n\n", " "))
