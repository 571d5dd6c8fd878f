"""Stored labels: a folder with a manifest and files of whole epochs, keyed by (epoch, sample).

manifest.json                     what the labels are of and how they were made (manifest.py)
epochs-00000-00003.safetensors    labels, and views where they are stored (files.py)

A file is done when it is there, so labelling that was killed continues. Reading maps the files and touches the rows
that are asked for.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.files import write_json
from ..runtime.seeds import generator
from .encoding import decode
from .files import DIGITS, Shard, Writer, shard_path
from .manifest import MANIFEST, Facts, as_plain, facts_from, read_manifest
from .view_records import unpack_views
from .views import Views

REMEMBERED = 16
"""epochs whose views are kept in memory"""
Replay = Literal["shuffle", "cycle", "draw"]


def begin(folder: Path, facts: Facts) -> Writer:
    """Begin labels, or continue those of the same facts; returns what takes those that are still to be written.

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
    writer = Writer(folder, facts)
    needed = facts.bytes * len(writer.left) // len(facts.pool.labelled)
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"labels take {needed / 1e9:.3g} GB and {existing} has {free / 1e9:.3g} GB left; set labels.form to int4 "
            "or topk, a smaller labels.keep, or free some space"
        )
    if known is None:
        write_json(folder / MANIFEST, plain)
    return writer


def is_whole(folder: Path) -> bool:
    """Whether a folder holds finished labels; reads its manifest alone."""
    known = read_manifest(folder)
    return known is not None and all(
        shard_path(folder, epochs).is_file() for epochs in facts_from(folder, known).files
    )


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
            raise InputError(
                f"{folder} holds no labels ({MANIFEST} is missing); make them with `fastdd label RECIPE`"
            )
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
        paths = [shard_path(folder, epochs) for epochs in self.facts.files]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"labels {folder} lack {len(missing)} of {len(paths)} files, the first is {missing[0]}; start the same "
                "command again to finish them"
            )
        self._file_of = {epoch: number for number, epochs in enumerate(self.facts.files) for epoch in epochs}
        self._shards: dict[int, Shard] = {}
        self._views: OrderedDict[int, Views] = OrderedDict()

    @classmethod
    def open(cls, folder: str | Path, images: str | None = None, classes: int | None = None) -> StoredLabels:
        """The labels in a folder, checked against the fingerprint of the images and the number of classes."""
        return cls(Path(folder), images, classes)

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(shard_path(self.folder, epochs).stat().st_size for epochs in self.facts.files)

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
        shard = self._shard(epoch)
        logits = decode(shard.labels(epoch, rows), self.facts.form, self.facts.classes)
        bad = ~logits.isfinite().all(1)
        if bad.any():
            raise InputError(
                f"labels {shard.path} are not finite for sample {int(ids[bad][0])} "
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
        shard, facts = self._shard(epoch), self.facts
        if facts.views == "stored":
            views = unpack_views(epoch, shard.views(epoch), facts.augmentation.pad)
        else:
            views = facts.drawn(epoch)
        if views.digest()[:DIGITS] != shard.digest(epoch):
            raise InputError(
                f"the views of epoch {epoch} of {self.folder} are drawn otherwise by this machine or version of torch; "
                "label with labels.views=stored, or label here"
            )
        return views

    def _shard(self, epoch: int) -> Shard:
        if epoch not in self._file_of:
            ends = f"{self.epochs[0]} to {self.epochs[-1]}"
            raise InputError(f"labels {self.folder} have no epoch {epoch}, only some of {ends}")
        number = self._file_of[epoch]
        if number not in self._shards:
            self._shards[number] = Shard(self.folder, self.facts, self.facts.files[number])
        return self._shards[number]
