"""Files of stored labels; each holds one or more whole epochs, one after the other (LabelManifest.files).

epochs-00000-00003.safetensors    the tensors of the form, a row a label, in labelling order (encoding.py)
    view/...                      the views, where they are not drawn again from the seed (view_records.py)
    metadata                      for each epoch the first digits of the sha256 of its views
"""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from .encoding import Encoded, encode, shapes
from .manifest import LabelManifest
from .view_records import FLIP, flip_bytes, pack_views
from .views import Views

METADATA_KEY = "fastdd"
"""the key under which a safetensors file's metadata hold ours"""
REMEDY = "delete it and start the same command again"
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
        missing_epochs: the epochs that are to be added, in this order.
    """

    def __init__(self, folder: Path, manifest: LabelManifest) -> None:
        self.folder, self.manifest = folder, manifest
        missing_files = [epochs for epochs in manifest.files if not label_path(folder, epochs).is_file()]
        self.missing_epochs = [epoch for epochs in missing_files for epoch in epochs]
        self._ends = {epochs[-1]: epochs for epochs in missing_files}
        self._waiting: list[Encoded] = []
        self._digests: list[str] = []

    def add(self, views: Views, logits: Tensor) -> None:
        """Add the labels of an epoch: logits float [n, classes] of its n kept views."""
        manifest = self.manifest
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


class LabelFile:
    """An open file of labels; rows are read when they are asked for.

    Raises:
        InputError: the file is damaged, or does not hold what the manifest says.
    """

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
        self._check_content(shapes(manifest.form, sum(counts), manifest.classes, manifest.k, manifest.rest))

    def labels(self, epoch: int, rows: Tensor) -> Encoded:
        """The encoded labels at some rows of an epoch."""
        place = self._starts[self.epochs.index(epoch)] + rows
        return {name: self._file.tensor(name, finite=False)[place] for name in self._labels}

    def views(self, epoch: int) -> dict[str, Tensor]:
        """The packed views of an epoch (view_records.py)."""
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


def _listed(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
