"""One pass of the frozen teacher over the real images: each class's statistics as soon as its last image was seen.

The number of images of each class is known, so a stream in class order holds the rows of the class it is in, and of
no other; in any other order the result is the same, and what is held grows with the classes that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import Bank
from ..data.loading.batch import Batch
from ..errors import InputError
from ..runtime.precision import autocast
from ..runtime.progress import Bar
from ..teachers import Features, Taps, Teacher
from .class_statistics import OpenClass, Statistics


@dataclass
class Finished:
    """A class of which all images have been seen: its number, how many were used, and which could not be read."""

    label: int
    count: int
    statistics: Statistics
    skipped: list[int] = field(default_factory=list)


def forward(taps: Taps, teacher: Teacher, config: Bank) -> Callable[[Tensor], Features]:
    """uint8 images [B, C, H, W] to features; compiled for batches of one size, the last one filled up."""

    def step(images: Tensor) -> Features:
        with autocast(images.device, config.precision):
            return taps(teacher.normalize(images))

    if not config.compile:
        return step
    compiled = torch.compile(step, fullgraph=True, dynamic=False)

    def padded(images: Tensor) -> Features:
        # Rows of a frozen network do not see each other, so those that fill the batch change nothing.
        missing = config.batch - len(images)
        return (
            compiled(torch.cat((images, images[-1:].expand(missing, -1, -1, -1))))
            if missing
            else compiled(images)
        )

    return padded


@torch.no_grad()
def collect(
    step: Callable[[Tensor], Features],
    batches: Iterable[Batch],
    labels: Tensor,
    wanted: Sequence[int],
    opened: Callable[[int], OpenClass],
    device: torch.device,
    bar: Bar,
) -> Iterator[Finished]:
    """Classes as they are finished.

    Args:
        step: images to features.
        batches: images of the wanted classes, each once, and perhaps of others.
        labels: [N] class of each image of the data set.
        wanted: classes to be gathered.
        opened: a class number to an OpenClass.

    Raises:
        InputError: no image of a class could be read.
    """
    counts = torch.bincount(labels).tolist()
    left = {c: counts[c] for c in wanted}
    open_classes: dict[int, OpenClass] = {}
    skipped: dict[int, list[int]] = {}
    for batch in batches:
        for index in batch.skipped:
            skipped.setdefault(int(labels[index]), []).append(index)
        features = step(batch.images.to(device, non_blocking=True)) if len(batch.indices) else None
        own = labels[batch.indices]  # on the host, wherever the batch is
        for c, rows in _by_class(own):
            if c in left and features is not None:
                if c not in open_classes:
                    open_classes[c] = opened(c)
                open_classes[c].add(features, rows, batch.indices[rows])
        bar.advance(len(own))
        touched = {*own.tolist(), *(int(labels[index]) for index in batch.skipped)}
        for c in sorted(touched & left.keys()):
            used = open_classes[c].count if c in open_classes else 0
            if used + len(skipped.get(c, ())) == left[c]:
                if not used:
                    raise InputError(
                        f"none of the {left[c]} images of class {c} could be read; mend or remove them"
                    )
                yield Finished(c, used, open_classes.pop(c).close(), sorted(skipped.pop(c, [])))
                del left[c]
    assert not left, f"the stream ended before classes {sorted(left)[:5]} were complete"


def _by_class(labels: Tensor) -> Iterator[tuple[int, slice | Tensor]]:
    """Each class of a batch with its rows: slices where the batch is in class order."""
    if not len(labels):
        return
    in_order = bool((labels[1:] >= labels[:-1]).all())
    ordered, order = (labels, None) if in_order else labels.sort(stable=True)
    start = 0
    for c, count in zip(*(t.tolist() for t in ordered.unique_consecutive(return_counts=True)), strict=True):
        yield c, slice(start, start + count) if order is None else order[start : start + count]
        start += count
