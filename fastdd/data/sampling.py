"""Seeded choices of real images."""

from __future__ import annotations

import math
from itertools import accumulate

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.console import counted
from ..runtime.seeds import derive
from .dataset import Dataset


def real_sample(dataset: Dataset, per_class: int, seed: int) -> Tensor:
    """Draw real images without replacement, the same number of each class.

    A smaller per_class with the same seed draws a prefix of each class's sample, so that 1, 10 and 50 images
    a class are nested.

    Returns:
        int64 [classes * per_class] indices, class 0 first.

    Raises:
        InputError: a class holds fewer than per_class images.
    """
    if per_class < 1:
        raise InputError(f"{counted(per_class, 'image')} per class is too few; expected at least 1")
    for name, count in zip(dataset.classes, dataset.counts, strict=True):
        if per_class > count:
            raise InputError(
                f"class {name!r} holds {counted(count, 'image')} of {dataset.split}, fewer than the "
                f"{per_class} "
                f"asked for; set ipc to {min(dataset.counts)} or less"
            )
    generator = torch.Generator().manual_seed(seed)
    first = 0
    drawn = []
    for count in dataset.counts:
        # A whole permutation whatever per_class is: this is what makes the samples nested.
        drawn.append(first + torch.randperm(count, generator=generator)[:per_class])
        first += count
    return torch.cat(drawn)


def sample_of_classes(dataset: Dataset, classes: int, per_class: int, seed: int) -> Tensor:
    """Draw some classes, and real images of each without replacement.

    Args:
        classes: most classes that are drawn.
        per_class: most images of a class; a class with fewer gives all of them.

    Returns:
        int64 indices in class order, those of a class ascending.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = [0, *accumulate(dataset.counts)]
    drawn = []
    for chosen in torch.randperm(len(dataset.classes), generator=generator)[:classes].sort().values.tolist():
        order = torch.randperm(dataset.counts[chosen], generator=generator)
        drawn.append(starts[chosen] + order[:per_class].sort().values)
    return torch.cat(drawn)


def proportional_sample(dataset: Dataset, wanted: int, seed: int) -> Tensor:
    """Draw real images without replacement, as many of each class as is its share of the split.

    Args:
        wanted: images in all, at least 1.

    Returns:
        int64 indices in class order. Shares are rounded up, so there are at least ``wanted`` of them, and
        less than one a class more; all images where the split has no more.
    """
    generator = torch.Generator().manual_seed(seed)
    first = 0
    drawn = []
    for count in dataset.counts:
        share = min(count, math.ceil(count * wanted / len(dataset)))
        drawn.append(first + torch.randperm(count, generator=generator)[:share].sort().values)
        first += count
    return torch.cat(drawn)


def with_validation(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Withhold a share of each class's images for choices.

    A class of n images gives round(share n), and at least one of its images stays. Which ones depends on the
    seed and on the class alone.

    Args:
        share: above 0 and below 1.

    Returns:
        The training split without them, and the split ``validation``.

    Raises:
        InputError: no class gives an image.
    """
    first = 0
    taken: list[int] = []
    for label, count in enumerate(dataset.counts):
        order = torch.randperm(
            count, generator=torch.Generator().manual_seed(derive(seed, "validation", label))
        )
        wanted = min(round(share * count), count - 1)
        taken += (first + order[:wanted].sort().values).tolist()
        first += count
    if not taken:
        most = max(dataset.counts)
        raise InputError(
            f"data.validation {share:g} takes no image: the largest class has {counted(most, 'image')}, of "
            + (
                f"which it takes round({share:g} x {most}) = 0; set it to {1 / most:.2g} or more, or to null"
                if most > 1
                else "which at least one stays; set it to null"
            )
        )
    withheld = set(taken)
    kept = [index for index in range(len(dataset)) if index not in withheld]
    return dataset.part(kept, "train"), dataset.part(taken, "validation")
