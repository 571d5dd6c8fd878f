"""Export stored labels to the released FKD layout, and import them from it (fkd_files.py).

A released reader knows which samples a batch holds by its order: that of torch's RandomSampler with a
generator seeded with 42. Labels that were drawn with ``order: fkd`` are exported for such a reader; imported
ones get that order unless their files hold indices. The layout has windows as float32 fractions of the stored
image, and PIL rounds their corners to whole pixels, so whole pixels survive both ways unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..config import Labels
from ..config.validation import validated
from ..errors import InputError
from ..runtime.console import counted
from ..runtime.new_folders import new_folder
from ..runtime.progress import progress
from .encoding import LabelForm
from .fkd_files import Record, batch_path, list_batches, read_record, write_record
from .labelling import check_finite
from .manifest import LabelManifest, images_fingerprint
from .per_view import StoredLabels, begin_labels
from .plan import check_form
from .views import FKD_PERMUTATIONS, Augmentation, Views, fkd_orders, mix_in

NEAR = 1e-2
"""pixels by which a corner may miss a whole one; float32 fractions of 10,000 pixels miss by under 0.001"""
ENOUGH = 50
"""number of labels that tell a right order from chance"""
RELEASED = LabelForm()
"""how released files store logits"""


# -- export ----------------------------------------------------------------------------------------


def export_fkd(labels: StoredLabels, folder: Path, indices: bool = False) -> int:
    """Write labels in the released layout; returns the number of files.

    Args:
        folder: an absent or empty folder; it is written whole or not at all.
        indices: also write the samples' positions in the set, as G-VBSM and EDC do; then any order of labels
            will do.

    Raises:
        InputError: the layout cannot hold these labels, or the folder is not empty.
    """
    manifest, augmentation = labels.manifest, labels.manifest.augmentation
    if augmentation.order != "fkd" and not indices:
        raise InputError(
            f"labels {labels.folder} were made in an order of their own, which a released reader cannot "
            "know; label with labels.order=fkd, or export with indices for a reader that takes them"
        )
    if augmentation.pad or (augmentation.mix != "none" and augmentation.mix_per != "batch"):
        raise InputError(
            "FKD holds windows inside of the image and one ratio a batch; label with a crop by scale instead "
            "of pad, and with labels.mix_per=batch"
        )
    if manifest.choice != "first" and manifest.keep < 1:
        raise InputError("FKD numbers batches without gaps; label with labels.choice=first")
    files, count = 0, manifest.pool.labels
    with (
        new_folder(folder, count * (2 * manifest.classes + 25)) as written,
        progress("export fkd", count) as bar,
    ):
        for epoch in labels.epochs:
            whole = labels.views(epoch)
            for batch, group in enumerate(whole.groups.unique().tolist()):
                views, logits = labels.get(epoch, whole.ids[whole.groups == group])
                record = _to_record(views, logits, augmentation.size, indices=indices)
                write_record(batch_path(written, epoch, batch), record)
                files += 1
                bar.advance(len(views))
    return files


def _to_record(views: Views, logits: Tensor, size: tuple[int, int], *, indices: bool) -> Record:
    sides = torch.tensor([size[0], size[1], size[0], size[1]], dtype=torch.float64)
    fractions = (views.windows[:, 3:] / sides).float()
    return Record(
        windows=fractions,
        flips=views.windows[:, 0] != 0,
        partners=None if views.partners is None else views.find(views.partners),
        ratio=None if views.ratios is None else float(views.ratios[0]),
        box=None if views.boxes is None else tuple(views.boxes[0].tolist()),
        logits=logits,
        indices=views.ids if indices else None,
    )


# -- import ----------------------------------------------------------------------------------------


def import_fkd(
    source: Path,
    folder: Path,
    images: Tensor,
    classes: int,
    *,
    truth: Tensor | None = None,
    permutations: int = FKD_PERMUTATIONS,
    form: LabelForm = RELEASED,
) -> StoredLabels:
    """Read a folder of FKD files into stored labels; an import that was killed continues.

    Args:
        source: the folder that holds epoch_0.
        folder: where the labels are written, new or to be continued.
        images: uint8 [N, C, H, W], the images that were labelled, in the order of their files' names.
        truth: int64 [N], the class of each image; labels that do not fit it better than chance are refused.
            None: they are not compared.
        permutations: how many permutations the sampler drew an epoch; see views.fkd_orders.

    Raises:
        InputError: files are missing or damaged, hold more than tensors and numbers, or are of other images,
            another number of images or classes, or another order.
    """
    manifest = plan_import(
        source,
        (len(images), images.shape[2], images.shape[3]),
        images_fingerprint(images),
        classes,
        form=form,
    )
    counts, samples, batch = list_batches(source), len(images), manifest.augmentation.batch
    writer = begin_labels(folder, manifest)
    count = manifest.pool.labels
    missing = {epoch for epochs in writer.missing for epoch in epochs}
    with progress("import fkd", count) as bar:
        bar.line(f"{count} labels in {manifest.form}, {manifest.bytes / 1e6:.1f} MB in {folder}")
        for epoch, order in zip(range(len(counts)), fkd_orders(samples, permutations), strict=False):
            if epoch not in missing:
                continue
            parts = list(_read_epoch(source, epoch, order.split(batch)[: counts[epoch]], manifest))
            views = Views.concatenate([part for part, _ in parts])
            logits = torch.cat([part for _, part in parts])
            _require_distinct(source, views)
            if truth is not None:
                _check_order(source, truth, views, logits)
            writer.add(views, logits)
            bar.advance(len(views))
        writer.finish()
    return StoredLabels.open(folder, manifest.images, manifest.classes)


def plan_import(
    source: Path, shape: tuple[int, int, int], images: str, classes: int, form: LabelForm = RELEASED
) -> LabelManifest:
    """What an import will have. The files are counted, and the first ones read.

    Args:
        shape: number, height and width of the images that were labelled.
        classes, form: as for ``import_fkd``.

    Raises:
        InputError: as ``import_fkd``, as far as the first files tell.
    """
    _check_numbers(form, classes)
    counts, samples = list_batches(source), shape[0]
    first = read_record(batch_path(source, 0, 0))
    if first.logits.shape[1] != classes:
        raise InputError(
            f"{source} has logits of {counted(first.logits.shape[1], 'class')}, expected {classes}; give the "
            "set that was labelled"
        )
    batch, pruned = len(first.flips), _is_pruned(source, counts, len(first.flips), samples)
    keep = sum(counts) / (len(counts) * (samples // batch)) if pruned else 1.0
    if form.form == "lowrank" and pruned:
        raise InputError(
            f"{source} labels some views of each image, but form lowrank wants all; give another form"
        )
    asked = {"per": "view", "form": form.form, "rank": form.rank, "codes": form.codes}
    check_form(validated(Labels, asked, "the imported labels"), len(counts), classes)
    return LabelManifest(
        images=images,
        teachers=(),
        classes=classes,
        samples=samples,
        epochs=len(counts),
        augmentation=_augmentation(first, shape[1:]),
        keep=keep,
        views="stored",
        **asdict(form),
        mode="unknown",
        source="fkd",
    )


def _check_numbers(form: LabelForm, classes: int) -> None:
    """Refuse numbers that no label can have."""
    if classes < 1:
        raise InputError(f"labels of {classes} classes are not possible; expected at least 1")
    if form.form != "topk":
        return
    if not 1 <= form.k <= classes:
        raise InputError(f"topk keeps k classes of {classes}, got k {form.k}; give --k from 1 to {classes}")
    if not 0 < form.temperature < math.inf:
        raise InputError(
            f"topk is made for a temperature above 0, got {form.temperature:g}; give --temperature 20"
        )


def _augmentation(first: Record, size: tuple[int, int]) -> Augmentation:
    """How views were made, by the first batch of them and the height and width of the images."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    if first.partners is not None:
        mix = "mixup" if first.box is None else "cutmix"
    return Augmentation(size, mix=mix, batch=len(first.flips), order="fkd")


def _is_pruned(source: Path, counts: list[int], batch: int, samples: int) -> bool:
    """Whether the files are the first ones of LPLD's pruned labels, which have only full batches."""
    last = len(read_record(batch_path(source, 0, counts[0] - 1)).flips)
    found = batch * (counts[0] - 1) + last
    if found == samples and len(set(counts)) == 1:
        return False
    if last == batch and counts[0] == samples // batch and set(counts[:-1]) <= {counts[0]}:
        return True
    raise InputError(
        f"{source} labels {found} images an epoch in {counts[0]} batches of {batch}, but the set has "
        f"{samples}; give the set that was labelled"
    )


def _read_epoch(
    source: Path, epoch: int, batches: tuple[Tensor, ...], manifest: LabelManifest
) -> Iterator[tuple[Views, Tensor]]:
    """Yield the views and logits of each batch; ``batches`` are the samples where the files hold no
    indices."""
    for number, samples in enumerate(batches):
        path = batch_path(source, epoch, number)
        record = read_record(path)
        ids = samples if record.indices is None else record.indices
        if len(ids) != len(record.flips):
            raise InputError(
                f"{path} labels {counted(len(record.flips), 'image')}, expected {len(ids)}; give the set "
                "it is of"
            )
        if int(ids.min()) < 0 or int(ids.max()) >= manifest.samples:
            raise InputError(
                f"{path} labels image {int(ids.max())} of a set of {manifest.samples}; give the set it is of"
            )
        if record.logits.shape[1] != manifest.classes:
            raise InputError(
                f"{path} has logits of {counted(record.logits.shape[1], 'class')}, expected "
                f"{manifest.classes}; give "
                "the set that was labelled"
            )
        check_finite(record.logits, str(path), epoch, ids)
        views = _to_views(path, record, epoch=epoch, number=number, ids=ids, how=manifest.augmentation)
        yield views, record.logits.float()


def _to_views(
    path: Path, record: Record, *, epoch: int, number: int, ids: Tensor, how: Augmentation
) -> Views:
    """Turn a batch into views; windows' corners are rounded as PIL does."""
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
    views = Views(epoch=epoch, ids=ids, groups=torch.full_like(ids, number), pad=0, windows=windows)
    if record.partners is None:
        return views
    if (record.box is None) != (how.mix == "mixup"):
        raise InputError(f"{path} is mixed otherwise than the first batch; copy the FKD folder again")
    boxes = None if record.box is None else torch.tensor([record.box]).repeat(len(ids), 1)
    ratios = torch.tensor(record.ratio, dtype=torch.float64).repeat(len(ids))
    return mix_in(views, record.partners, ratios, boxes)


def _require_distinct(source: Path, views: Views) -> None:
    """Refuse an epoch that labels an image twice, so that others of the set would have no label."""
    counts = views.ids.bincount()
    if int(counts.max()) > 1:
        unlabelled = len(views) - int((counts > 0).sum())
        raise InputError(
            f"epoch {views.epoch} of {source} labels image {int(counts.argmax())} {int(counts.max())} times "
            f"and leaves {unlabelled} without a label, by the indices in its files; copy the FKD folder again"
        )


def _check_order(source: Path, truth: Tensor, views: Views, logits: Tensor) -> None:
    """Refuse an epoch of labels that do not fit their images better than other images.

    A label fits where its strongest class is that of its image or of the image's partner. Labels of the right
    order beat chance by more than three standard deviations.
    """
    partners = views.ids if views.partners is None else views.partners
    wanted, top = torch.stack((truth[views.ids], truth[partners])), logits.argmax(1)
    hits = int((wanted == top).any(0).sum())
    chance = int((wanted == top.roll(len(top) // 2)).any(0).sum())
    if len(top) < ENOUGH or hits - chance > 3 * math.sqrt(len(top) / 2):
        return
    raise InputError(
        f"the labels of epoch {views.epoch} of {source} fit the images no better than chance ({hits} of "
        f"{len(top)} against {chance}): they are of another set or order; give the set that was labelled, "
        "with --permutations 1 where an old version of torch wrote them"
    )
