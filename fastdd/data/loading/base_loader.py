"""What the backends of a loader share: the pass, its cursor, and what is done with unreadable images.

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

import torch
from torch import Tensor

from ...errors import InputError
from ..dataset import Dataset
from ..decode import fit
from .batch import Batch, OnError
from .crops import Crop, cut
from .order import Schedule

Failures = list[tuple[int, str]]  # (row of the batch, reason)
Reading = Generator[tuple[Tensor, Failures], None, None]


@dataclass(frozen=True)
class Decoding:
    """How a loader turns images into batches.

    Attributes:
        size: (H, W); None: as stored.
        channels: 1 or 3.
        crop: the random window of each image; None: the center.
        resize: shorter side in pixels before the center is cut out; None: whatever just covers the size.
        on_error: "fail" or "skip".
        threads: number of threads that decode; None: as many as the dataset's reader says.
        device: where batches go.
    """

    size: tuple[int, int] | None
    channels: int
    crop: Crop | None
    resize: int | None
    on_error: OnError
    threads: int | None
    device: torch.device


class BaseLoader(ABC):
    """A Loader (see there) without its decoding.

    Args:
        dataset: the images.
        schedule: which images a pass reads, in which order.
        decoding: what becomes of each image.
    """

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
        """uint8 [C, H, W] of one image, decoded and resized by torchvision.

        Raises:
            Unreadable: the image cannot be read.
            InputError: it has another size than the first, and none was asked for.
        """
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
