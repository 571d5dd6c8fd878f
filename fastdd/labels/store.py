"""Stored labels: a folder with a file an epoch, keyed by (epoch, sample).

manifest.json                 what the labels are of and how they were made (facts.py)
epoch-00000.safetensors       <form's tensors>, a row a label, in labelling order; see forms.py
    window uint8|int16 [n, 4], flip uint8 [n / 8], id, group, partner int32 [n], ratio float64, box int16 [n, 4]
                              the views, where they are not drawn again from the seed
    metadata: sha256 of the views

An epoch is done when its file is there, so labelling that was killed continues. Reading maps the files and touches
the rows that are asked for.
"""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..files import write_json, write_tensors
from ..seeds import generator
from .facts import MANIFEST, Facts, as_plain, facts_from, read_manifest
from .forms import decode, encode, shapes
from .records import pack_views, unpack_views
from .views import Views

KEY = "fastdd"
"""of the metadata of a safetensors file"""
REMEMBERED = 16
"""epochs whose views are kept in memory"""
Replay = Literal["shuffle", "cycle", "draw"]


def shard_path(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.safetensors"


def begin(folder: Path, facts: Facts) -> list[int]:
    """Begin labels, or continue those of the same facts; returns the epochs whose files are still to be written.

    Raises:
        InputError: the folder holds other labels, or the disk cannot hold these.
    """
    known = read_manifest(folder)
    plain = as_plain(facts)
    if known is not None and known != plain:
        differing = ", ".join(key for key in plain if plain[key] != known.get(key))
        raise InputError(
            f"{folder} holds labels with another {differing}; delete that folder, or choose another one for these"
        )
    left = [epoch for epoch in facts.pool.labelled if not shard_path(folder, epoch).is_file()]
    needed = facts.bytes * len(left) // len(facts.pool.labelled)
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"labels take {needed / 1e9:.3g} GB and {existing} has {free / 1e9:.3g} GB left; set labels.form to int4 "
            "or topk, a smaller labels.keep, or free some space"
        )
    if known is None:
        write_json(folder / MANIFEST, plain)
    return left


def is_whole(folder: Path) -> bool:
    """Whether a folder holds finished labels; reads its manifest alone."""
    known = read_manifest(folder)
    return known is not None and all(
        shard_path(folder, epoch).is_file() for epoch in facts_from(folder, known).pool.labelled
    )


def write_epoch(folder: Path, facts: Facts, views: Views, logits: Tensor) -> None:
    """Write the labels of an epoch: logits float [n, classes] of its kept views."""
    tensors = encode(logits, facts.form, facts.k, facts.temperature)
    if facts.views == "stored":
        tensors |= pack_views(views)
    write_tensors(shard_path(folder, views.epoch), tensors, {KEY: json.dumps({"views": views.digest()})})


class StoredLabels:
    """Labels on disk; read only.

    Attributes:
        facts: what they are of.

    Raises:
        InputError: no such labels, some are missing, or they are of other images, classes or samples.
    """

    def __init__(self, folder: Path, images: str | None = None, classes: int | None = None) -> None:
        self.folder = folder
        if folder.is_file():
            raise InputError(
                f"{folder} is a file, as of one label an image; expected a folder with labels of views, which "
                "labels.per=view makes"
            )
        known = read_manifest(folder)
        if known is None:
            raise InputError(f"{folder} holds no labels ({MANIFEST} is missing); make them with `fastdd label RECIPE`")
        self.facts = facts_from(folder, known)
        if images is not None and images != self.facts.images:
            raise InputError(
                f"labels {folder} are of other images: fingerprint {self.facts.images[:12]}, these are {images[:12]}; "
                "delete that folder and label these images"
            )
        if classes is not None and classes != self.facts.classes:
            raise InputError(
                f"labels {folder} have {self.facts.classes} classes, expected {classes}; use labels of these classes"
            )
        self.epochs = self.facts.pool.labelled
        missing = [epoch for epoch in self.epochs if not shard_path(folder, epoch).is_file()]
        if missing:
            raise InputError(
                f"labels {folder} lack {len(missing)} of {len(self.epochs)} epochs, the first is "
                f"{shard_path(folder, missing[0]).name}; start the same command again to finish them"
            )
        self._files: dict[int, Any] = {}
        self._views: OrderedDict[int, Views] = OrderedDict()

    @classmethod
    def open(cls, folder: str | Path, images: str | None = None, classes: int | None = None) -> StoredLabels:
        """The labels in a folder, checked against the fingerprint of the images and the number of classes."""
        return cls(Path(folder), images, classes)

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(shard_path(self.folder, epoch).stat().st_size for epoch in self.epochs)

    def views(self, epoch: int) -> Views:
        """The kept views of a labelled epoch, in labelling order.

        Raises:
            InputError: the epoch is not among self.epochs, or its views cannot be drawn again on this machine.
        """
        if epoch not in self._views:
            while len(self._views) >= REMEMBERED:
                self._views.popitem(last=False)
            self._views[epoch] = self._read_views(epoch)
        self._views.move_to_end(epoch)
        return self._views[epoch]

    def get(self, epoch: int, ids: Tensor) -> tuple[Views, Tensor]:
        """Views of some samples in a labelled epoch and their logits float32 [len(ids), classes].

        Raises:
            InputError: a sample has no label in that epoch, or one that is no finite number.
        """
        views = self.views(epoch)
        rows = views.find(ids)
        file = self._file(epoch)
        names = [name for name in file.keys() if not name.startswith("view/")]  # noqa: SIM118 (safe_open is no mapping)
        encoded = {name: file.get_tensor(name)[rows] for name in names}
        logits = decode(encoded, self.facts.form, self.facts.classes)
        bad = ~logits.isfinite().all(1)
        if bad.any():
            raise InputError(
                f"labels {shard_path(self.folder, epoch)} are not finite for sample {int(ids[bad][0])} "
                f"({int(bad.sum())} of {len(bad)} in a batch); delete that file and start the same command again"
            )
        return views.rows(rows), logits

    def steps(self, replay: Replay = "shuffle", batch: int | None = None) -> int:
        """How many batches ``batches`` gives for an epoch of training."""
        if replay != "shuffle":
            return self.facts.pool.candidates
        return -(-self.facts.samples // (batch or self.facts.augmentation.batch))

    def batches(
        self, epoch: int, seed: int, replay: Replay = "shuffle", batch: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """(labelled epoch, ids) of every batch of an epoch of training; see recipe.Labels.replay.

        Args:
            epoch: of training; labelled epochs are used again after the last one.
            seed: of orders and draws.
            batch: samples a batch, for shuffle; None: the labelling batch's.

        Raises:
            InputError: shuffle of labels that were pruned to parts of an epoch.
        """
        pool = self.facts.pool
        if replay == "shuffle":
            if pool.labels != len(self.epochs) * self.facts.samples:
                raise InputError(
                    f"labels {self.folder} hold parts of epochs (keep {self.facts.keep:g}); set labels.replay to draw "
                    "or cycle"
                )
            order = torch.randperm(self.facts.samples, generator=generator(seed, "order", epoch))
            labelled = self.epochs[epoch % len(self.epochs)]
            for ids in order.split(batch or self.facts.augmentation.batch):
                yield labelled, ids
            return
        for labelled, group in pool.draw(seed, epoch) if replay == "draw" else pool.cycle(epoch):
            views = self.views(labelled)
            yield labelled, views.ids[views.groups == group]

    def _read_views(self, epoch: int) -> Views:
        file, facts = self._file(epoch), self.facts
        if facts.views == "stored":
            names = [name for name in file.keys() if name.startswith("view/")]  # noqa: SIM118 (safe_open is no mapping)
            views = unpack_views(epoch, {name: file.get_tensor(name) for name in names}, facts.augmentation.pad)
        else:
            views = facts.drawn(epoch)
        if views.digest() != json.loads(file.metadata()[KEY])["views"]:
            raise InputError(
                f"the views of epoch {epoch} of {self.folder} are drawn otherwise by this machine or version of torch; "
                "label with labels.views=stored, or label here"
            )
        return views

    def _file(self, epoch: int) -> Any:
        if epoch not in self._files:
            path = shard_path(self.folder, epoch)
            if epoch not in self.epochs:
                ends = f"{self.epochs[0]} to {self.epochs[-1]}"
                raise InputError(f"labels {self.folder} have no epoch {epoch}, only some of {ends}")
            try:
                file = safe_open(str(path), framework="pt")
            except (OSError, SafetensorError) as error:
                raise InputError(f"{path} is damaged ({error}); delete it and start the same command again") from error
            self._require_labels(file, path, len(self.facts.pool.rows(epoch)))
            self._files[epoch] = file
        return self._files[epoch]

    def _require_labels(self, file: Any, path: Path, count: int) -> None:
        """Refuse a file that does not hold ``count`` labels of views in the form that the manifest says."""
        facts = self.facts
        wanted = shapes(facts.form, count, facts.classes, facts.k)
        names = [name for name in file.keys() if not name.startswith("view/")]  # noqa: SIM118 (safe_open is no mapping)
        found = {name: file.get_slice(name).get_shape() for name in names}
        if found != wanted or "views" not in json.loads((file.metadata() or {}).get(KEY, "{}")):
            here, there = (", ".join(f"{name} {shape}" for name, shape in of.items()) for of in (found, wanted))
            raise InputError(
                f"{path} holds {here or 'nothing'}, expected {there} and which views they are of; delete it and start "
                "the same command again"
            )
