"""What every form of export writes: images as PNG, labels, class names, ids and stored soft labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor
from torchvision.io import encode_png

from ..distilled import RunSource
from ..distilled.fingerprint import require_same_set
from ..distilled.sets import DistilledSet
from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.progress import progress

OVERHEAD = 8 << 10
"""most bytes that an image's entry takes beside pixels and soft labels: headers, names, padding"""


class Sample(NamedTuple):
    """One image as it is written.

    Attributes:
        number: place of the image in the set, from 0.
        png: the encoded image.
        label: place of its class among the class names.
        slot: place of the image in its class, from 0.
        id: path of the image below the set's folder.
    """

    number: int
    png: bytes
    label: int
    class_name: str
    slot: int
    id: str


@dataclass(frozen=True)
class Content:
    """A set, ready to be written.

    Attributes:
        names: class names that sort in the order of the labels: numbers are padded with zeros.
        logits: the soft labels of a run or of the export that the set was read from, one row an image,
            float16 [N, classes]; None where there are none.
        left_behind: why soft labels that the run has are not written; None: it has none, or they are.
    """

    distilled: DistilledSet
    names: tuple[str, ...]
    logits: Tensor | None
    left_behind: str | None = None

    def __len__(self) -> int:
        return len(self.distilled)

    def samples(self) -> Iterator[Sample]:
        """Yield the images one by one, class after class, with a progress bar."""
        seen: Counter[int] = Counter()
        images, labels, ids = self.distilled.images, self.distilled.labels.tolist(), self.distilled.ids
        with progress("export", len(self)) as bar:
            for number, (image, label, name) in enumerate(zip(images, labels, ids, strict=True)):
                png = encode_png(image).numpy().tobytes()
                bar.advance(1)  # islice never resumes the generator after the last item, so advance first
                yield Sample(number, png, label, self.names[label], slot=seen[label], id=name)
                seen[label] += 1

    def shards(self, shard_bytes: int) -> list[range]:
        """Image numbers of each file, such that no file exceeds ``shard_bytes`` unless one image does."""
        logits = 0 if self.logits is None else 4 * self.logits.shape[1]
        each = max(1, shard_bytes // (self.distilled.images[0].numel() + logits + OVERHEAD))
        return [range(first, min(first + each, len(self))) for first in range(0, len(self), each)]


def gather(distilled: DistilledSet) -> Content:
    """Gather what is written of a set.

    Raises:
        InputError: the stored soft labels cannot be read, or are those of another number of images; or the
            images have changed since a run's labels or results were made.
    """
    if (source := distilled.source) is not None:
        classes = source.splits[0].classes if source.splits is not None else distilled.classes
        require_same_set(source, classes, len(distilled) // len(classes))
    logits = _stored_logits(distilled)
    left_behind = _left_behind(source) if logits is None and source is not None else None
    return Content(distilled, _sortable(distilled.classes), logits, left_behind)


def _sortable(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Class names that sort in the order of the labels; only numbers (layouts.py) ever have another order."""
    if list(classes) == sorted(classes):
        return classes
    width = max(map(len, classes))
    return tuple(name.zfill(width) for name in classes)


def _stored_logits(distilled: DistilledSet) -> Tensor | None:
    """Logits of whole images; those of augmented views belong to no single image and stay with the run."""
    if distilled.source is None:
        if distilled.logits is not None and distilled.logits.shape[1] != len(distilled.classes):
            raise InputError(
                f"{distilled.path} has soft labels of {distilled.logits.shape[1]} classes, but images of "
                f"{len(distilled.classes)}; export the set again"
            )
        return distilled.logits
    file = distilled.source.folder.labels(distilled.source.arm, per="image")
    if not file.is_file():
        return None
    stored = TensorFile(file)
    if len(stored.shapes.get("logits", ())) != 2:
        return None
    stored.require({"logits": (len(distilled), len(distilled.classes))})
    return stored.tensor("logits").to(torch.float16)


def _left_behind(source: RunSource) -> str | None:
    """Why the soft labels of a run are not written with its images; None: it has none."""
    folder = source.folder.labels(source.arm, per="view")
    if not folder.is_dir():
        return None
    return (
        f"its soft labels are of augmented views, which belong to no single image; they stay in {folder} "
        "(`fastdd labels export-fkd` writes them)"
    )


def metadata(sample: Sample) -> dict[str, JsonValue]:
    """What is said of an image beside it."""
    return {"label": sample.label, "class": sample.class_name, "id": sample.id}


def json_line(values: Mapping[str, JsonValue]) -> bytes:
    """One line of a .jsonl file."""
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def write_new(path: Path, data: bytes) -> None:
    """Write a file of a new folder; it need not be atomic, since the whole folder is renamed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
