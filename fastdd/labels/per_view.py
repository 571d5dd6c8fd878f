"""One stored label a view: a folder of files, in which (epoch, sample) finds a label.

manifest.json                     what the labels are of and how they were made (manifest.py)
epochs-00000-00003.safetensors    labels, and views where they are stored (files.py)

A file is complete when it exists, so labelling that was killed continues. Files are mapped into memory, and
only the rows that are asked for are read.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.console import counted
from ..runtime.files import write_json
from ..runtime.seeds import generator
from .encoding import WHOLE_SET, decode, decode_whole_set
from .files import DIGITS, EXACT, REMEDY, LabelFile, LabelWriter, label_path
from .manifest import MANIFEST, LabelManifest, manifest_content, read_manifest
from .views import Views, unpack_views

REMEMBERED = 16
"""number of epochs whose views are kept in memory"""
Replay = Literal["shuffle", "cycle", "draw", "once"]
"""which labelled samples an epoch of training sees; see config.Labels.replay"""


def begin_labels(folder: Path, manifest: LabelManifest) -> LabelWriter:
    """Begin a folder of labels, or continue one with the same manifest; the writer writes what is missing."""
    known = read_manifest(folder)
    if known is not None and known != manifest:
        names = (field.name for field in fields(manifest))
        differing = ", ".join(name for name in names if getattr(known, name) != getattr(manifest, name))
        raise InputError(
            f"{folder} holds labels with another {differing}; delete that folder, or choose another one for "
            "these"
        )
    writer = LabelWriter(folder, manifest)
    written = manifest.bytes + (manifest.exact.bytes if manifest.form in WHOLE_SET else 0)
    needed = written * sum(map(len, writer.missing)) // len(manifest.pool.labelled)
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"labels take {needed / 1e9:.3g} GB and {existing} has {free / 1e9:.3g} GB left; set labels.form "
            "to int4 or topk, a smaller labels.keep, or free some space"
        )
    if known is None:
        write_json(folder / MANIFEST, manifest_content(manifest))
    return writer


def is_whole(folder: Path) -> bool:
    """Whether a folder holds finished labels and nothing else; only its manifest is read."""
    manifest = read_manifest(folder)
    if manifest is None or (folder / EXACT).is_dir():
        return False
    return all(label_path(folder, epochs).is_file() for epochs in manifest.files)


class StoredLabels:
    """Finished labels on disk, to be read.

    Attributes:
        epochs: the labelled epochs, in order.
    """

    def __init__(self, folder: Path, manifest: LabelManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.epochs = manifest.pool.labelled
        self._file_of = {epoch: number for number, epochs in enumerate(manifest.files) for epoch in epochs}
        self._open: dict[int, LabelFile] = {}
        self._views: OrderedDict[int, Views] = OrderedDict()

    @classmethod
    def open(cls, folder: str | Path, images: str | None = None, classes: int | None = None) -> StoredLabels:
        """Open the labels in a folder.

        Args:
            folder: a folder that ``label_views`` or ``import_fkd`` wrote.
            images: fingerprint that the labelled images must have; None: any.
            classes: number of classes that the labels must have; None: any.

        Raises:
            InputError: there are no labels, some files are missing, or they are of other images or classes.
        """
        folder = Path(folder)
        if folder.is_file():
            raise InputError(
                f"{folder} is a file, as of one label an image; expected a folder with labels of views, "
                "which labels.per=view makes"
            )
        manifest = read_manifest(folder)
        if manifest is None and folder.with_name(f"{folder.name}.safetensors").is_file():
            raise InputError(
                f"{folder}.safetensors holds one label an image, and this needs labels of views, which "
                "labels.per=view makes"
            )
        if manifest is None:
            raise InputError(
                f"{folder} holds no labels ({MANIFEST} is missing); make them with `fastdd label RECIPE`"
            )
        if images is not None and images != manifest.images:
            raise InputError(
                f"labels {folder} are of other images: fingerprint {manifest.images[:12]}, these are "
                f"{images[:12]}; give labels of these images, or delete that folder and label them"
            )
        if classes is not None and classes != manifest.classes:
            raise InputError(
                f"labels {folder} have {counted(manifest.classes, 'class')}, expected {classes}; use "
                "labels of these "
                "classes"
            )
        paths = [label_path(folder, epochs) for epochs in manifest.files]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise InputError(
                f"labels {folder} lack {len(missing)} of {len(paths)} files, the first is {missing[0]}; "
                "start the same command again to finish them"
            )
        return cls(folder, manifest)

    @property
    def bytes(self) -> int:
        """How many bytes the files take on disk."""
        return sum(label_path(self.folder, epochs).stat().st_size for epochs in self.manifest.files)

    def views(self, epoch: int) -> Views:
        """The kept views of a labelled epoch, in labelling order.

        Raises:
            InputError: the epoch is not in ``epochs``, or this machine cannot draw its views again.
        """
        if epoch not in self._views:
            while len(self._views) >= REMEMBERED:
                self._views.popitem(last=False)
            self._views[epoch] = self._read_views(epoch)
        self._views.move_to_end(epoch)
        return self._views[epoch]

    def get(self, epoch: int, ids: Tensor) -> tuple[Views, Tensor]:
        """The views of some samples in a labelled epoch, and their logits float32 [len(ids), classes].

        Raises:
            InputError: a sample has no label in that epoch, or its label is not finite.
        """
        views = self.views(epoch)
        rows = views.find(ids)
        file = self._file(epoch)
        encoded = file.labels(epoch, rows, ids)
        if self.manifest.form in WHOLE_SET:
            logits = decode_whole_set(encoded, self.manifest.classes)
        else:
            logits = decode(encoded, self.manifest.form, self.manifest.classes)
        bad = ~logits.isfinite().all(1)
        if bad.any():
            raise InputError(
                f"labels {file.path} are not finite for sample {int(ids[bad][0])} "
                f"({int(bad.sum())} of {len(bad)} in a batch); {REMEDY}"
            )
        return views.select(rows), logits

    def steps(self, replay: Replay = "shuffle", batch: int | None = None) -> int:
        """How many batches an epoch of training has."""
        if replay != "shuffle":
            return self.manifest.pool.candidates
        return -(-self.manifest.samples // (batch or self.manifest.augmentation.batch))

    def batches(
        self, epoch: int, seed: int, replay: Replay = "shuffle", batch: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (labelled epoch, ids) of every batch of an epoch of training.

        Args:
            epoch: the epoch of training; after the last labelled epoch the first one follows again.
            replay: which samples the epoch sees; see config.Labels.replay.
            batch: samples a batch, for shuffle; None: as many as in a labelling batch.

        Raises:
            InputError: ``shuffle`` is asked of labels that were pruned to parts of an epoch.
        """
        pool = self.manifest.pool
        if replay == "shuffle":
            if pool.labels != len(self.epochs) * self.manifest.samples:
                raise InputError(
                    f"labels {self.folder} hold parts of epochs (keep {self.manifest.keep:g}); set "
                    "labels.replay to once, draw or cycle"
                )
            order = torch.randperm(self.manifest.samples, generator=generator(seed, "order", epoch))
            labelled = self.epochs[epoch % len(self.epochs)]
            for ids in order.split(batch or self.manifest.augmentation.batch):
                yield labelled, ids
            return
        drawn = {"draw": pool.draw, "once": pool.once}
        for labelled, group in drawn[replay](seed, epoch) if replay in drawn else pool.cycle(epoch):
            views = self.views(labelled)
            yield labelled, views.ids[views.groups == group]

    def _read_views(self, epoch: int) -> Views:
        file, manifest = self._file(epoch), self.manifest
        if manifest.views == "stored":
            views = unpack_views(epoch, file.views(epoch), manifest.augmentation.pad)
        else:
            views = manifest.draw(epoch)
        if views.digest()[:DIGITS] != file.digest(epoch):
            raise InputError(
                f"the views of epoch {epoch} of {self.folder} are drawn otherwise by this machine or version "
                "of torch; label with labels.views=stored, or label here"
            )
        return views

    def _file(self, epoch: int) -> LabelFile:
        if epoch not in self._file_of:
            ends = f"{self.epochs[0]} to {self.epochs[-1]}"
            raise InputError(f"labels {self.folder} have no epoch {epoch}, only some of {ends}")
        number = self._file_of[epoch]
        if number not in self._open:
            self._open[number] = LabelFile(self.folder, self.manifest, self.manifest.files[number])
        return self._open[number]
