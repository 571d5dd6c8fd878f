"""Batches of decoded images behind one interface, whichever library decodes them.

    for batch in open_loader(dataset, 64, (224, 224), resize=256):
        bank.add(batch.images.to(torch.float32), batch.labels)

Two backends, torchvision (TorchLoader, below) and NVIDIA DALI (dali_backend.py), read the same images in the
same order (base_loader.py) through the same windows (crops.py), and on a CPU give the same pixels to one
level of 255. On a GPU DALI decodes with nvJPEG, whose colors differ by more: ``loader.backend`` says which
library decoded, and belongs in what is recorded of a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Literal

import torch
import torchvision
from torch import Tensor

from ...errors import InputError, suggestion
from ...runtime.distributed import Share
from ..dataset import Dataset
from .base_loader import (
    BaseLoader,
    Decoding,
    Failures,
    Order,
    Reading,
    Schedule,
    Unreadable,
    decoding_threads,
)
from .batch import Backend, Loader, OnError
from .crops import Crop

BACKENDS, ON_ERROR = ("auto", "dali", "torchvision"), ("fail", "skip")
AHEAD = 1  # batches that TorchLoader decodes before they are asked for


def open_loader(
    dataset: Dataset,
    batch_size: int,
    size: tuple[int, int] | None,
    channels: Literal[1, 3] = 3,
    *,
    order: Order = "class",
    crop: Crop | None = None,
    resize: int | None = None,
    indices: Sequence[int] | Tensor | None = None,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    drop_last: bool = False,
    on_error: OnError = "fail",
    backend: Backend = "auto",
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> Loader:
    """Open a dataset for reading in batches; two batches are in memory.

    Args:
        batch_size: images a batch, of all shards together where they are shuffled; the last batch of a pass
            may hold fewer.
        size: (H, W) in pixels; None: as stored, which must be the same for all.
        channels: 3 for RGB, 1 for luminance.
        order: "class": all images of class 0 (or the first of ``indices``) first; "shuffled": a new
            permutation each epoch, of (seed, epoch) alone.
        crop: draw a random window of each image in each epoch; None takes the center (see decode.fit).
        resize: shorter side of the image in pixels before its center is cut out, such as 256 for a size of
            224; None: whatever just covers the size.
        indices: a part of the dataset, in that order.
        seed: seed of the order and of the crops.
        shard: (rank, world); each image is read by exactly one rank: a block of the class order, or a share
            of every batch of a permutation.
        drop_last: leave out a last batch that is not full.
        on_error: "fail" raises at an image that cannot be read; "skip" leaves it out and records it.
        backend: "auto" is DALI for JPEGs on a GPU where it is installed, torchvision everywhere else.
        threads: number of threads that decode; None: the processors of this process (1 for small images).
        device: where images and labels are delivered.

    Raises:
        InputError: an argument is not possible; while iterating: an image cannot be read (the message names
            it), or images differ in size while size is None.
    """
    _check_choices(backend, on_error, threads)
    _check_size(size, crop, resize)
    schedule = Schedule(
        len(dataset),
        indices,
        order,
        seed=seed,
        shard=Share(*shard),
        batch_size=batch_size,
        drop_last=drop_last,
    )
    device = torch.device(device)
    if _use_dali(backend, dataset, schedule, device):
        from .dali_backend import DaliLoader

        kind: type[BaseLoader] = DaliLoader
    else:
        kind = TorchLoader
    decoding = Decoding(
        size=size,
        channels=channels,
        crop=crop,
        resize=resize,
        on_error=on_error,
        threads=threads,
        device=device,
    )
    return kind(dataset, schedule, decoding)


def _check_choices(backend: str, on_error: str, threads: int | None) -> None:
    """Refuse a word that is unknown, or no thread."""
    for name, value, known in (("backend", backend, BACKENDS), ("on_error", on_error, ON_ERROR)):
        if value not in known:
            expected = ", ".join(map(repr, known))
            raise InputError(
                f"{name} {value!r} is unknown{suggestion(str(value), known)}; expected one of {expected}"
            )
    if threads is not None and threads < 1:
        raise InputError(f"threads {threads} is too few; expected at least 1")


def _check_size(size: tuple[int, int] | None, crop: Crop | None, resize: int | None) -> None:
    """Refuse a crop or a resizing that does not fit the size."""
    if crop is not None and (size is None or resize is not None):
        raise InputError("a random crop goes with a size and without resize; set size=(H, W) and resize=None")
    if resize is not None and (size is None or resize < max(size)):
        raise InputError(
            f"resize {resize} does not cover the size {size!r}; expected at least its longer side"
        )


def dali_installed() -> bool:
    """Whether NVIDIA DALI can be imported; does not import it."""
    return find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None


def require_dali(key: str) -> None:
    """Refuse the backend 'dali' where DALI is not installed."""
    if not dali_installed():
        raise InputError(
            f"{key} 'dali' is not installed; pip install 'fastdd[dali]', or set {key} to 'torchvision'"
        )


def _use_dali(backend: Backend, dataset: Dataset, schedule: Schedule, device: torch.device) -> bool:
    if backend == "dali":
        require_dali("backend")
    if backend != "auto":
        return backend == "dali"
    if device.type != "cuda" or not dali_installed() or not len(schedule.chosen):
        return False
    try:
        data = dataset.reader.encoded(int(schedule.chosen[0]))
    except InputError:
        return True
    return data is not None and data.startswith(b"\xff\xd8")


class TorchLoader(BaseLoader):
    """The backend that is always there: torchvision's decoders in threads, a batch ahead of the consumer.

    The decoders release the interpreter, so threads are enough and nothing is pickled between processes.
    Cost: a 500 x 375 JPEG to 224 x 224 takes 3 ms of one core, about half of what PIL takes.
    """

    backend = f"torchvision {torchvision.__version__}"

    def _read(self, batches: Sequence[Tensor], epoch: int) -> Reading:
        pool = decoding_threads(self._threads)
        pending: deque[tuple[Tensor, list[Future[Failures]]]] = deque()
        on_device = self._device.type != "cpu"
        try:
            for batch in (positions.tolist() for positions in batches):
                out = torch.empty((len(batch), *self.shape), dtype=torch.uint8, pin_memory=on_device)
                part = -(-len(batch) // self._threads)
                starts = range(0, len(batch), part)
                pending.append(
                    (out, [pool.submit(self._decode, out, batch, i, i + part, epoch) for i in starts])
                )
                if len(pending) > AHEAD:
                    yield self._finished(*pending.popleft())
            while pending:
                yield self._finished(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, out: Tensor, batch: Sequence[int], start: int, stop: int, epoch: int) -> Failures:
        """Fill the rows start to stop of out [B, C, H, W]."""
        failures = []
        for row, (target, position) in enumerate(zip(out[start:stop], batch[start:stop], strict=True), start):
            try:
                target.copy_(self._pixels(position, epoch))
            except Unreadable as error:
                failures.append((row, str(error)))
        return failures

    def _finished(self, out: Tensor, parts: list[Future[Failures]]) -> tuple[Tensor, Failures]:
        failures = [failure for part in parts for failure in part.result()]
        return out.to(self._device, non_blocking=True), failures
