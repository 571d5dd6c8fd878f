"""The NVIDIA DALI backend: JPEGs are decoded, resized and cropped by DALI, on a GPU where there is one.

DALI is fed with bytes, so that folders and archives are alike, the loader keeps the cursor, and a bad file
has a name. Whatever is no JPEG, is CMYK or looks cut short goes through torchvision inside the same batch,
which also says what is wrong with it. When DALI fails all the same, it neither names the image nor goes on:
torchvision finds the culprits, and a new pipeline decodes the others, so that their pixels do not depend on
their neighbours.

On a CPU the pixels are within one level of torchvision's (dali_graph.py). On a GPU nvJPEG decodes, whose
colors are not those of libjpeg-turbo; ``backend`` then ends in "mixed".
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from nvidia import dali
from nvidia.dali import Pipeline
from torch import Tensor

from ...errors import InputError
from ..dataset import Dataset
from ..decode import placement
from ..verify import BadImage, jpeg_frame, verify
from .base_loader import BaseLoader, Decoding, Failures, Reading, Schedule, Unreadable, decoding_threads
from .dali_graph import INPUTS, Kind, build, inputs, padding, ring_factors

END_WITHIN = 16  # bytes from the end of a JPEG in which its end marker is looked for


class PreparedBatch(NamedTuple):
    """A batch ready to be decoded: what DALI is given, and what it is not.

    Attributes:
        rows: rows of the batch that DALI decodes.
        inputs: what DALI is fed with for these rows, by the names of INPUTS.
        others: row -> pixels that torchvision decoded.
    """

    positions: list[int]
    rows: list[int]
    inputs: dict[str, list[np.ndarray]]
    others: dict[int, Tensor]
    failures: Failures


# What a reading thread makes of one image: the inputs for DALI, its pixels, or what is wrong with it.
PreparedImage = dict[str, np.ndarray] | Tensor | Unreadable


class DaliLoader(BaseLoader):
    """A Loader that decodes with DALI; opened by open_loader."""

    def __init__(self, dataset: Dataset, schedule: Schedule, decoding: Decoding) -> None:
        super().__init__(dataset, schedule, decoding)
        self._gpu: int | None = None
        if self._device.type == "cuda":
            self._gpu = torch.cuda.current_device() if self._device.index is None else self._device.index
        self.backend = f"dali {dali.__version__}" + ("" if self._gpu is None else " mixed")
        self._kind: Kind = "stored" if self._as_stored else "center" if self._crop is None else "window"
        margin = 0 if self._resize is None else self._resize - max(self.shape[1:])
        self._ring = self._kind != "stored" and margin < 2  # from 2 on, a pixel is cut away on every side
        self._pipeline: Pipeline | None = None

    def _read(self, batches: Sequence[Tensor], epoch: int) -> Reading:
        pool = decoding_threads(self._threads)
        ready = self._prepared(pool, batches, epoch)
        # Two batches are in DALI at a time, so that it is busy while the first is copied and used.
        current = next(ready, None)
        running = running_next = None
        try:
            running = self._launch(current)
            while current is not None:
                following = next(ready, None)
                running_next = self._launch(following)
                result = self._collect(current, running, epoch)
                if running_next is not None and self._pipeline is not running_next:
                    running_next = self._launch(following)  # it was lost with the pipeline that failed
                current, running = following, running_next
                yield result
        finally:
            if running is not None or running_next is not None:
                self._pipeline = None  # it holds a batch that nobody will ask for
            pool.shutdown(cancel_futures=True)

    # -- before DALI ------------------------------------------------------------------------------

    def _prepared(
        self, pool: ThreadPoolExecutor, batches: Sequence[Tensor], epoch: int
    ) -> Iterator[PreparedBatch]:
        """Read the files of each batch, one batch ahead."""
        following: tuple[list[int], list[Future[PreparedImage]]] | None = None
        for batch in batches:
            positions = batch.tolist()
            current = following
            following = positions, [pool.submit(self._prepare, position, epoch) for position in positions]
            if current is not None:
                yield _sorted(*current)
        if following is not None:
            yield _sorted(*following)

    def _prepare(self, position: int, epoch: int) -> PreparedImage:
        """The inputs of one image for DALI, or its pixels, or what is wrong with it."""
        try:
            data = self.dataset.reader.encoded(position)
        except InputError as error:
            return Unreadable(str(error))
        size = None if data is None else _whole_jpeg(data)
        if data is not None and size is not None:
            return {"data": np.frombuffer(data, np.uint8), **self._geometry(position, *size, epoch)}
        try:
            return self._pixels(position, epoch)
        except Unreadable as error:
            return error

    def _geometry(self, position: int, height: int, width: int, epoch: int) -> dict[str, np.ndarray]:
        """What the pipeline is to do with an image of this size, by the names of INPUTS."""
        H, W = self.shape[1:]
        given: dict[str, object] = {}
        rows, columns, top, left = H, W, 0, 0
        if self._as_stored:
            self._check_size(position, height, width)
        elif self._crop is None:
            (rows, columns), (top, left) = placement(height, width, (H, W), self._resize)
            given["anchor"] = top, left
        else:
            window = self._crop.window(
                height, width, seed=self._schedule.seed, epoch=epoch, position=position
            )
            given["start"], given["flip"] = (window.top, window.left), window.flip
            height, width = window.height, window.width
        given["shape"], given["size"] = (height, width), (rows, columns)
        if self._ring:
            given["pad"] = padding(height, rows), padding(width, columns)
            given["rows"] = ring_factors(height, rows, top, H)[:, None, None]
            given["columns"] = ring_factors(width, columns, left, W)[None, :, None]
        wanted = inputs(self._kind, self._ring)
        return {name: np.asarray(value, INPUTS[name][0]) for name, value in given.items() if name in wanted}

    # -- DALI -------------------------------------------------------------------------------------

    def _launch(self, batch: PreparedBatch | None) -> Pipeline | None:
        """Start decoding; returns the pipeline that has something to collect, None where there is nothing."""
        if batch is None or not batch.rows:
            return None
        if self._pipeline is None:
            C, H, W = self.shape
            size = self._schedule.batch_size
            self._pipeline = build(
                self._kind,
                self._ring,
                channels=C,
                size=(H, W),
                batch_size=size,
                threads=self._threads,
                gpu=self._gpu,
            )
        for name, values in batch.inputs.items():
            self._pipeline.feed_input(name, values)
        self._pipeline.schedule_run()
        return self._pipeline

    def _collect(self, batch: PreparedBatch, running: Pipeline | None, epoch: int) -> tuple[Tensor, Failures]:
        """The pixels of a batch, those that torchvision decoded included."""
        decoded = None
        if running is not None:
            try:
                decoded = self._outputs(running)
            except RuntimeError as error:
                batch, decoded = self._rescued(batch, epoch, error)
        if decoded is not None and len(decoded) == len(batch.positions):
            return decoded, batch.failures
        out = torch.empty((len(batch.positions), *self.shape), dtype=torch.uint8, device=self._device)
        if decoded is not None:
            out[torch.tensor(batch.rows, device=self._device)] = decoded
        for row, pixels in batch.others.items():
            out[row] = pixels.to(self._device)
        return out, sorted(batch.failures)

    def _outputs(self, running: Pipeline) -> Tensor:
        """Wait for the running batch; uint8 [rows, C, H, W]."""
        (decoded,) = running.share_outputs()
        images = torch.from_dlpack(decoded.as_tensor()).clone()  # the buffer stays DALI's
        if self._gpu is not None:
            # The copy must be done before DALI writes there again.
            torch.cuda.current_stream(self._device).synchronize()
        running.release_outputs()
        return images

    def _rescued(
        self, batch: PreparedBatch, epoch: int, error: RuntimeError
    ) -> tuple[PreparedBatch, Tensor | None]:
        """A batch on which DALI failed: without its bad images by DALI, or else all of it by torchvision."""
        self._pipeline = None
        pixels, failures = {}, list(batch.failures)
        for row in batch.rows:
            try:
                pixels[row] = self._pixels(batch.positions[row], epoch)
            except Unreadable as unreadable:
                failures.append((row, str(unreadable)))
        if len(pixels) < len(batch.rows):
            good = [number for number, row in enumerate(batch.rows) if row in pixels]
            inputs = {name: [values[number] for number in good] for name, values in batch.inputs.items()}
            rest = PreparedBatch(
                batch.positions, rows=list(pixels), inputs=inputs, others=batch.others, failures=failures
            )
            try:
                running = self._launch(rest)
                return rest, None if running is None else self._outputs(running)
            except RuntimeError as again:
                self._pipeline, error = None, again
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"DALI failed on a batch that torchvision can read: {reason}", stacklevel=2)
        others = batch.others | pixels
        return PreparedBatch(batch.positions, rows=[], inputs={}, others=others, failures=failures), None


def _whole_jpeg(data: bytearray) -> tuple[int, int] | None:
    """(height, width) of a JPEG that has an end and is grey or in color; all else is torchvision's to judge.

    A CMYK image is left to torchvision too: DALI rounds its luminance otherwise.
    """
    if not data.startswith(b"\xff\xd8") or b"\xff\xd9" not in data[-END_WITHIN:]:
        return None
    try:
        size, frame = verify(data), jpeg_frame(data)
    except BadImage:
        return None
    components = data[frame + 9 : frame + 10]
    return size if components in (b"\1", b"\3") else None


def _sorted(positions: list[int], parts: list[Future[PreparedImage]]) -> PreparedBatch:
    """A batch by who decodes its images."""
    batch = PreparedBatch(positions, rows=[], inputs={}, others={}, failures=[])
    for row, part in enumerate(parts):
        result = part.result()
        if isinstance(result, dict):
            batch.rows.append(row)
            for name, value in result.items():
                batch.inputs.setdefault(name, []).append(value)
        elif isinstance(result, Tensor):
            batch.others[row] = result
        else:
            batch.failures.append((row, str(result)))
    return batch
