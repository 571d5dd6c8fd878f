"""Build the bank: one pass of the frozen teacher over the real images in class order.

The pass is resumable at every class and shared by processes: a class that is finished is written at once, as
a file of its own, while the teacher goes on with the next. The batches lie on one grid over the whole data
set, whatever part of it a process sees: an image is always in the same company, so a bank that was killed and
continued, or built by many processes, has the same bytes as one built in one go. At the end the files of
single classes are joined to files of ``shard_mb``.

The number of images of each class is known, so a stream in class order holds the rows of the class it is in,
and of no other; in any other order the result is the same, and what is held grows with the classes that are
open. Memory beside the teacher: the rows of the open class, its covariances, and one class on its way to the
disk.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import cast

import torch
from pydantic import JsonValue
from torch import Tensor

from ..data.loading.batch import Batch
from ..data.real_data import TrainingImages
from ..errors import InputError
from ..run_folder import read
from ..run_folder.bank_files import PLAN, REMEDY
from ..runtime.distributed import barrier, is_main, rank, world_size
from ..runtime.files import explained, temporary_name, write_json
from ..runtime.precision import autocast, float32_products
from ..runtime.progress import Bar, progress
from ..teachers import Features, Teacher
from .class_statistics import Kept, OpenClass
from .store import SCHEMA, ImageCounts, Plan, complete, is_whole, read_manifest, shards, write_shard

Forward = Callable[[Tensor], Features]
"""uint8 images [B, C, H, W] to their features"""


def build(
    folder: Path,
    teacher: Teacher,
    data: TrainingImages,
    kept: Kept,
    *,
    fingerprint: str,
    classes: range | None = None,
    earlier: Sequence[Path] = (),
) -> bool:
    """Build what the folder does not hold yet; the processes of torchrun share the classes.

    Args:
        kept: which statistics are kept, and the taps of this teacher that give them.
        classes: only these, for a job that is one of many; None: all.
        earlier: folders of other banks; a finished one with the same content is copied.

    Returns:
        Whether the bank is whole now.

    Raises:
        InputError: the folder was begun with other settings, or no image of a class can be read.
    """
    counts = torch.bincount(data.labels, minlength=len(teacher.card.classes)).tolist()
    if is_main():
        plan = _plan(kept, teacher, data, counts=counts, fingerprint=fingerprint)
        if not _take_over(folder, plan, earlier):
            _begin(folder, plan)
    barrier()
    if is_whole(folder):
        return True
    forward = _forward(kept, teacher)
    wanted = _unfinished(folder, _share(counts, classes or range(len(counts)), rank(), world_size()))
    total = sum(counts[c] for c in wanted)
    with progress("bank", total) as bar, float32_products(kept.config.precision):
        _write(folder, _finished(forward, data, kept, counts, wanted=wanted, bar=bar), data.names)
    barrier()
    if is_main():
        complete(folder)
    barrier()
    return is_whole(folder)


# -- what is left to do, and by whom ---------------------------------------------------------------


def _plan(kept: Kept, teacher: Teacher, data: TrainingImages, *, counts: list[int], fingerprint: str) -> Plan:
    """All that the bank's content depends on; one black image through the network tells the widths."""
    device = next(kept.taps.parameters()).device
    features = kept.taps(teacher.normalize(torch.zeros(1, *data.shape, dtype=torch.uint8, device=device)))
    plan = {
        "schema": SCHEMA,
        "classes": list(teacher.card.classes),
        "images": counts,
        "layers": {layer: features.pooled[layer].shape[1] for layer in kept.pooled},
        "embedding": features.embedding.shape[1],
        "teacher": fingerprint,
        "data": data.fingerprint,
        "transform": {**data.transform, "mean": list(teacher.card.mean), "std": list(teacher.card.std)},
        **kept.config.model_dump(mode="json", exclude={"layers", "embeddings"}),
        "embeddings_per_class": kept.config.embeddings,
    }
    return cast(Plan, plan)  # the recipe's section has the keys that the type lists


def _take_over(folder: Path, plan: Plan, earlier: Sequence[Path]) -> bool:
    """Copy a finished bank that was built by the same plan to a folder in which none was begun."""
    settings = {key: value for key, value in plan.items() if key != "shard_mb"}
    for other in earlier:
        if folder.exists() or not is_whole(other):
            continue
        manifest = read_manifest(other)
        if json.dumps({key: manifest.get(key) for key in settings}) == json.dumps(settings):
            copy = temporary_name(folder)
            with explained(folder):
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(other, copy)
                copy.replace(folder)
            print(f"bank: the statistics are those of {other}", file=sys.stderr)
            return True
    return False


def _begin(folder: Path, plan: Plan) -> None:
    """Write the plan, or check it against the one that is there."""
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    earlier, now = read(path, dict[str, JsonValue], REMEDY), cast(dict[str, JsonValue], plan)
    if different := [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]:
        key = different[0]
        raise InputError(
            f"the bank in {folder} was begun with another {key}: {_short(earlier, key)} there, "
            f"{_short(now, key)} now; delete that folder, or choose another run folder"
        )


def _short(values: Mapping[str, JsonValue], key: str) -> str:
    """The value of a key for a message, or that there is none."""
    text = json.dumps(values[key]) if key in values else "not set"
    return text if len(text) <= 60 else text[:57] + "..."


def _share(counts: list[int], classes: range, rank: int, world: int) -> list[int]:
    """The classes of one process: consecutive, and as many images as the others have."""
    total, before, mine = sum(counts[c] for c in classes), 0, []
    for c in classes:
        if (2 * before + counts[c]) * world // max(2 * total, 1) == rank:
            mine.append(c)
        before += counts[c]
    return mine


def _unfinished(folder: Path, classes: Sequence[int]) -> list[int]:
    done = {c for shard in shards(folder) for c in range(shard.first, shard.last + 1)}
    return [c for c in classes if c not in done]


def _runs(classes: Sequence[int]) -> Iterator[list[int]]:
    """Runs of consecutive classes."""
    for _, group in groupby(enumerate(classes), key=lambda pair: pair[1] - pair[0]):
        yield [c for _, c in group]


# -- the pass --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FinishedClass:
    """A class of which all images have been seen.

    Attributes:
        count: number of images that the statistics are made of.
        skipped: positions in the data set of the images that could not be read, ascending.
    """

    c: int
    count: int
    statistics: dict[str, Tensor]
    skipped: list[int]


def _forward(kept: Kept, teacher: Teacher) -> Forward:
    """The teacher's features; compiled for batches of one size, the last one filled up."""
    taps, config = kept.taps, kept.config
    device = next(taps.parameters()).device

    def step(images: Tensor) -> Features:
        with autocast(images.device, config.precision):
            return taps(teacher.normalize(images))

    compiled = torch.compile(step, fullgraph=True, dynamic=False) if config.compile else step

    def forward(images: Tensor) -> Features:
        images = images.to(device, non_blocking=True)
        missing = config.batch - len(images) if config.compile else 0
        if missing:
            # Rows of a frozen network do not see each other, so those that fill the batch change nothing.
            images = torch.cat((images, images[-1:].expand(missing, -1, -1, -1)))
        return compiled(images)

    return forward


def _finished(
    forward: Forward,
    data: TrainingImages,
    kept: Kept,
    counts: Sequence[int],
    *,
    wanted: Sequence[int],
    bar: Bar,
) -> Iterator[FinishedClass]:
    """The wanted classes as they are finished, read on the grid of batches over the whole data set."""
    first, batch = [0, *accumulate(counts)], kept.config.batch
    for run in _runs(wanted):
        start = first[run[0]] // batch * batch
        stop = -(-first[run[-1] + 1] // batch) * batch
        batches = data.stream(range(start, min(stop, len(data.labels))))
        yield from _collected(
            forward, batches, data.labels, kept, wanted={c: counts[c] for c in run}, bar=bar
        )


@torch.no_grad()
def _collected(
    forward: Forward,
    batches: Iterable[Batch],
    labels: Tensor,
    kept: Kept,
    *,
    wanted: dict[int, int],
    bar: Bar,
) -> Iterator[FinishedClass]:
    """The wanted classes of a stream as they are finished.

    Args:
        wanted: class -> number of its images.
    """
    left = dict(wanted)
    open_classes: dict[int, OpenClass] = {}
    skipped: dict[int, list[int]] = {}
    for batch in batches:
        for index in batch.skipped:
            skipped.setdefault(int(labels[index]), []).append(index)
        features = forward(batch.images) if len(batch.indices) else None
        own = labels[batch.indices]  # on the host, wherever the batch is
        for c, rows in _by_class(own):
            if c in left and features is not None:
                if c not in open_classes:
                    open_classes[c] = OpenClass(kept, c)
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
                statistics = open_classes.pop(c).close()
                if bad := [name for name, value in statistics.items() if not value.isfinite().all()]:
                    raise InputError(
                        f"the teacher's {bad[0]} of class {c} hold NaN or infinite values; its activations "
                        "are too large, use another teacher"
                    )
                yield FinishedClass(c, used, statistics, sorted(skipped.pop(c, [])))
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


def _write(folder: Path, finished: Iterator[FinishedClass], names: Sequence[str]) -> None:
    """Write classes in the background, one at a time, so that the teacher does not wait for the disk."""
    pending: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="bank") as pool:
        for each in finished:
            if pending is not None:
                pending.result()
            embeddings = each.statistics.get("embeddings")
            images: ImageCounts = {
                "counts": [each.count],
                "embeddings": [0 if embeddings is None else len(embeddings)],
                "skipped": [[names[index] for index in each.skipped]],
            }
            pending = pool.submit(write_shard, folder, each.c, each.c, each.statistics, images=images)
        if pending is not None:
            pending.result()
