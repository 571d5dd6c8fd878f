"""Files of stored labels, each of one or more whole epochs, one after the other (Facts.files).

epochs-00000-00003.safetensors    <form's tensors>, a row a label, in labelling order; see encoding.py
    view/...                      the views, where they are not drawn again from the seed; see view_records.py
    metadata                      what the views of each epoch were, as the first digits of their sha256
"""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..runtime.files import write_tensors
from .encoding import Encoded, encode, shapes
from .manifest import Facts
from .view_records import FLIP, flip_bytes, pack_views
from .views import Views

KEY = "fastdd"
"""of the metadata of a safetensors file"""
DIGITS = 16
"""of a sha256, hexadecimal: enough to tell views that are drawn otherwise, and few beside a short epoch's labels"""


def shard_path(folder: Path, epochs: list[int]) -> Path:
    return folder / f"epochs-{epochs[0]:05d}-{epochs[-1]:05d}.safetensors"


class Writer:
    """Writes labels that are added epoch by epoch; a file is there when all of its epochs are.

    Attributes:
        left: epochs that are still to be added, in this order.
    """

    def __init__(self, folder: Path, facts: Facts) -> None:
        self.folder, self.facts = folder, facts
        lacking = [epochs for epochs in facts.files if not shard_path(folder, epochs).is_file()]
        self.left = [epoch for epochs in lacking for epoch in epochs]
        self._ends = {epochs[-1]: epochs for epochs in lacking}
        self._waiting: list[Encoded] = []
        self._digests: list[str] = []

    def add(self, views: Views, logits: Tensor) -> None:
        """Take the labels of an epoch: logits float [n, classes] of its kept views."""
        facts = self.facts
        tensors = encode(logits, facts.form, facts.k, facts.temperature)
        if facts.views == "stored":
            tensors |= pack_views(views)
        self._waiting.append(tensors)
        self._digests.append(views.digest()[:DIGITS])
        if views.epoch in self._ends:
            joined = {name: torch.cat([each[name] for each in self._waiting]) for name in tensors}
            said = {KEY: json.dumps({"views": self._digests})}
            write_tensors(shard_path(self.folder, self._ends[views.epoch]), joined, said)
            self._waiting, self._digests = [], []


class Shard:
    """An open file of labels; rows are read when they are asked for.

    Raises:
        InputError: it is damaged, or does not hold what the manifest says.
    """

    def __init__(self, folder: Path, facts: Facts, epochs: list[int]) -> None:
        self.path, self.epochs = shard_path(folder, epochs), epochs
        try:
            self._file = safe_open(str(self.path), framework="pt")
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{self.path} is damaged ({error}); delete it and start the same command again"
            ) from error
        counts = [len(facts.pool.rows(epoch)) for epoch in epochs]
        self._starts = list(accumulate(counts, initial=0))
        self._flip_starts = list(accumulate(map(flip_bytes, counts), initial=0))
        names = list(self._file.keys())
        self._views = [name for name in names if name.startswith("view/")]
        self._labels = [name for name in names if name not in self._views]
        self._require(shapes(facts.form, sum(counts), facts.classes, facts.k))

    def labels(self, epoch: int, rows: Tensor) -> Encoded:
        """Labels at some rows of an epoch, as encoded."""
        place = self._starts[self.epochs.index(epoch)] + rows
        return {name: self._file.get_tensor(name)[place] for name in self._labels}

    def views(self, epoch: int) -> dict[str, Tensor]:
        """The views of an epoch, as packed."""
        at = self.epochs.index(epoch)
        found = {}
        for name in self._views:
            starts = self._flip_starts if name == FLIP else self._starts
            found[name] = self._file.get_tensor(name)[starts[at] : starts[at + 1]]
        return found

    def digest(self, epoch: int) -> str:
        """Of the views of an epoch."""
        digest: str = self._said()[self.epochs.index(epoch)]
        return digest

    def _said(self) -> list[str]:
        found: list[str] = json.loads((self._file.metadata() or {}).get(KEY, "{}")).get("views", [])
        return found

    def _require(self, wanted: dict[str, list[int]]) -> None:
        """Refuse a file that does not hold labels of these shapes and says which views they are of."""
        found = {name: self._file.get_slice(name).get_shape() for name in self._labels}
        if found != wanted or len(self._said()) != len(self.epochs):
            here, there = (
                ", ".join(f"{name} {shape}" for name, shape in of.items()) for of in (found, wanted)
            )
            raise InputError(
                f"{self.path} holds {here or 'nothing'}, expected {there} and which views they are of; delete it and "
                "start the same command again"
            )
