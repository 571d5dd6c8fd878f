"""The NVIDIA DALI backend: JPEGs are decoded, resized and cropped by DALI, on a GPU where there is one.

DALI is fed bytes by us, so that folders and archives are alike, the cursor is ours, and a bad file has a
name. Whatever is no JPEG, is CMYK or looks cut short goes through torchvision inside the same batch, which
also says what is wrong with it. When DALI fails all the same, it neither names the image nor goes on:
torchvision finds the culprits, and a new pipeline decodes the others, so that their pixels do not depend
on their neighbours.

On a CPU the pixels are within one level of torchvision's (dali_graph.py). On a GPU nvJPEG decodes, whose
colors are not those of libjpeg-turbo; ``backend`` then ends in "mixed".
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from nvidia import dali
from torch import Tensor

from ...errors import InputError
from .dali_graph import INPUTS, Kind, build, inputs, padding, ring_factors
from .decode import placement
from .stream import Failures, Reading, Stream, Unreadable, decoding_threads
from .verify import BadImage, jpeg_frame, verify

END_WITHIN = 16  # bytes from the end of a JPEG in which its end marker is looked for


class Prepared(NamedTuple):
    """A batch ready to be decoded: what DALI is given, and what it is not."""

    positions: list[int]
    rows: list[int]  # of the batch, that DALI decodes
    inputs: dict[str, list[np.ndarray]]
    others: dict[int, Tensor]  # row to pixels that torchvision decoded
    failures: Failures


class DaliLoader(Stream):
    """A Loader that decodes with DALI; opened by open_loader."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gpu: int | None = None
        if self._device.type == "cuda":
            self._gpu = torch.cuda.current_device() if self._device.index is None else self._device.index
        self.backend = f"dali {dali.__version__}" + ("" if self._gpu is None else " mixed")
        self._kind: Kind = "stored" if self._as_stored else "center" if self._crop is None else "window"
        margin = 0 if self._resize is None else self._resize - max(self.shape[1:])
        self._ring = self._kind != "stored" and margin < 2  # from 2 on, a pixel is cut away on every side
        self._pipeline: Any = None

    def _read(self, batches: Sequence[Tensor], epoch: int) -> Reading:
        pool = decoding_threads(self._threads)
        ready = self._prepared(pool, batches, epoch)
        # Two batches are in DALI at a time, so that it is busy while the first is copied and used.
        current = next(ready, None)
        running = following_runs = False
        try:
            running = self._launch(current)
            while current is not None:
                following = next(ready, None)
                following_runs = self._launch(following)
                pipeline = self._pipeline
                result = self._collect(current, running, epoch)
                if following_runs and self._pipeline is not pipeline:
                    following_runs = self._launch(following)  # it was lost with the pipeline that failed
                current, running = following, following_runs
                yield result
        finally:
            if running or following_runs:
                self._pipeline = None  # it holds a batch that nobody will ask for
            pool.shutdown(cancel_futures=True)

    # -- before DALI ------------------------------------------------------------------------------

    def _prepared(
        self, pool: ThreadPoolExecutor, batches: Sequence[Tensor], epoch: int
    ) -> Iterator[Prepared]:
        """Read the files of each batch, one batch ahead."""
        following: tuple[list[int], list[Future[Any]]] | None = None
        for batch in batches:
            positions = batch.tolist()
            current, following = (
                following,
                (positions, [pool.submit(self._prepare, p, epoch) for p in positions]),
            )
            if current is not None:
                yield _sorted(*current)
        if following is not None:
            yield _sorted(*following)

    def _prepare(self, position: int, epoch: int) -> dict[str, np.ndarray] | Tensor | Unreadable:
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
        given: dict[str, Any] = {}
        if self._as_stored:
            self._check_size(position, height, width)
        elif self._crop is None:
            given["shape"] = height, width
            given["size"], given["anchor"] = placement(height, width, (H, W), self._resize)
        else:
            window = self._crop.window(height, width, self._schedule.seed, epoch, position)
            given["start"], given["shape"], given["flip"] = window[:2], window[2:4], window.flip
            given["size"] = H, W
        if self._ring:
            (height, width), (rows, columns), (top, left) = (
                given["shape"],
                given["size"],
                given.get("anchor", (0, 0)),
            )
            given["pad"] = padding(height, rows), padding(width, columns)
            given["rows"] = ring_factors(height, rows, top, H)[:, None, None]
            given["columns"] = ring_factors(width, columns, left, W)[None, :, None]
        wanted = inputs(self._kind, self._ring)
        return {name: np.asarray(value, INPUTS[name][0]) for name, value in given.items() if name in wanted}

    # -- DALI -------------------------------------------------------------------------------------

    def _launch(self, batch: Prepared | None) -> bool:
        """Start decoding; whether there is something to collect."""
        if batch is None or not batch.rows:
            return False
        if self._pipeline is None:
            C, H, W = self.shape
            size = self._schedule.batch_size
            self._pipeline = build(self._kind, self._ring, C, (H, W), size, self._threads, self._gpu)
        for name, values in batch.inputs.items():
            self._pipeline.feed_input(name, values)
        self._pipeline.schedule_run()
        return True

    def _collect(self, batch: Prepared, running: bool, epoch: int) -> tuple[Tensor, Failures]:
        """The pixels of a batch, those that torchvision decoded included."""
        decoded = None
        if running:
            try:
                decoded = self._outputs()
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

    def _outputs(self) -> Tensor:
        """Wait for the running batch; uint8 [rows, C, H, W]."""
        (decoded,) = self._pipeline.share_outputs()
        images = torch.from_dlpack(decoded.as_tensor()).clone()  # the buffer stays DALI's
        if self._gpu is not None:
            torch.cuda.current_stream(
                self._device
            ).synchronize()  # the copy is done before DALI writes there again
        self._pipeline.release_outputs()
        return images

    def _rescued(self, batch: Prepared, epoch: int, error: RuntimeError) -> tuple[Prepared, Tensor | None]:
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
            rest = Prepared(batch.positions, list(pixels), inputs, batch.others, failures)
            try:
                return rest, self._outputs() if self._launch(rest) else None
            except RuntimeError as again:
                self._pipeline, error = None, again
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(f"DALI failed on a batch that torchvision can read: {reason}", stacklevel=2)
        return Prepared(batch.positions, [], {}, batch.others | pixels, failures), None


def _whole_jpeg(data: bytearray) -> tuple[int, int] | None:
    """(height, width) of a JPEG that has an end and is grey or in color; all else is torchvision's to judge.

    CMYK is not: DALI rounds its luminance otherwise.
    """
    if not data.startswith(b"\xff\xd8") or b"\xff\xd9" not in data[-END_WITHIN:]:
        return None
    try:
        size, frame = verify(data), jpeg_frame(data)
    except BadImage:
        return None
    components = data[frame + 9 : frame + 10]
    return size if components in (b"\1", b"\3") else None


def _sorted(positions: list[int], parts: list[Future[Any]]) -> Prepared:
    """A batch by who decodes its images."""
    batch = Prepared(positions, [], {}, {}, [])
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
