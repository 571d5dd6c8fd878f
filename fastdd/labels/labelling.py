"""Label views with one or several teachers, epoch by epoch.

A labelling batch is shown as its views say and every teacher sees it, whole or in parts; their logits are averaged. A
teacher in train mode normalizes by the statistics of what it sees, as released CIFAR scripts do; it works on a copy,
so the teacher itself is as it was. Cost: a forward pass a teacher and label.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..runtime.progress import progress
from ..runtime.seeds import derive
from ..teachers import Teacher
from .average import averaged
from .manifest import Facts
from .per_view import StoredLabels, begin
from .render import show
from .views import Views


def label_views(
    voters: Mapping[str, Teacher], images: Tensor, folder: Path, facts: Facts, name: str
) -> StoredLabels:
    """Write the labels that a folder lacks; how many bytes they take is said before.

    Args:
        voters: those who label, by name; they normalize alike.
        images: uint8 [N, C, H, W], on the device to label on.
        facts: what is to be written.
        name: of the set, for the progress.

    Raises:
        InputError: the folder holds other labels, the disk cannot hold these, or a teacher gives no finite numbers.
    """
    writer = begin(folder, facts)
    left = writer.left
    networks = {key: _in_mode(voter.network, facts.mode) for key, voter in voters.items()}
    prepare = next(iter(voters.values())).normalize
    with progress(f"label {name}", sum(len(facts.pool.rows(epoch)) for epoch in left)) as bar:
        if left:
            bar.line(f"{facts.pool.labels} labels in {facts.form}, {facts.bytes / 1e6:.1f} MB in {folder}")
        for epoch in left:
            views, logits = facts.drawn(epoch), []
            with torch.random.fork_rng():
                torch.manual_seed(derive(facts.seed, "labels", epoch))  # of dropout, in train mode
                for group in views.groups.unique().tolist():
                    shown = views.rows(views.groups == group)
                    logits.append(_label(networks, show(images, shown, prepare), shown, facts))
                    bar.advance(len(shown))
            writer.add(views, torch.cat(logits))
    return StoredLabels(folder, facts.images, facts.classes)


def _in_mode(network: nn.Module, mode: str) -> nn.Module:
    return network.eval() if mode == "eval" else copy.deepcopy(network).train()


@torch.no_grad()
def _label(networks: Mapping[str, nn.Module], batch: Tensor, views: Views, facts: Facts) -> Tensor:
    """Logits float32 [B, classes] of a labelling batch, on the CPU."""
    logits = []
    for key, network in networks.items():
        try:
            seen = torch.cat([network(part).float() for part in batch.tensor_split(facts.parts) if len(part)])
        except ValueError as error:  # torch's BatchNorm, of a single value a channel
            raise InputError(
                f"teacher {key} cannot label sample {int(views.ids[0])} in epoch {views.epoch} in {facts.mode} mode "
                f"({error}); use larger labelling batches"
            ) from error
        check_finite(seen, key, views.epoch, views.ids)
        logits.append(seen)
    return averaged(logits, facts.average).cpu()


def check_finite(logits: Tensor, teacher: str, epoch: int, ids: Tensor) -> None:
    """Refuse logits [B, classes] of the samples ``ids`` that are no finite numbers.

    Raises:
        InputError: which names the teacher, the epoch and the first such sample.
    """
    bad = ~logits.isfinite().all(1).cpu()
    if bad.any():
        raise InputError(
            f"teacher {teacher} gives logits that are not finite for sample {int(ids[bad][0])} in epoch {epoch} "
            f"({int(bad.sum())} of {len(bad)} in its batch); look for a teacher that does not fit the images"
        )
