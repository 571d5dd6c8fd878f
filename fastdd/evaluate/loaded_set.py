"""A distilled set as a torch Dataset, for training loops of one's own: ``fastdd.load(PATH)``.

data = fastdd.load("runs/digits", arm="deda")
for images, labels in DataLoader(data, 64, shuffle=True): ...
for images, logits in data.views(epoch): ...          # the views that students of the run saw
for images, logits, shares in data.views(epoch, shares=True): ...    # with the classes that are mixed in each
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, overload

import torch
import torch.utils.data
from torch import Tensor

from ..config import Labels
from ..distilled import DistilledSet, RunSource, open_set
from ..errors import InputError, refusals_explained, suggestion
from ..labels import StoredLabels, images_fingerprint, load_labels, render_views
from ..runtime.hub import download_named
from ..teachers.weights import read_weights
from .batches import class_shares


class LoadedSet(torch.utils.data.Dataset[Any]):
    """The images of a distilled set, with their classes and, where it has them, soft labels.

    An item is (image, class) or, with ``soft``, (image, class, logits): uint8 [C, H, W] or what ``transform``
    makes of it, int, and float32 [classes].

    Attributes:
        images: uint8 [N, C, H, W], class after class; of a formation the unpacked images.
        labels: int64 [N], the classes.
        classes: their names.
        logits: the teacher's logits of each image as it is, float32 [N, classes]; None: none are stored.
        mean, std: constants by which its students normalize images in [0, 1]; None: the set is no run's.
    """

    def __init__(
        self, distilled: DistilledSet, *, soft: bool, transform: Callable[[Tensor], Any] | None
    ) -> None:
        self._distilled, self._transform, self._soft = distilled, transform, soft
        self.images, self.labels, self.classes = distilled.images, distilled.labels, distilled.classes
        self.logits = _logits(distilled)
        self.mean, self.std = _normalization(distilled.source)
        if soft and self.logits is None:
            raise InputError(
                f"{distilled.path} has no soft labels of whole images; leave soft=True out, or store "
                "some with `fastdd label RECIPE labels.per=image`"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = self.images[index]
        item = (image if self._transform is None else self._transform(image), int(self.labels[index]))
        return (*item, self.logits[index]) if self._soft and self.logits is not None else item

    def __repr__(self) -> str:
        N, C, H, W = self.images.shape
        path = str(self._distilled.path)
        return f"LoadedSet({N} images of {len(self.classes)} classes, {C} x {H} x {W}, {path!r})"

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images [N, C, H, W] as students take them: float32, by ``mean`` and ``std``.

        Raises:
            InputError: the set is no run's, so that these are not known.
        """
        if self.mean is None or self.std is None:
            raise InputError(
                f"{self._distilled.path} is no run, which would say how images are normalized; normalize "
                "them as your teacher takes them"
            )
        mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

    @overload
    def views(
        self,
        epoch: int,
        *,
        student: str = "",
        batch: int | None = None,
        seed: int = 0,
        shares: Literal[False] = False,
    ) -> Iterator[tuple[Tensor, Tensor]]: ...

    @overload
    def views(
        self, epoch: int, *, student: str = "", batch: int | None = None, seed: int = 0, shares: Literal[True]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]: ...

    def views(
        self, epoch: int, *, student: str = "", batch: int | None = None, seed: int = 0, shares: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]] | Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of an epoch of training as the run's students see them, with their stored labels.

        Every view is drawn again as it was labelled: cropped, flipped and mixed. ``labels.replay`` of the run
        says which views an epoch has; after the last labelled epoch the first one follows again.

        Args:
            epoch: number of the epoch, from 0.
            student: name of the further kind of students whose own labels (``student_labels``) are meant;
                empty: those of the section ``labels``.
            batch: images a batch, for ``labels.replay: shuffle``; None: as many as were labelled together.
            seed: seed of the order.
            shares: also give the shares of the classes in each view, which losses such as GIFT's take
                (``fastdd.losses.distillation(..., class_shares=shares)``).

        Returns:
            An iterator of normalized images, float32 [B, C, H, W], logits, float32 [B, classes], and with
            ``shares`` the shares of the classes, float32 [B, classes]: 1 for the image's own, or the ratio of
            the mixture for it and the rest for that of the image which was mixed in.

        Raises:
            InputError: the set has no labels of views, or they are of other images; or an argument is of the
                wrong type or out of range.
        """
        for name, value, least in (("epoch", epoch, 0), ("batch", batch, 1), ("seed", seed, 0)):
            if not (name == "batch" and value is None):
                _require_integer(name, value, least)
        stored, labels = self._views_of(student)

        def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for labelled, ids in stored.batches(epoch, seed, labels.replay, batch):
                views, logits = stored.get(labelled, ids)
                of_classes = class_shares(views, self.labels, stored.manifest.classes)
                yield render_views(self.images, views, self.normalize), logits, of_classes

        return batches() if shares else ((images, logits) for images, logits, _ in batches())

    def _views_of(self, student: str) -> tuple[StoredLabels, Labels]:
        source = self._distilled.source
        if source is None:
            raise InputError(
                f"{self._distilled.path} is no run, so it has no labels of views; give the run's folder"
            )
        own = source.recipe.student_labels
        if student and student not in own:
            near, there = suggestion(str(student), own), ", ".join(map(repr, own)) or "none"
            raise InputError(
                f"{self._distilled.path} has no student_labels of {student!r}{near}; it has {there}, and "
                "student='' takes those of the section labels"
            )
        path = source.folder.labels(source.arm, "view", student)
        labels = source.recipe.labels_of(student)
        return StoredLabels.open(path, images_fingerprint(self.images)), labels


@refusals_explained()
def load(
    path: str | Path,
    arm: str | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
    soft: bool = False,
    transform: Callable[[Tensor], Any] | None = None,
    download: bool = False,
) -> LoadedSet:
    """Read a distilled set; see ``fastdd.load``."""
    for name, given, types, expected in (
        ("path", path, str | Path, "a folder as a text or a Path"),
        ("arm", arm, str | None, "the name of an arm as a text"),
    ):
        if not isinstance(given, types):
            raise InputError(f"{name} is a {type(given).__name__}, expected {expected}")
    if not str(path):
        raise InputError("path is an empty text, expected a folder")
    for name, side in (("size", size), ("channels", channels)):
        if side is not None:
            _require_integer(name, side, 1)
    if download:
        download_named([path])
    distilled = open_set(path, arm, size=size, channels=_channels(path, channels))
    return LoadedSet(distilled, soft=soft, transform=transform)


def _require_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} is {value!r}, expected an integer of {least} or more")


def _channels(path: str | Path, channels: int | None) -> int:
    """The channels that are asked for, else those of the run's students."""
    from ..distilled.runs import run_of
    from ..run_folder import read_recipe

    found = run_of(Path(path))
    return channels or (3 if found is None else read_recipe(found[0]).data.channels)


def _logits(distilled: DistilledSet) -> Tensor | None:
    """Logits of whole images, float32 [N, classes]: of an export, or of a run that stored some."""
    source = distilled.source
    if source is None:
        return None if distilled.logits is None else distilled.logits.float()
    path = source.folder.labels(source.arm, "image")
    return load_labels(path, distilled.images, len(distilled.classes)) if path.is_file() else None


def _normalization(source: RunSource | None) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    card = None if source is None else read_weights("teacher", source.folder.teacher()).card
    return (None, None) if card is None else (card.mean, card.std)
