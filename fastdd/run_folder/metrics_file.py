"""metrics.json with a digest of its content: a file that was damaged or edited by hand is known by it.

Whoever edits a file with care can write its digest anew, so the digest tells of accidents and haste alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from ..errors import InputError
from ..runtime.files import write_json
from .reading import DELETE, read
from .results import Metrics

KEY = "digest"


def write_metrics(file: Path, metrics: Metrics) -> None:
    """Write results atomically: the fields that were given, in the order of the type, then the digest."""
    content = metrics.model_dump(mode="json", exclude_unset=True, exclude={KEY})
    write_json(file, content | {KEY: _digest(content)})


def require_unedited_results(file: Path, remedy: str = DELETE) -> None:
    """Refuse results that say something else than when they were measured; those of earlier versions have no
    digest, and pass.

    Args:
        remedy: the smallest thing to do.

    Raises:
        InputError: it was edited, or it is no JSON.
    """
    content = read(file, dict[str, JsonValue], remedy)
    noted = content.pop(KEY, None)
    if noted is not None and noted != _digest(content):
        raise InputError(f"{file} was edited after it was measured, which its digest tells; {remedy}")


def _digest(content: Mapping[str, JsonValue]) -> str:
    """First 16 hex digits of the sha256 of the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
