"""The JSON schema of a recipe as it is written: sections, keys, their types, defaults and what they mean."""

from __future__ import annotations

from typing import cast

from pydantic import JsonValue

from ..config import Method, Recipe
from ..methods import ADDITIONS, METHODS
from ..protocols import PROTOCOLS
from .presets import dataset_names

Schema = dict[str, JsonValue]


def recipe_schema() -> Schema:
    """The schema of recipes, with the methods, terms, protocols and data sets that are known here.

    A recipe that fits it may still be refused for values that do not go together.
    """
    schema: Schema = Recipe.model_json_schema()
    definitions, properties = _mapping(schema, "$defs"), _mapping(schema, "properties")
    arm = Method.model_json_schema()
    arm_keys = _mapping(arm, "properties")
    names: list[JsonValue] = [*METHODS, *ADDITIONS]
    arm_keys["method"] = {"enum": names, "description": "the method whose values the arm takes"}
    additions: list[JsonValue] = [*ADDITIONS]
    arm_keys["add"] = {
        "type": "array",
        "items": {"enum": additions},
        "description": "additions whose terms are laid over the method's",
    }
    definitions |= _mapping(arm, "$defs")
    arm.pop("$defs")
    arm.pop("required", None)
    definitions["Arm"] = arm
    properties["arms"] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Arm"},
        "description": _mapping(properties, "arms")["description"],
    }
    properties["method"] = {
        "$ref": "#/$defs/Arm",
        "description": "values that every arm takes over those of its method",
    }
    properties["grid"] = {"type": "object", "description": "key -> values of a sweep over the recipe"}
    numbers = "a paper's numbers, which are shown beside those of a run"
    properties["published"] = {"type": "object", "description": numbers}
    properties["regimes"] = {"description": "regimes in which all kinds of students are trained"}
    data_sets: list[JsonValue] = [*dataset_names()]
    _mapping(properties, "dataset")["anyOf"] = [{"enum": data_sets}, {"type": "null"}]
    protocols: list[JsonValue] = [*PROTOCOLS]
    student = _mapping(definitions, "Student")
    _mapping(_mapping(student, "properties"), "protocol")["anyOf"] = [{"enum": protocols}, {"type": "null"}]
    schema.pop("required", None)  # a data set or a default gives what a recipe leaves out
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fastdd recipe"}


def _mapping(schema: Schema, key: str) -> Schema:
    return cast("Schema", schema[key])
