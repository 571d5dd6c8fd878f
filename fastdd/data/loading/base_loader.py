"""What the backends of a loader share: which images a pass reads, its cursor, and unreadable images.

A backend only turns lists of positions into pixels, and reads ahead of its consumer as it likes; what it read
ahead and did not give is read again after a resume. The images that were given and skipped are counted, and a
pass whose sum is not the number of its images ends in an error rather than in wrong statistics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...errors import InputError, suggestion
from ...runtime.distributed import Share
from ...runtime.seeds import generator
from ..dataset import Dataset
from ..decode import fit
from .batch import Batch, OnError
from .crops import Crop, cut

Order = Literal["class", "shuffled"]
ORDERS = ("class", "shuffled")


class Schedule:
    """The passes of one shard over some images of a dataset, a function of seed, epoch and shard alone.

    Nothing is drawn while a pass runs, so an epoch and a position in it say everything about where it stands.
    Cost: 8 bytes an image, and one permutation an epoch (10 ms for a million images).

    Args:
        chosen: positions in the dataset, in the order of reading; None: all.
        order: "class" keeps the order of ``chosen``; "shuffled" permutes it anew each epoch.
        shard: the shards of all processes are disjoint and together everything. A shard is a block of the
            class order, so that it cuts at most two classes, and its share of every batch of a permutation.
        batch_size: images a batch, at least 1; where permutations are sharded, of all shards together.
    """

    def __init__(
        self,
        total: int,
        chosen: Sequence[int] | Tensor | None,
        order: Order,
        *,
        seed: int,
        shard: Share,
        batch_size: int,
        drop_last: bool,
    ) -> None:
        rank, world = shard
        if not 0 <= rank < world:
            raise InputError(
                f"shard {(rank, world)} is not possible; expected (rank, world) with 0 <= rank < world"
            )
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is too small; expected at least 1")
        if order not in ORDERS:
            expected = "expected 'class' or 'shuffled'"
            raise InputError(f"order {order!r} is unknown{suggestion(str(order), ORDERS)}; {expected}")
        self.chosen = (
            torch.arange(total) if chosen is None else torch.as_tensor(chosen, dtype=torch.int64).cpu()
        )
        outside = self.chosen[(self.chosen < 0) | (self.chosen >= total)]
        if len(outside):
            raise InputError(
                f"image index {int(outside[0])} is outside of 0 to {total - 1}; give indices of this split"
            )
        self.order, self.seed, self.shard = order, seed, shard
        self.whole_batch, self.drop_last = batch_size, drop_last
        self.batch_size = batch_size if order == "class" else self._share(batch_size)
        if order == "shuffled" and batch_size < world:
            raise InputError(f"batch size {batch_size} leaves some of {world} shards without an image")

    def __len__(self) -> int:
        """Images of one pass."""
        (rank, world), n = self.shard, len(self.chosen)
        if self.order == "class":
            here = n * (rank + 1) // world - n * rank // world
            return here // self.batch_size * self.batch_size if self.drop_last else here
        full, rest = divmod(n, self.whole_batch)
        return full * self.batch_size + (0 if self.drop_last else self._share(rest))

    def positions(self, epoch: int) -> Tensor:
        """int64 [len(self)] positions in the dataset, in the order of reading."""
        (rank, world), n = self.shard, len(self.chosen)
        if self.order == "class":
            here = self.chosen[n * rank // world :]
        else:
            permutation = torch.randperm(n, generator=generator(self.seed, "order", epoch))
            here = self.chosen[permutation]
            if world > 1:
                batches = here.split(self.whole_batch)
                here = torch.cat([batch[self.shard.rows(len(batch))] for batch in batches])
        return here[: len(self)]

    def _share(self, total: int) -> int:
        """Images of this shard of a batch of ``total``."""
        rows = self.shard.rows(total)
        return rows.stop - rows.start


Failures = list[tuple[int, str]]  # (row of the batch, reason)
Reading = Generator[tuple[Tensor, Failures], None, None]


@dataclass(frozen=True)
class Decoding:
    """How a loader turns images into batches.

    Attributes:
        size: (H, W); None: as stored.
        crop: the random window of each image; None: the center.
        resize: shorter side in pixels before the center is cut out; None: whatever just covers the size.
        threads: number of threads that decode; None: as many as the dataset's reader says.
    """

    size: tuple[int, int] | None
    channels: int
    crop: Crop | None
    resize: int | None
    on_error: OnError
    threads: int | None
    device: torch.device


class BaseLoader(ABC):
    """A Loader (see there) without its decoding."""

    backend: str

    def __init__(self, dataset: Dataset, schedule: Schedule, decoding: Decoding) -> None:
        self.dataset = dataset
        self.skipped: dict[int, str] = {}
        self._schedule, self._on_error, self._device = schedule, decoding.on_error, decoding.device
        self._crop, self._resize, self._as_stored = decoding.crop, decoding.resize, decoding.size is None
        self._threads = dataset.reader.threads if decoding.threads is None else decoding.threads
        self._epoch = self._position = 0
        self.shape = self._shape(decoding.size, decoding.channels)

    def __len__(self) -> int:
        return len(self._schedule)

    def __iter__(self) -> Iterator[Batch]:
        epoch, given, lost = self._epoch, self._position, 0
        order = self._schedule.positions(epoch)
        batches = order[given:].split(self._schedule.batch_size) if given < len(order) else ()
        with closing(self._read(batches, epoch)) as stream:
            for indices, (images, failures) in zip(batches, stream, strict=True):
                bad = self._note(indices, failures)
                if bad:
                    keep = torch.ones(len(indices), dtype=torch.bool)
                    keep[[row for row, _ in failures]] = False
                    indices, images = indices[keep], images[keep.to(images.device)]
                given, lost = given + len(images), lost + len(bad)
                self._position = given + lost
                yield Batch(images, self.dataset.labels[indices].to(self._device), indices, bad)
        if given + lost != len(order):
            raise RuntimeError(
                f"{given} images were given and {lost} skipped of {len(order)}: a defect of {self.backend}"
            )
        self._epoch, self._position = epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {
            "epoch": self._epoch,
            "position": self._position,
            "images": len(self),
            "seed": self._schedule.seed,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        own = self.state_dict()
        if set(state) != set(own) or not all(isinstance(value, int) for value in state.values()):
            expected = f"expected integers {', '.join(own)}: give what state_dict() gave"
            raise InputError(f"loader state {dict(state)!r} is not one; {expected}")
        for name in ("images", "seed"):
            if state[name] != own[name]:
                raise InputError(
                    f"loader state has {name} {state[name]}, this loader {own[name]}; open it as before"
                )
        if state["epoch"] < 0 or not 0 <= state["position"] <= len(self):
            raise InputError(f"loader state {dict(state)!r} is outside of a pass of {len(self)} images")
        self._epoch, self._position = state["epoch"], state["position"]

    @abstractmethod
    def _read(self, batches: Sequence[Tensor], epoch: int) -> Reading:
        """Decode each batch's positions: pixels [B, C, H, W] on the device, and the rows that failed."""

    def _pixels(self, position: int, epoch: int) -> Tensor:
        """uint8 [C, H, W] of one image, decoded and resized by torchvision."""
        C, H, W = self.shape
        try:
            image = self.dataset.reader.pixels(position, C)
        except InputError as error:
            raise Unreadable(str(error)) from error
        h, w = image.shape[-2:]
        if self._as_stored:
            self._check_size(position, h, w)
            return image
        if self._crop is None:
            return fit(image, (H, W), self._resize)
        return cut(
            image, self._crop.window(h, w, seed=self._schedule.seed, epoch=epoch, position=position), (H, W)
        )

    def _check_size(self, position: int, height: int, width: int) -> None:
        """Refuse an image that differs from the first, where no size was asked for."""
        H, W = self.shape[1:]
        if (height, width) != (H, W):
            raise InputError(
                f"images differ in size: {self.dataset.names[position]!r} of {self.dataset.split} is "
                f"{height} x {width} pixels, others are {H} x {W}; set data.size"
            )

    def _shape(self, size: tuple[int, int] | None, channels: int) -> torch.Size:
        """[C, H, W] of the size asked for, or of the first image that can be read, as it is stored."""
        if channels not in (1, 3):
            raise InputError(f"channels {channels!r} is not possible; expected 1 (grey) or 3 (RGB)")
        if size is not None:
            if len(size) != 2 or min(size) < 1:
                raise InputError(f"image size {size!r} is not possible; expected (height, width) in pixels")
            return torch.Size((channels, *size))
        for position in self._schedule.chosen.tolist() or [0]:
            try:
                return self.dataset.reader.pixels(position, channels).shape
            except InputError:
                if self._on_error == "fail":
                    raise
        raise InputError(f"none of {len(self._schedule.chosen)} images of {self.dataset.split} can be read")

    def _note(self, indices: Tensor, failures: Failures) -> tuple[int, ...]:
        """Record what could not be read, or raise it; the positions concerned."""
        if failures and self._on_error == "fail":
            raise InputError(failures[0][1])
        positions = tuple(int(indices[row]) for row, _ in failures)
        self.skipped.update(zip(positions, (reason for _, reason in failures), strict=True))
        return positions


class Unreadable(Exception):  # noqa: N818  - it names the image, not the event
    """An image that cannot be read; the message names it."""


def decoding_threads(count: int) -> ThreadPoolExecutor:
    """Threads that decode one image each: libraries must not start threads of their own inside of them."""
    return ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=_single_threaded)


def _single_threaded() -> None:
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # torch sets the number of a thread when it is first asked, and would undo ours
    threadpool_limits(1, user_api="openmp")  # of the calling thread, not of the process
