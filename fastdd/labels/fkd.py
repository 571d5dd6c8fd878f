"""FKD labels in and out, in the released layout (fkd_files.py).

A released reader finds a batch by its order of samples: torch's RandomSampler with a generator seeded with 42. Labels
that were drawn with ``order: fkd`` are written out for it; those that come in get the same order, unless their files
hold indices. Windows come as float32 fractions of the stored image and PIL rounds their corners, so as whole pixels
they survive both ways unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.progress import progress
from .encoding import Form
from .fkd_files import Record, batch_path, list_batches, read_record, write_record
from .labelling import check_finite
from .manifest import Facts, fingerprint
from .per_view import StoredLabels, begin
from .views import FKD_PERMUTATIONS, Augmentation, Views, fkd_orders, mixed

NEAR = 1e-2
"""pixels that a corner may be off a whole one; float32 fractions of 10,000 pixels are off by less than 0.001"""
ENOUGH = 50
"""labels that tell an order from chance"""


# -- out -------------------------------------------------------------------------------------------


def export_fkd(labels: StoredLabels, folder: Path, indices: bool = False) -> int:
    """Write labels in the released layout; returns the number of files.

    Args:
        folder: new or empty.
        indices: also write the samples' places in the set, as G-VBSM and EDC do; any order of labels will do.

    Raises:
        InputError: the layout cannot hold these labels, or the folder holds something.
    """
    how = labels.facts.augmentation
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose a new folder")
    if how.order != "fkd" and not indices:
        raise InputError(
            f"labels {labels.folder} were made in an order of their own, which a released reader cannot know; label "
            "with labels.order=fkd, or export with indices for a reader that takes them"
        )
    if how.pad or (how.mix != "none" and how.mix_per != "batch"):
        raise InputError(
            "FKD holds windows inside of the image and one ratio a batch; label with a crop by scale instead of pad, "
            "and with labels.mix_per=batch"
        )
    if labels.facts.choice != "first" and labels.facts.keep < 1:
        raise InputError("FKD numbers batches without gaps; label with labels.choice=first")
    files = 0
    with progress("export fkd", labels.facts.pool.labels) as bar:
        for epoch in labels.epochs:
            whole = labels.views(epoch)
            for batch, group in enumerate(whole.groups.unique().tolist()):
                views, logits = labels.get(epoch, whole.ids[whole.groups == group])
                write_record(batch_path(folder, epoch, batch), _to_record(views, logits, how.size, indices))
                files += 1
                bar.advance(len(views))
    return files


def _to_record(views: Views, logits: Tensor, size: tuple[int, int], indices: bool) -> Record:
    sides = torch.tensor([size[0], size[1], size[0], size[1]], dtype=torch.float64)
    fractions = (views.windows[:, 3:] / sides).float()
    partners = None if views.partners is None else views.find(views.partners)
    ratio = None if views.ratios is None else float(views.ratios[0])
    box = None if views.boxes is None else tuple(views.boxes[0].tolist())
    ids = views.ids if indices else None
    return Record(fractions, views.windows[:, 0] != 0, partners, ratio, box, logits, ids)


# -- in --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Foreign:
    """What a folder of FKD files is to be read as.

    Args:
        images: uint8 [N, C, H, W] that were labelled, in the order of their files' names.
        classes: of a label.
        truth: int64 [N], the class of each image; the labels are compared with it.
        permutations: see views.fkd_orders.
    """

    images: Tensor
    classes: int
    truth: Tensor | None = None
    permutations: int = FKD_PERMUTATIONS


def import_fkd(
    source: Path, folder: Path, foreign: Foreign, form: Form = "fp16", k: int = 10, temperature: float = 20.0
) -> StoredLabels:
    """Read a folder of FKD files into stored labels; an import that was killed continues.

    Args:
        form, k, temperature: see forms.encode.

    Raises:
        InputError: files are missing or damaged, hold more than tensors and numbers, or are of other images, another
            number of images or classes, or another order.
    """
    counts, samples, size = list_batches(source), len(foreign.images), foreign.images.shape[2:]
    first = read_record(batch_path(source, 0, 0))
    batch, pruned = len(first.flips), _pruned(source, counts, len(first.flips), samples)
    keep = sum(counts) / (len(counts) * (samples // batch)) if pruned else 1.0
    mix: Literal["none", "mixup", "cutmix"] = "none"
    if first.partners is not None:
        mix = "mixup" if first.box is None else "cutmix"
    how = Augmentation((size[0], size[1]), mix=mix, batch=batch, order="fkd")
    facts = Facts(
        fingerprint(foreign.images),
        (),
        foreign.classes,
        samples,
        len(counts),
        how,
        keep=keep,
        views="stored",
        form=form,
        k=k,
        temperature=temperature,
        mode="unknown",
        source="fkd",
    )
    writer = begin(folder, facts)
    with progress("import fkd", facts.pool.labels) as bar:
        bar.line(f"{facts.pool.labels} labels in {facts.form}, {facts.bytes / 1e6:.1f} MB in {folder}")
        for epoch, order in zip(range(len(counts)), fkd_orders(samples, foreign.permutations), strict=False):
            if epoch not in writer.left:
                continue
            parts = list(_batches(source, epoch, counts[epoch], order.split(batch), facts))
            views = _joined([part for part, _ in parts])
            logits = torch.cat([part for _, part in parts])
            if foreign.truth is not None:
                _check_order(source, foreign.truth, views, logits)
            writer.add(views, logits)
            bar.advance(len(views))
    return StoredLabels(folder, facts.images, facts.classes)


def _pruned(source: Path, counts: list[int], batch: int, samples: int) -> bool:
    """Whether the files are the first ones of LPLD's pruned generation, which has full batches alone."""
    last = len(read_record(batch_path(source, 0, counts[0] - 1)).flips)
    found = batch * (counts[0] - 1) + last
    if found == samples and len(set(counts)) == 1:
        return False
    if last == batch and counts[0] == samples // batch and set(counts[:-1]) <= {counts[0]}:
        return True
    raise InputError(
        f"{source} labels {found} images an epoch in {counts[0]} batches of {batch}, but the set has {samples}; give "
        "the set that was labelled"
    )


def _batches(
    source: Path, epoch: int, count: int, order: tuple[Tensor, ...], facts: Facts
) -> Iterator[tuple[Views, Tensor]]:
    for b in range(count):
        path = batch_path(source, epoch, b)
        record = read_record(path)
        ids = order[b] if record.indices is None else record.indices
        if len(ids) != len(record.flips):
            raise InputError(
                f"{path} labels {len(record.flips)} images, expected {len(ids)}; give the set it is of"
            )
        if int(ids.min()) < 0 or int(ids.max()) >= facts.samples:
            raise InputError(
                f"{path} labels image {int(ids.max())} of a set of {facts.samples}; give the set it is of"
            )
        if record.logits.shape[1] != facts.classes:
            raise InputError(
                f"{path} has logits of {record.logits.shape[1]} classes, expected {facts.classes}; give the set that "
                "was labelled"
            )
        check_finite(record.logits, str(path), epoch, ids)
        yield _to_views(path, epoch, b, ids, record, facts.augmentation), record.logits.float()


def _to_views(path: Path, epoch: int, number: int, ids: Tensor, record: Record, how: Augmentation) -> Views:
    """Views of a batch; corners are rounded as PIL does."""
    height, width = how.size
    top, left, h, w = (record.windows.double() * torch.tensor([height, width, height, width])).unbind(1)
    corners = torch.stack((top, left, top + h, left + w), dim=1)
    whole = corners.round()
    inside = (whole[:, :2] >= 0) & (whole[:, :2] < whole[:, 2:]) & (whole[:, 2:] <= torch.tensor(how.size))
    if bool(((corners - whole).abs() > NEAR).any()) or not bool(inside.all()):
        raise InputError(
            f"{path} has windows of images of another size than {height} x {width}; give the set it is of"
        )
    flips, windows = record.flips.long(), whole.long()
    zero = torch.zeros_like(flips)
    shape = windows[:, 2:] - windows[:, :2]
    windows = torch.cat((torch.stack((flips, zero, zero), dim=1), windows[:, :2], shape), dim=1)
    views = Views(epoch, ids, torch.full_like(ids, number), 0, windows)
    if record.partners is None:
        return views
    if (record.box is None) != (how.mix == "mixup"):
        raise InputError(f"{path} is mixed otherwise than the first batch; copy the FKD folder again")
    boxes = None if record.box is None else torch.tensor([record.box]).repeat(len(ids), 1)
    return mixed(
        views, record.partners, torch.tensor(record.ratio, dtype=torch.float64).repeat(len(ids)), boxes
    )


def _joined(parts: list[Views]) -> Views:
    """Views of one epoch, one after the other."""

    def all_of(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    names = ("ids", "groups", "windows", "partners", "partner_windows", "ratios", "boxes")
    return Views(epoch=parts[0].epoch, pad=parts[0].pad, **{name: all_of(name) for name in names})  # type: ignore[arg-type]


def _check_order(source: Path, truth: Tensor, views: Views, logits: Tensor) -> None:
    """Refuse an epoch of labels that fit their images no better than others, by three standard deviations.

    A label fits where its strongest class is that of its image or of the image's partner.
    """
    partners = views.ids if views.partners is None else views.partners
    wanted, top = torch.stack((truth[views.ids], truth[partners])), logits.argmax(1)
    hits, chance = (int((wanted == dealt).any(0).sum()) for dealt in (top, top.roll(len(top) // 2)))
    if len(top) < ENOUGH or hits - chance > 3 * math.sqrt(len(top) / 2):
        return
    raise InputError(
        f"the labels of epoch {views.epoch} of {source} fit the images no better than chance ({hits} of {len(top)} "
        f"against {chance}): they are of another set or order; give the set that was labelled, with --permutations 1 "
        "where an old version of torch wrote them"
    )
