"""Build the bank: one pass over the real images in class order, resumable at every class, shared by processes.

A class that is finished is written at once, as a file of its own, while the teacher goes on with the next. The batches
lie on one grid over the whole data set, whatever part of it a process sees: an image is always in the same company,
so a bank that was killed and continued, or built by many processes, has the same bytes as one built in one go. At the
end the files of single classes are joined to files of ``shard_mb``.

Memory beside the teacher: the rows of the open class, its covariances, and one class on its way to the disk.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import Bank
from ..data.real import RealImages
from ..errors import InputError
from ..runtime.distributed import barrier, is_main, rank, world_size
from ..runtime.files import write_json
from ..runtime.progress import progress
from ..teachers import Taps, Teacher, hooked_layers, layer_names
from .class_statistics import OpenClass
from .finish import complete, is_whole
from .forward_pass import Finished, collect, forward
from .store import PLAN, SCHEMA, shards, write_shard


def build(
    folder: Path,
    teacher: Teacher,
    fingerprint: str,
    data: RealImages,
    config: Bank,
    layers: Collection[str],
    seed: int,
    classes: range | None = None,
) -> bool:
    """Build what the folder does not hold yet; the processes of torchrun share the classes.

    Args:
        fingerprint: of the teacher.
        layers: names of the tapped layers (see teachers.taps).
        seed: of the choice of embeddings.
        classes: only these, for a job that is one of many; all if None.

    Returns:
        Whether the bank is whole now.

    Raises:
        InputError: the folder was begun with other settings, or an image cannot be read.
    """
    batch_norms = list(layer_names(teacher.network, "bn_inputs")) if config.class_bn != "none" else []
    hooked = hooked_layers(teacher.network) if config.patch else []
    taps = Taps(
        teacher.network,
        {*layers, *batch_norms, *hooked},
        moments=bool(batch_norms or hooked),
        patch=config.patch or 1,
    )
    gaussians = [layer for layer in taps.layers if layer in set(layers)]
    device = next(taps.parameters()).device
    counts = torch.bincount(data.labels, minlength=len(teacher.card.classes)).tolist()
    plan = _plan(taps, gaussians, teacher, fingerprint, data, config, counts, device)
    if is_main():
        _begin(folder, plan)
    barrier()
    step = forward(taps, teacher, config)
    running = {layer: taps.running[layer] for layer in batch_norms}
    shifts = {layer: taps.running[layer][0] if layer in taps.running else None for layer in hooked}
    opened = partial(_opened, config, gaussians, running, shifts, seed)
    wanted = _unfinished(folder, _share(counts, classes or range(len(counts)), rank(), world_size()))
    first = [0, *accumulate(counts)]
    with progress("bank", sum(counts[c] for c in wanted)) as bar, _Writer(folder, data.names) as writer:
        for run in _runs(wanted):
            ends = first[run[0]], first[run[-1] + 1]
            start, stop = ends[0] // config.batch * config.batch, -(-ends[1] // config.batch) * config.batch
            batches = data.stream(range(start, min(stop, len(data.labels))))
            for finished in collect(step, batches, data.labels, run, opened, device, bar):
                writer.write(finished)
    barrier()
    if is_main():
        complete(folder)
    barrier()
    return is_whole(folder)


def _opened(
    config: Bank,
    layers: list[str],
    running: dict[str, tuple[Tensor, Tensor]],
    shifts: dict[str, Tensor | None],
    seed: int,
    c: int,
) -> OpenClass:
    return OpenClass(config, layers, running, (seed, c), shifts)


def _plan(
    taps: Taps,
    layers: list[str],
    teacher: Teacher,
    fingerprint: str,
    data: RealImages,
    config: Bank,
    counts: list[int],
    device: torch.device,
) -> dict[str, Any]:
    """All that the bank's content depends on."""
    features = taps(teacher.normalize(torch.zeros(1, *data.shape, dtype=torch.uint8, device=device)))
    return {
        "schema": SCHEMA,
        "classes": list(teacher.card.classes),
        "images": counts,
        "layers": {layer: features.pooled[layer].shape[1] for layer in layers},
        "embedding": features.embedding.shape[1],
        "teacher": fingerprint,
        "data": data.fingerprint,
        "transform": {**data.transform, "mean": list(teacher.card.mean), "std": list(teacher.card.std)},
        **config.model_dump(mode="json", exclude={"layers", "embeddings"}),
        "embeddings_per_class": config.embeddings,
    }


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or check it against the one that is there."""
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    earlier = json.loads(path.read_text())
    if different := [key for key in {**earlier, **plan} if earlier.get(key) != plan.get(key)]:
        key = different[0]
        raise InputError(
            f"the bank in {folder} was begun with another {key}: {_short(earlier.get(key))} there, "
            f"{_short(plan.get(key))} now; delete that folder, or choose another run folder"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
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


class _Writer:
    """Writes classes in the background, one at a time, so that the teacher does not wait for the disk."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="bank")
        self.pending: Future[None] | None = None

    def write(self, finished: Finished) -> None:
        if self.pending is not None:
            self.pending.result()
        embeddings = finished.statistics.get("embeddings")
        facts = {
            "counts": [finished.count],
            "embeddings": [0 if embeddings is None else len(embeddings)],
            "skipped": [[self.names[index] for index in finished.skipped]],
        }
        c = finished.label
        self.pending = self.pool.submit(write_shard, self.folder, c, c, finished.statistics, facts)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *failed: object) -> None:
        self.pool.shutdown()
        if self.pending is not None and failed[0] is None:
            self.pending.result()
