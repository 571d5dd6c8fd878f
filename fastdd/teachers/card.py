"""The card of a teacher: what its network expects and knows, as JSON in the metadata of its weights.

Weights from elsewhere have no card. The recipe then supplies it, and the shapes are checked against the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from ..errors import InputError
from ..runtime.console import counted

METADATA_KEY = "fastdd"
"""The card's key in the metadata of a safetensors file."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Side = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class Schooling:
    """How a network became what it is, of a network that was a student of a run.

    Attributes:
        set: the arm whose images it learned, ``random``, or ``full`` for the whole training set.
        students: name of its kind in the recipe's ``students``; empty: that of the section ``student``.
        protocol: hash of the protocol under which it was trained.
    """

    recipe: str
    set: str
    students: str
    seed: int
    protocol: str


@dataclass(frozen=True)
class Card:
    """What a teacher expects and knows.

    Attributes:
        network: a name that models.build takes.
        classes: class names, in the order of the logits.
        channels: channels of an image, 1 or 3.
        mean, std: constants that normalize images in [0, 1], one value a channel.
        accuracy: top-1 accuracy in [0, 1] on the images of ``accuracy_on``; None: not measured.
        size: (H, W) in pixels of the images it was trained or tested on; None: unknown.
        data: fingerprint of the images, and of stored labels, that it was trained on; None: unknown.
        training: the settings that squeeze trained it with; None: it was trained elsewhere.
        accuracy_on: validation: the accuracy is of the images that ``data.validation`` withheld; None: it is
            of the test split.
        student: how it was trained, of a network that was a student; None: it was none.
    """

    network: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    channels: int
    mean: tuple[_Finite, ...]
    std: tuple[_Positive, ...]
    accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    size: tuple[_Side, _Side] | None = None
    data: str | None = None
    training: dict[str, JsonValue] | None = None
    accuracy_on: Literal["validation"] | None = None
    student: Schooling | None = None

    def content(self) -> dict[str, object]:
        """The fields as a file has them: ``accuracy_on`` and ``student`` only where they say something."""
        later = ("accuracy_on", "student")
        return {name: value for name, value in asdict(self).items() if name not in later or value}


_CARD = TypeAdapter(Card)


def read_card(key: str, path: Path, metadata: dict[str, str]) -> Card | None:
    """The card in a file's metadata; None where there is none."""
    if METADATA_KEY not in metadata:
        return None
    try:
        card = _CARD.validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise InputError(
            f"{key}: the card in {path} cannot be read ({where}{first['msg']}, got {first['input']!r:.60}); "
            "save the file again"
        ) from error
    if card.channels not in (1, 3) or not len(card.mean) == len(card.std) == card.channels:
        raise InputError(
            f"{key}: the card in {path} has {card.channels} channels with {len(card.mean)} means and "
            f"{len(card.std)} stds, expected 1 or 3 of each; save the file again"
        )
    return card


def check_card(key: str, path: Path, card: Card, expected: Card, *, fields: Sequence[str]) -> None:
    """Compare some fields of a file's card with what a run expects.

    Raises:
        InputError: fields differ; the keys that would make a run fit the file are named, and for ``classes``
            the first class that differs.
    """
    differing = [name for name in fields if getattr(card, name) != getattr(expected, name)]
    others = [name for name in differing if name != "classes"]
    if others:
        theirs = ", ".join(f"{name} {getattr(card, name)}" for name in others)
        ours = ", ".join(str(getattr(expected, name)) for name in others)
        raise InputError(
            f"{key}: {path} was made for {theirs}, but this run has {ours}{_remedy(key, card, others)}"
        )
    if differing:
        raise InputError(f"{key}: {path} was made for {_other_classes(card.classes, expected.classes)}")


def _remedy(key: str, card: Card, fields: Sequence[str]) -> str:
    """The overrides with which a run takes a file, where a key of its recipe names the file."""
    section = key.rpartition(".")[0]
    if not section:
        return ""
    texts = []
    for name in fields:
        value = getattr(card, name)
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        texts.append(f"{'data' if name == 'channels' else section}.{name}={text}")
    return f"; to use it add {' '.join(texts)}"


def _other_classes(theirs: Sequence[str], ours: Sequence[str]) -> str:
    if len(theirs) != len(ours):
        return (
            f"{counted(len(theirs), 'class')}, but the data has {len(ours)}; use a teacher of these classes"
        )
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
