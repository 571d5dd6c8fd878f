"""Finished sets as arms of a run: anybody's images, which are taken as they are.

What an arm with ``given`` is made of is opened and checked here; given_stage.py copies it into a run folder.
Cost: every image is decoded once for each time that the set is checked, in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .. import labels
from ..config import BatchSize, Given, Method, Recipe, Save, Terms
from ..data.real_data import RealData
from ..distilled import ListedSet, list_set
from ..distilled.layouts import list_image_files
from ..errors import InputError
from ..run_folder import RunFolder
from ..runtime.console import counted

JPEG = b"\xff\xd8"
"""what the bytes of a JPEG begin with"""
PUT_BACK = "put back the file that the run wrote, or move it away, and the teacher labels the set"
"""what to do about soft labels of a judged run that cannot be used"""
CHUNK = 256
"""images that are decoded together"""


@dataclass(frozen=True)
class OpenSet:
    """A finished set, with classes in the order of the real images. Its images are never all in memory.

    Attributes:
        labels: int64 [N], their classes.
        logits: its soft labels, float16 [N, classes], with columns in the same order; None: it has none of
            single images.
        counts: stored images of each class.
        known: fingerprints that were taken, by the number of stored images of each class.
    """

    set: ListedSet
    labels: Tensor
    logits: Tensor | None
    counts: list[int]
    known: dict[int, str] = field(default_factory=dict)

    def rows(self, ipc: int) -> Tensor:
        """Positions of the images that the first ``ipc`` stored images of each class hold, class after
        class."""
        seen = ipc * self.set.per_file
        order = self.labels.argsort(stable=True)
        starts = [0, *torch.tensor(self.counts).mul(self.set.per_file).cumsum(0).tolist()]
        return torch.cat([order[start : start + seen] for start in starts[:-1]])

    def fingerprint(self, ipc: int) -> str:
        """sha256 of these images and of their soft labels."""
        digest = hashlib.sha256(self.images_fingerprint(ipc).encode())
        if self.logits is not None:
            digest.update(self.logits[self.rows(ipc)].numpy().data)
        return digest.hexdigest()

    def images_fingerprint(self, ipc: int) -> str:
        """The fingerprint of these images alone, as labels note it; each is decoded once."""
        if ipc not in self.known:
            self.known[ipc] = _fingerprint(self.set, self.rows(ipc))
        return self.known[ipc]

    def files(self, ipc: int) -> Iterator[tuple[int, int, bytes]]:
        """(class, number within the class, encoded bytes) of the first ``ipc`` files of each class."""
        found, taken = list_image_files(self.set.path), [0] * len(self.counts)
        for entry, c in zip(found.files, self.labels[:: self.set.per_file].tolist(), strict=True):
            if taken[c] < ipc:
                yield c, taken[c], bytes(found.read(entry))
            taken[c] += 1

    def format(self, ipc: int) -> Literal["png", "jpeg"]:
        """jpeg where all files are JPEGs; else png."""
        return "jpeg" if all(content.startswith(JPEG) for _, _, content in self.files(ipc)) else "png"

    def method(self, ipc: int, title: str, path: str, arm: str | None) -> Method:
        """The method of an arm that takes ``ipc`` stored images of each class; path and arm say whence."""
        return Method(
            title=title,
            init="real",
            batch=BatchSize(slots="all"),
            terms=Terms.none(),
            steps=0,
            formation=None if self.set.source is None else self.set.source.method.formation,
            save=Save(format=self.format(ipc)),
            given=Given(
                path=path, arm=arm, fingerprint=self.fingerprint(ipc), labels=self.logits is not None
            ),
        )


def open_given(path: Path, arm: str | None, classes: Sequence[str], channels: int) -> OpenSet:
    """Open a finished set, and check it as far as it can be checked by itself.

    Args:
        path: a run's folder, or a set in any layout.
        arm: which arm of a run; None: the set is no run's.

    Raises:
        InputError: it cannot be read, has other classes than the real images or none of some, or its soft
            labels do not fit.
    """
    found = list_set(path, arm, channels=channels)
    if len(found.classes) > len(classes):
        raise InputError(
            f"{path} has {counted(len(found.classes), 'class')}, but the teacher knows {len(classes)}; give "
            "a teacher and real images of these classes"
        )
    places = found.classes_of(classes)
    counts = (places.bincount(minlength=len(classes)) // found.per_file).tolist()
    if 0 in counts:
        lacking = [name for name, count in zip(classes, counts, strict=True) if not count]
        raise InputError(
            f"{path} has no images of {len(lacking)} of the {len(classes)} real classes, such as "
            f"{lacking[0]!r}; a set is judged on all classes: give one that has them, or the real images of "
            "its classes alone"
        )
    return OpenSet(found, places, _soft_labels(found, places, path), counts)


def _fingerprint(found: ListedSet, rows: Tensor) -> str:
    """``labels.images_fingerprint`` of some images of a set."""
    return labels.fingerprint_of_parts((len(rows), *found.shape), found.batches(CHUNK, rows))


def _soft_labels(found: ListedSet, places: Tensor, path: Path) -> Tensor | None:
    """The soft labels of single images that a set holds, with columns in the order of the real classes."""
    logits, names = found.logits, found.classes
    if (source := found.source) is not None:
        file = source.folder.labels(source.arm, "image")
        if file.is_file():
            images = _fingerprint(found, torch.arange(len(found)))
            logits = labels.load_labels_of(file, len(found), images, len(names), PUT_BACK).half()
        names = names if source.splits is None else source.splits[0].classes
    if logits is None:
        return None
    if logits.shape[1] != len(names):
        raise InputError(
            f"{path} has soft labels of {counted(logits.shape[1], 'class')}, but images of {len(names)}; "
            "export the set again, or take its labels away and the teacher labels it"
        )
    place_of = dict(zip(found.labels.tolist(), places.tolist(), strict=True))
    own = [place_of[found.classes.index(name)] for name in names]
    ordered = torch.empty_like(logits)
    ordered[:, own] = logits
    return ordered


def check_given(recipe: Recipe, real: RealData, out: Path, *, fresh: bool) -> None:
    """Refuse arms whose sets are not there, not as they were or not of the real images' size. Sets that the
    run folder has taken already are not looked for."""
    for arm, method in recipe.arms.items():
        if method.given is None or (RunFolder(out).unit(arm, 0).is_file() and not fresh):
            continue
        found, path = reopen(method.given, real), method.given.path
        theirs, ours = found.set.shape, real.shape
        if theirs != ours:
            here, there = (" x ".join(map(str, shape)) for shape in (theirs, ours))
            raise InputError(
                f"the images of {path} are {here} and the real ones {there}; give --data the same images, at "
                "the same size"
            )
        if min(found.counts) < recipe.ipc:
            raise InputError(
                f"{path} has {counted(min(found.counts), 'image')} of a class, but ipc is {recipe.ipc}; set "
                f"ipc to {min(found.counts)} or less"
            )
        require_same(found, method.given, recipe.ipc)


def reopen(given: Given, real: RealData) -> OpenSet:
    """The set that an arm takes, for the real images of its run."""
    return open_given(Path(given.path), given.arm, real.classes, real.shape[0])


def require_same(found: OpenSet, given: Given, ipc: int) -> None:
    """Refuse a set that is another than when the run was begun."""
    if (now := found.fingerprint(ipc)) != given.fingerprint:
        raise InputError(
            f"{given.path} has changed: the fingerprint of its images and soft labels is {now[:12]}, not "
            f"{given.fingerprint[:12]}; put them back, or judge the set anew in another folder with --out"
        )
