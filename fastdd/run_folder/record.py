"""What the types of all JSON files of a run folder share, and how one is written."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..runtime.files import write_json


class Record(BaseModel):
    """Content of a file: no keys but those declared, no infinite or undefined numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def write(file: Path, record: Record) -> None:
    """Write a file atomically: the fields that were given, in the order of the type."""
    write_json(file, record.model_dump(mode="json", exclude_unset=True))
