"""Files of stored labels; each holds one or more whole epochs, one after the other (LabelManifest.files).

epochs-00000-00003.safetensors    the tensors of the form, a row a label, in labelling order (encoding.py)
    view/...                      the views, where they are not drawn again from the seed
    metadata                      for each epoch the first digits of the sha256 of its views

Views lie epoch after epoch, in the smallest dtypes that hold their values:

view/window uint8|int16 [n, 4] (top, left, height, width)     view/flip uint8 [ceil(n / 8)], a bit each
view/id, view/group, view/partner int32 [n]                   view/ratio float64 [n]   view/box int16 [n, 4]

Forms that need all labels before the first is written (encoding.py) are one file with all epochs. Until it
is there the labels lie in fp16 in the folder exact/, which is then deleted; so labelling can be continued.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from ..runtime.seeds import generator
from .encoding import SAMPLE, SHARED, WHOLE_SET, Encoded, encode, encode_low_rank, find_codebook, quantize
from .manifest import LabelManifest
from .views import FLIP, Views, flip_bytes, pack_views

METADATA_KEY = "fastdd"
"""the key under which a safetensors file's metadata hold ours"""
REMEDY = "put back a whole copy, or delete it and start the command that made it again"
"""what to do about a file of labels, which a run may have made or somebody may have given"""
EXACT = "exact"
"""folder of the labels in fp16, until those that need all of them are written"""
CHUNK = 1 << 26
"""logits in memory while those of an image's views are put together"""
DIGITS = 16
"""hexadecimal digits kept of a sha256: enough to tell other views, few beside a short epoch's labels"""


class _Digests(TypedDict):
    """What the metadata say: for each epoch the first digits of the sha256 of its views."""

    views: list[str]


def label_path(folder: Path, epochs: list[int]) -> Path:
    """The path of the file with these epochs."""
    return folder / f"epochs-{epochs[0]:05d}-{epochs[-1]:05d}.safetensors"


class LabelWriter:
    """Writes labels that are added epoch by epoch; a file appears with the last of its epochs.

    Attributes:
        missing: the epochs that are to be added, file by file; files may come in any order and from several
            processes, the epochs of a file in theirs from one. Then ``finish`` is to be called, once.
    """

    def __init__(self, folder: Path, manifest: LabelManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._exact: LabelWriter | None = None
        self.missing = [epochs for epochs in manifest.files if not label_path(folder, epochs).is_file()]
        self._ends = {epochs[-1]: epochs for epochs in manifest.files}
        self._waiting: list[Encoded] = []
        self._digests: list[str] = []
        if manifest.form in WHOLE_SET and self.missing:
            self._exact = LabelWriter(folder / EXACT, manifest.exact)
            self.missing = self._exact.missing

    def add(self, views: Views, logits: Tensor) -> None:
        """Add the labels of an epoch: logits float [n, classes] of its n kept views."""
        manifest = self.manifest
        if self._exact is not None:
            self._exact.add(views, logits)
            return
        tensors = encode(logits, manifest.form, manifest.k, manifest.temperature, rest=manifest.rest)
        if manifest.views == "stored":
            tensors |= pack_views(views)
        self._waiting.append(tensors)
        self._digests.append(views.digest()[:DIGITS])
        if views.epoch in self._ends:
            joined = {name: torch.cat([each[name] for each in self._waiting]) for name in tensors}
            metadata = {METADATA_KEY: json.dumps({"views": self._digests})}
            write_tensors(label_path(self.folder, self._ends[views.epoch]), joined, metadata)
            self._waiting, self._digests = [], []

    def finish(self) -> None:
        """Write what needs the labels of all epochs, once they are added."""
        if self._exact is None:  # after a kill the folder may outlive the file that was made of it
            shutil.rmtree(self.folder / EXACT, ignore_errors=True)
            return
        manifest, exact = self.manifest, ExactLabels(self.folder / EXACT, self._exact.manifest)
        if manifest.form == "lowrank":
            tensors = exact.low_rank(manifest.rank)
        else:
            tensors = exact.quantized(manifest.codes)
        metadata = {METADATA_KEY: json.dumps({"views": exact.digests()})}
        write_tensors(
            label_path(self.folder, manifest.pool.labelled), tensors | exact.packed_views(), metadata
        )
        shutil.rmtree(self.folder / EXACT)


class LabelFile:
    """An open file of labels; rows are read when they are asked for."""

    def __init__(self, folder: Path, manifest: LabelManifest, epochs: list[int]) -> None:
        self.path, self.epochs = label_path(folder, epochs), epochs
        self._file = TensorFile(self.path, REMEDY)
        counts = [len(manifest.pool.rows(epoch)) for epoch in epochs]
        self._starts = list(accumulate(counts, initial=0))
        self._flip_starts = list(accumulate(map(flip_bytes, counts), initial=0))
        names = list(self._file.shapes)
        self._views = [name for name in names if name.startswith("view/")]
        self._labels = [name for name in names if name not in self._views]
        is_noted = METADATA_KEY in self._file.metadata
        self._digests = self._file.note(METADATA_KEY, _Digests)["views"] if is_noted else []
        self._check_content(manifest.shapes(sum(counts)))
        self._shared = {
            name: self._file.tensor(name, finite=False) for name in self._labels if name in SHARED
        }

    def labels(self, epoch: int, rows: Tensor, ids: Tensor) -> Encoded:
        """The encoded labels at some rows of an epoch, of the samples ``ids``, and what they share."""
        at = self.epochs.index(epoch)
        found = {}
        for name in self._labels:
            if name in self._shared:
                found[name] = self._shared[name] if name == "codebook" else self._shared[name][ids]
            else:
                start, stop = self._starts[at : at + 2]
                found[name] = self._file.rows(name, start, stop, finite=False)[rows]
        return found

    def views(self, epoch: int) -> dict[str, Tensor]:
        """The packed views of an epoch (views.py)."""
        at = self.epochs.index(epoch)
        found = {}
        for name in self._views:
            starts = self._flip_starts if name == FLIP else self._starts
            found[name] = self._file.tensor(name, finite=False)[starts[at] : starts[at + 1]]
        return found

    def digest(self, epoch: int) -> str:
        """The first digits of the sha256 of an epoch's views."""
        return self._digests[self.epochs.index(epoch)]

    def _check_content(self, wanted: dict[str, list[int]]) -> None:
        """Refuse a file without labels of these shapes, or without a digest of every epoch's views."""
        found = {name: list(self._file.shapes[name]) for name in self._labels}
        if found != wanted or len(self._digests) != len(self.epochs):
            held = _listed(found) or "nothing"
            raise self._file.damaged(
                f"it holds {held}, expected {_listed(wanted)} and which views they are of"
            )


class ExactLabels:
    """All labels in fp16, of which those that need the whole set are made."""

    def __init__(self, folder: Path, manifest: LabelManifest) -> None:
        self.manifest = manifest
        files = [LabelFile(folder, manifest, epochs) for epochs in manifest.files]
        self._epochs = [(file, epoch) for file in files for epoch in file.epochs]

    def digests(self) -> list[str]:
        """The digest of the views of each labelled epoch."""
        return [file.digest(epoch) for file, epoch in self._epochs]

    def packed_views(self) -> dict[str, Tensor]:
        """The packed views of all labelled epochs (views.py); empty where they are drawn again."""
        packed = [file.views(epoch) for file, epoch in self._epochs]
        return {name: torch.cat([each[name] for each in packed]) for name in packed[0]}

    def logits(self) -> Iterator[Tensor]:
        """The logits of each labelled epoch, float16 [labels, classes], in labelling order."""
        for file, epoch in self._epochs:
            rows = torch.arange(len(self.manifest.pool.rows(epoch)))
            yield file.labels(epoch, rows, rows)["logits"]

    def samples(self) -> list[Tensor]:
        """The samples of each labelled epoch, int64, in labelling order."""
        if self.manifest.views == "stored":
            return [file.views(epoch)["view/id"].long() for file, epoch in self._epochs]
        return [self.manifest.draw(epoch).ids for _, epoch in self._epochs]

    def low_rank(self, rank: int) -> Encoded:
        """The tensors of form lowrank; ``rank`` is the number of directions of an image."""
        N, C, samples = self.manifest.samples, self.manifest.classes, self.samples()
        places = [ids.argsort() for ids in samples]
        parts: list[Encoded] = []
        for ids in torch.arange(N).split(max(1, CHUNK // (C * len(samples)))):
            logits = [part[place[ids]] for part, place in zip(self.logits(), places, strict=True)]
            parts.append(encode_low_rank(torch.stack(logits, dim=1), rank))
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        by_epoch = joined["coefficients"].unbind(1)
        rows = [each[ids] for each, ids in zip(by_epoch, samples, strict=True)]
        return {**joined, "coefficients": torch.cat(rows)}

    def quantized(self, codes: int) -> Encoded:
        """The tensors of form pq; its centers are those of a seeded choice of labels."""
        count, seed = self.manifest.pool.labels, self.manifest.seed
        chosen = torch.zeros(count, dtype=torch.bool)
        chosen[torch.randperm(count, generator=generator(seed, "codebook"))[:SAMPLE]] = True
        kept, start = [], 0
        for logits in self.logits():
            kept.append(logits[chosen[start : start + len(logits)]])
            start += len(logits)
        codebook = find_codebook(torch.cat(kept), codes, seed)
        parts = [quantize(logits, codebook, codes) for logits in self.logits()]
        return {"codes": torch.cat(parts), "codebook": codebook}


def _listed(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
