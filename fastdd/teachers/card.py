"""The card of a teacher: what its network expects and knows, as JSON in the metadata of its weights.

Weights from elsewhere have no card. The recipe then supplies it, and the shapes are checked against the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from ..errors import InputError

METADATA_KEY = "fastdd"
"""The card's key in the metadata of a safetensors file."""


@dataclass(frozen=True)
class Card:
    """What a teacher expects and knows.

    Attributes:
        network: a name that models.build takes.
        classes: class names, in the order of the logits.
        channels: channels of an image, 1 or 3.
        mean, std: constants that normalize images in [0, 1], one value a channel.
        accuracy: top-1 accuracy on the test split in [0, 1]; None: not measured.
        size: (H, W) in pixels of the images it was trained or tested on; None: unknown.
        data: fingerprint of the images it was trained on; None: unknown.
        training: the settings that squeeze trained it with; None: it was trained elsewhere.
    """

    network: str
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float | None = None
    size: tuple[int, int] | None = None
    data: str | None = None
    training: dict[str, JsonValue] | None = None


_CARD = TypeAdapter(Card)


def read_card(key: str, path: Path, metadata: dict[str, str]) -> Card | None:
    """The card in a file's metadata; None where there is none.

    Args:
        key: the recipe's key that names the file, for messages.

    Raises:
        InputError: the card is damaged.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        return _CARD.validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise InputError(
            f"{key}: the card in {path} cannot be read ({where}{first['msg']}); save the file again"
        ) from error


def check_card(key: str, path: Path, card: Card, expected: Card, *, fields: Sequence[str]) -> None:
    """Compare some fields of a file's card with what a run expects.

    Raises:
        InputError: a field differs; for ``classes`` the first class that differs is named.
    """
    for field in fields:
        ours, theirs = getattr(expected, field), getattr(card, field)
        if ours == theirs:
            continue
        if field == "classes":
            raise InputError(f"{key}: {path} was made for {_other_classes(card.classes, expected.classes)}")
        raise InputError(f"{key}: {path} was made for {field} {theirs}, but this run has {ours}")


def _other_classes(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if len(theirs) != len(ours):
        return f"{len(theirs)} classes, but the data has {len(ours)}; use a teacher of these classes"
    first = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    text = f"other classes: class {first} is {theirs[first]!r} there and {ours[first]!r} in the data"
    if sorted(theirs) == sorted(ours):
        return (
            f"{text} (the same names in another order); name the folders so that they sort as the teacher's "
            "classes"
        )
    return f"{text}; use a teacher of these classes, or name the folders as the teacher does"


def differences(card: Card, expected: Card, fields: Sequence[str]) -> list[str]:
    """What differs without making the weights useless, in words; a field that is None never differs."""
    pairs = {field: (getattr(card, field), getattr(expected, field)) for field in fields}
    return [
        f"made for {field} {theirs}, used with {ours}"
        for field, (theirs, ours) in pairs.items()
        if theirs is not None and theirs != ours
    ]
