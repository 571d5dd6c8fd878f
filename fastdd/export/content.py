"""What every export writes: the images as PNG, with labels, class names, origins and stored soft labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchvision.io import encode_png

from ..distilled.sets import DistilledSet
from ..errors import InputError
from ..runtime.progress import progress

OVERHEAD = 8 << 10
"""bytes of an image's entry beside pixels and soft labels: headers, names, padding"""


class Sample(NamedTuple):
    """One image: its number in the set, PNG, class and class name, its place in the class, and its path in the set."""

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
        distilled: the set.
        names: of the classes; they sort in the order of the labels, so numbers are padded with zeros.
        logits: float16 [N, classes], the run's stored soft labels of the images as they are; None where there are none.
    """

    distilled: DistilledSet
    names: tuple[str, ...]
    logits: Tensor | None

    def __len__(self) -> int:
        return len(self.distilled)

    def samples(self) -> Iterator[Sample]:
        """The images one by one, class after class, with a progress bar."""
        seen: Counter[int] = Counter()
        images, labels, ids = self.distilled.images, self.distilled.labels.tolist(), self.distilled.ids
        with progress("export", len(self)) as bar:
            for number, (image, label, name) in enumerate(zip(images, labels, ids, strict=True)):
                png = encode_png(image).numpy().tobytes()
                bar.advance(1)  # before it is handed over: who counts images never comes back after the last
                yield Sample(number, png, label, self.names[label], seen[label], name)
                seen[label] += 1

    def shards(self, shard_bytes: int) -> list[range]:
        """Numbers of the images of each file, so that none is larger than ``shard_bytes`` unless one image is."""
        width = 0 if self.logits is None else 4 * self.logits.shape[1]
        each = max(1, shard_bytes // (self.distilled.images[0].numel() + width + OVERHEAD))
        return [range(first, min(first + each, len(self))) for first in range(0, len(self), each)]


def content(distilled: DistilledSet) -> Content:
    """Gather what is written.

    Raises:
        InputError: the stored soft labels cannot be read, or are of another number of images.
    """
    return Content(distilled, _sorted_names(distilled.classes), _stored_logits(distilled))


def _sorted_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    if list(classes) == sorted(classes):
        return classes
    width = max(map(len, classes))
    return tuple(
        name.zfill(width) for name in classes
    )  # only numbers are in another order than that of their names


def _stored_logits(distilled: DistilledSet) -> Tensor | None:
    """Logits of whole images; a pool of augmented views is no property of an image, and stays with the run."""
    if distilled.source is None:
        return None
    file = distilled.path.parents[1] / "labels" / f"{distilled.source['arm']}.safetensors"
    if not file.is_file():
        return None
    try:
        with safe_open(str(file), framework="pt") as stored:
            logits = stored.get_tensor("logits") if "logits" in stored.keys() else None  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{file} cannot be read ({error}); delete it and start the run again") from error
    if logits is None or logits.ndim != 2:
        return None
    if logits.shape != (len(distilled), len(distilled.classes)):
        raise InputError(
            f"{file} holds labels {list(logits.shape)}, expected [{len(distilled)}, {len(distilled.classes)}]; "
            "delete it and start the run again"
        )
    return logits.to(torch.float16)


def metadata(sample: Sample) -> dict[str, Any]:
    """What is said of an image beside it."""
    return {"label": sample.label, "class": sample.class_name, "id": sample.id}


def line(values: dict[str, Any]) -> bytes:
    """One line of JSON."""
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def write_new(path: Path, data: bytes) -> None:
    """Write a file of a folder that is not yet in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
