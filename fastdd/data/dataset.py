"""A split of a labelled image set: classes, labels and names at once, pixels when they are asked for.

Class order everywhere: all images of class 0, then all of class 1, and so on, sorted by name inside a
class, which is the order of ImageFolder. A stream in this order gives exact statistics of a class with
`index_add_` over the labels, and a class is a slice of a resident set.
Cost: the index is one `stat` a file (or one pass over an archive); pixels are decoded once for each call.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import progress
from .memory import require_memory
from .tree import Split

CHUNK = 256  # images decoded between two steps of the progress bar


class Reader(Protocol):
    """Where pixels come from: an image by its number."""

    threads: int

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, h, w] of one image, as stored."""

    def encoded(self, index: int) -> bytearray | None:
        """The bytes of the JPEG or PNG file of one image; None where images are not kept encoded."""


class Dataset:
    """One split; made by open_dataset.

    Attributes:
        split: "train" or "test".
        classes: class names, sorted.
        labels: int64 [N], ascending.
        counts: images of each class.
        names: "class/file" of each image, for messages.
        fingerprint: sha256 (hex) of the split and of every (class, file name, size in bytes); a folder and
            an archive of it agree. Digits: of the pixels.
    """

    def __init__(
        self, split: Split, counts: dict[str, int], names: Sequence[str], fingerprint: str, reader: Reader
    ) -> None:
        self.split = split
        self.classes = tuple(counts)
        self.counts = tuple(counts.values())
        self.names = names
        self.fingerprint = fingerprint
        self.labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(self.counts))
        self._reader = reader

    def __len__(self) -> int:
        return len(self.names)

    def images(
        self,
        size: tuple[int, int] | None,
        channels: Literal[1, 3] = 3,
        indices: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """Decode images into memory, with a progress bar.

        Args:
            size: (H, W): images of another size are resized to cover it, with antialias, and cropped to
                their centre (see decode.fit); None: as stored.
            channels: 3 for RGB, 1 for luminance.
            indices: which images, in which order; None for all.

        Returns:
            uint8 [N, channels, H, W], contiguous.

        Raises:
            InputError: an unreadable image, different sizes with size None, or not enough memory.
        """
        chosen = range(len(self)) if indices is None else torch.as_tensor(indices).tolist()
        outside = [index for index in chosen if not 0 <= index < len(self)] if indices is not None else []
        if outside:
            raise InputError(
                f"image index {outside[0]} is outside of 0 to {len(self) - 1}; give indices of {self.split}"
            )
        shape = self._shape(size, channels, chosen)
        needed = len(chosen) * shape.numel()
        require_memory(needed, f"to hold {len(chosen)} images of {self.split}", "set a smaller data.size")
        out = torch.empty((len(chosen), *shape), dtype=torch.uint8)
        done = 0
        with progress(f"read {self.split}", len(chosen)) as bar:
            for chunk in self._stream(chosen, CHUNK, shape, size is None):
                out[done : done + len(chunk)] = chunk
                done += len(chunk)
                bar.advance(len(chunk))
        return out

    def batches(
        self, batch_size: int, size: tuple[int, int] | None, channels: Literal[1, 3] = 3
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Stream the split once in class order; every image exactly once, the last batch may be smaller.

        The next batch is decoded while this one is used; two batches are in memory.

        Args:
            batch_size: images a batch, at least 1.
            size, channels: as for images().

        Yields:
            (uint8 [B, channels, H, W], int64 [B] labels)

        Raises:
            InputError: an unreadable image, or different sizes with size None.
        """
        if batch_size < 1:
            raise InputError(f"batch size {batch_size} is too small; expected at least 1")
        everything = range(len(self))
        shape = self._shape(size, channels, everything)
        stream = self._stream(everything, batch_size, shape, size is None)
        yield from zip(stream, self.labels.split(batch_size), strict=True)

    def _shape(self, size: tuple[int, int] | None, channels: int, chosen: Sequence[int]) -> torch.Size:
        """[C, H, W] of the size asked for, or of the first chosen image as it is stored."""
        if channels not in (1, 3):
            raise InputError(f"channels {channels!r} is not possible; expected 1 (grey) or 3 (RGB)")
        if size is None:
            return self._reader.pixels(chosen[0] if chosen else 0, channels).shape
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"image size {size!r} is not possible; expected (height, width) in pixels")
        return torch.Size((channels, *size))

    def _stream(self, chosen: Sequence[int], batch_size: int, shape: torch.Size, as_stored: bool) -> Iterator[Tensor]:
        """uint8 [B, C, H, W] in order, decoded one batch ahead of the consumer by all threads."""
        threads = self._reader.threads
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        pending: deque[tuple[Tensor, list[Future[None]]]] = deque()
        try:
            for start in range(0, len(chosen), batch_size):
                batch = chosen[start : start + batch_size]
                out = torch.empty((len(batch), *shape), dtype=torch.uint8)
                part = -(-len(batch) // threads)
                slices = [slice(i, i + part) for i in range(0, len(batch), part)]
                pending.append((out, [pool.submit(self._decode, out[s], batch[s], as_stored) for s in slices]))
                if len(pending) == 2:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, out: Tensor, indices: Sequence[int], as_stored: bool) -> None:
        """Decode the images into out [B, C, H, W], resized unless as_stored."""
        from .decode import fit

        H, W = out.shape[-2:]
        for row, index in zip(out, indices, strict=True):
            image = self._reader.pixels(index, out.shape[1])
            if as_stored and image.shape != row.shape:
                h, w = image.shape[-2:]
                raise InputError(
                    f"images differ in size: {self.names[index]!r} of {self.split} is {h} x {w} pixels, "
                    f"others are {H} x {W}; set data.size"
                )
            row.copy_(fit(image, (H, W)))


def _finished(out: Tensor, parts: list[Future[None]]) -> Tensor:
    for part in parts:
        part.result()
    return out


def processors() -> int:
    """Processors this process may use: under a scheduler fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def real_sample(dataset: Dataset, per_class: int, seed: int) -> Tensor:
    """Draw real images without replacement, the same number of each class.

    A smaller per_class with the same seed draws a prefix of each class's sample, so that 1, 10 and 50
    images a class are nested.

    Args:
        dataset: where from.
        per_class: images a class, at least 1.
        seed: of the draw.

    Returns:
        int64 [classes * per_class] indices, class 0 first.

    Raises:
        InputError: a class holds fewer than per_class images.
    """
    if per_class < 1:
        raise InputError(f"{per_class} images per class is too few; expected at least 1")
    for name, count in zip(dataset.classes, dataset.counts, strict=True):
        if per_class > count:
            raise InputError(
                f"class {name!r} holds {count} images of {dataset.split}, fewer than the {per_class} "
                f"asked for; set ipc to {min(dataset.counts)} or less"
            )
    generator = torch.Generator().manual_seed(seed)
    first = 0
    drawn = []
    for count in dataset.counts:
        # A whole permutation whatever per_class is: this is what makes the samples nested.
        drawn.append(first + torch.randperm(count, generator=generator)[:per_class])
        first += count
    return torch.cat(drawn)
