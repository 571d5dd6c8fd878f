"""The card of a teacher: what its network expects and knows, as JSON in the metadata of its weights.

Files from elsewhere have none; the recipe then supplies it, and the shapes are checked against the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

KEY = "fastdd"
"""of the metadata of a safetensors file"""


@dataclass(frozen=True)
class Card:
    """What a teacher expects and knows.

    Attributes:
        network: a name of models/build.py.
        classes: names, in the order of the logits.
        channels: of an image, 1 or 3.
        mean, std: of the normalization of images in [0, 1], one value a channel.
        accuracy: top-1 on the test split, a fraction.
        size: (H, W) in pixels of the images it was trained or tested on.
        data: fingerprint of the images it was trained on.
        training: the settings that squeeze trained it with, and for how many images.
    """

    network: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float | None = None
    size: tuple[int, int] | None = None
    data: str | None = None
    training: dict[str, Any] | None = None

    @staticmethod
    def from_json(text: str) -> Card:
        """The card in a file's metadata; fields that came later may be absent."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(text).items()
        }
        return Card(**values)


def read_card(key: str, path: Path, metadata: dict[str, str]) -> Card | None:
    """The card among a file's metadata; None where there is none.

    Args:
        key: the recipe's key that names the file, for messages.

    Raises:
        InputError: it is damaged.
    """
    if KEY not in metadata:
        return None
    try:
        return Card.from_json(metadata[KEY])
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{key}: the card in {path} cannot be read ({error}); save the file again"
        ) from error


def check_card(key: str, path: Path, card: Card, expected: Card, fields: Sequence[str]) -> None:
    """Compare some fields of a file's card with what a run expects.

    Raises:
        InputError: one differs; of classes the first that differs is named.
    """
    for field in fields:
        ours, theirs = getattr(expected, field), getattr(card, field)
        if ours == theirs:
            continue
        if field == "classes":
            raise InputError(f"{key}: {path} was made for {_other_classes(theirs, ours)}")
        raise InputError(f"{key}: {path} was made for {field} {theirs}, but this run has {ours}")


def _other_classes(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if len(theirs) != len(ours):
        return f"{len(theirs)} classes, but the data has {len(ours)}; use a teacher of these classes"
    first = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    text = f"other classes: class {first} is {theirs[first]!r} there and {ours[first]!r} in the data"
    if sorted(theirs) == sorted(ours):
        return f"{text} (the same names in another order); name the folders so that they sort as the teacher's classes"
    return f"{text}; use a teacher of these classes, or name the folders as the teacher does"


def differences(card: Card, expected: Card, fields: Sequence[str]) -> list[str]:
    """What differs without making the weights useless, in words; a field that the card lacks does not differ."""
    pairs = {field: (getattr(card, field), getattr(expected, field)) for field in fields}
    return [
        f"made for {field} {theirs}, used with {ours}"
        for field, (theirs, ours) in pairs.items()
        if theirs is not None and theirs != ours
    ]
