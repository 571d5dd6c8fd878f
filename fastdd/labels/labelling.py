"""Label views with one or several teachers, epoch by epoch.

A labelling batch is rendered as its views say, and every teacher sees it, whole or in parts. Several
teachers' logits z_m become one label (G-VBSM):

    mean    sum_m z_m / M
    norm    sum_m z_m (s / |z_m|_F) / M,    s = sum_m |z_m|_F / M,    |.|_F over the labelling batch

With ``norm``, a teacher whose logits are large does not outvote the others. A teacher in train mode
normalizes by the statistics of what it sees, as released CIFAR scripts do; a copy of it labels, so that the
teacher itself does not change. Cost: a forward pass a teacher and label. The processes of torchrun take files
of epochs from one queue.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.build import as_input
from ..runtime.distributed import barrier, claims, from_main, is_main
from ..runtime.precision import float32_products
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers import Teacher
from .files import LabelWriter
from .manifest import Averaging, LabelManifest
from .per_view import StoredLabels, begin_labels
from .render import render_views
from .views import Views


@float32_products("fp32")
def label_views(
    teachers: Mapping[str, Teacher],
    images: Tensor,
    folder: Path,
    manifest: LabelManifest,
    *,
    name: str,
    views_of: Callable[[int], Views] | None = None,
) -> StoredLabels:
    """Write the labels that a folder lacks, and announce first how many bytes they take; all processes come
    together.

    Args:
        teachers: the networks that label, by name; all normalize images alike.
        images: uint8 [N, C, H, W], on the device to label on.
        name: what the progress bar calls the set.
        views_of: gives the views of a labelled epoch; None: they are drawn from the seed.

    Raises:
        InputError: the folder holds other labels, the disk cannot hold these, or a teacher's logits are not
            finite.
    """
    writer = begin_labels(folder, manifest) if is_main() else LabelWriter(folder, manifest)
    networks = {key: _in_mode(teacher.network, manifest.mode) for key, teacher in teachers.items()}
    normalize = next(iter(teachers.values())).normalize
    files, pool = from_main(lambda: writer.missing), manifest.pool
    with progress(f"label {name}", sum(len(pool.rows(epoch)) for file in files for epoch in file)) as bar:
        if files:
            bar.line(f"{pool.labels} labels in {manifest.form}, {manifest.bytes / 1e6:.1f} MB in {folder}")
        for number in claims(f"labels/{folder}", len(files)):
            for epoch in files[number]:
                views, logits = (views_of or manifest.draw)(epoch), []
                with torch.random.fork_rng():
                    torch.manual_seed(derive(manifest.seed, "labels", epoch))  # for dropout, in train mode
                    for group in views.groups.unique().tolist():
                        batch = views.select(views.groups == group)
                        pixels = render_views(images, batch, normalize)
                        logits.append(_label(networks, pixels, batch, manifest))
                        bar.advance(len(batch))
                writer.add(views, torch.cat(logits))
        barrier()
        if is_main():
            writer.finish()
        barrier()
    return StoredLabels.open(folder, manifest.images, manifest.classes)


def _in_mode(network: nn.Module, mode: str) -> nn.Module:
    return network.eval() if mode == "eval" else copy.deepcopy(network).train()


@torch.no_grad()
def _label(
    networks: Mapping[str, nn.Module], pixels: Tensor, views: Views, manifest: LabelManifest
) -> Tensor:
    """Logits float32 [B, classes] of a labelling batch, on the CPU."""
    logits = []
    for key, network in networks.items():
        parts = [part for part in pixels.tensor_split(manifest.parts) if len(part)]
        try:
            given = torch.cat([network(as_input(part, network)).float() for part in parts])
        except ValueError as error:  # torch's BatchNorm, of a single value a channel
            raise InputError(
                f"teacher {key} cannot label sample {int(views.ids[0])} in epoch {views.epoch} in "
                f"{manifest.mode} mode ({error}); use larger labelling batches"
            ) from error
        check_finite(given, key, views.epoch, views.ids)
        logits.append(given)
    return average_logits(logits, manifest.average).cpu()


class MeanLogits(nn.Module):
    """Several teachers as one network, for labels that are not stored: the average of their logits."""

    def __init__(self, networks: Iterable[nn.Module], averaging: Averaging) -> None:
        super().__init__()
        self.networks, self.averaging = nn.ModuleList(networks), averaging

    def forward(self, images: Tensor) -> Tensor:
        return average_logits([network(images) for network in self.networks], self.averaging)


def average_logits(logits: list[Tensor], averaging: Averaging) -> Tensor:
    """Average the logits [B, C] of one or several teachers on a labelling batch (see above)."""
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(logits)
    if averaging == "norm":
        size = torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True)
        stacked = stacked * (size.mean() / size.clamp(min=torch.finfo(size.dtype).tiny))
    return stacked.mean(0)


def check_finite(logits: Tensor, teacher: str, epoch: int, ids: Tensor) -> None:
    """Refuse labels that are not finite."""
    bad = ~logits.isfinite().all(1).cpu()
    if bad.any():
        raise InputError(
            f"teacher {teacher} gives logits that are not finite for sample {int(ids[bad][0])} in epoch "
            f"{epoch} ({int(bad.sum())} of {len(bad)} in its batch); look for a teacher that does not fit "
            "the images"
        )
