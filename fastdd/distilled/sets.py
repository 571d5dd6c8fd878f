"""A distilled set: pixels, labels, class names, and where it comes from; in memory, or decoded in parts.

Cost: each image is decoded once, on all processors. A set in memory takes N C H W bytes, one that is decoded
in parts those of a part.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..config.base import LARGEST_SIDE
from ..data.sources.tree import some
from ..errors import InputError, refusals_explained, suggestion
from ..runtime.console import counted
from ..runtime.hub import local_folder
from ..runtime.progress import progress
from .decoding import as_shown, decode_file, decode_files
from .formation import unpack
from .images import ONE_A_FILE, Storage
from .layouts import ImageFiles, list_image_files, set_name
from .runs import RunSource, arm_of, read_source, run_of


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What a distilled set is called, and its classes; the attributes are those of ListedSet."""

    labels: Tensor
    classes: tuple[str, ...]
    path: Path
    source: RunSource | None
    numbered: bool = False
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def classes_of(self, real: Sequence[str]) -> Tensor:
        """Labels in the order of a real set's classes.

        Classes are the same if their names are equal, or, where all names of this set are numbers, by number;
        in the released layout always by number. Where folders such as ``10`` could mean either, they are
        taken as names, and stderr says so. It also names the classes of which the set has no images.

        Args:
            real: class names of the real set; the distilled set may have fewer.

        Returns:
            The labels, int64 [N].

        Raises:
            InputError: the real set lacks a class of this set; the first such class is shown.
        """
        place = {name: c for c, name in enumerate(real)}
        names_fit = not self.numbered and all(name in place for name in self.classes)
        numbers_fit = all(name.isdecimal() and int(name) < len(real) for name in self.classes)
        numbers = [int(name) for name in self.classes] if numbers_fit else []
        if names_fit:
            order = [place[name] for name in self.classes]
            if numbers_fit and numbers != order and self.source is None:
                c = next(c for c, number in enumerate(numbers) if number != order[c])
                name = self.classes[c]
                print(
                    f"{self.path}: folder {name!r} is taken as the class of that name, which is number "
                    f"{order[c]} of the real classes; if class numbers are meant, name it new{name}/"
                    f"class{name}_id000.jpg, as released sets are",
                    file=sys.stderr,
                )
        elif numbers_fit:
            order = numbers
        else:
            raise self._other_classes(real)
        if len(set(order)) < len(order):
            raise InputError(
                f"{str(self.path)!r}: two of the classes {some(self.classes)} are the same number; "
                "rename one of their folders"
            )
        if lacking := [name for c, name in enumerate(real) if c not in order]:
            print(
                f"{self.path}: has images of {len(order)} of the {len(real)} real classes, none of "
                f"{some(lacking)}",
                file=sys.stderr,
            )
        return torch.tensor(order, dtype=torch.int64)[self.labels]

    def _other_classes(self, real: Sequence[str]) -> InputError:
        if all(name.isdecimal() for name in self.classes):
            name = next(name for name in self.classes if int(name) >= len(real))
            found = f"class {name} of the set is beyond the {len(real)} classes of the real set"
        else:
            c, name = next((c, name) for c, name in enumerate(self.classes) if name not in set(real))
            theirs = (
                f"its class {c} is {real[c]!r}" if c < len(real) else f"it has {counted(len(real), 'class')}"
            )
            found = f"class {c} of the set is {name!r}, which the real set lacks ({theirs})"
        return InputError(
            f"{str(self.path)!r} has other classes than the real set: {found}; name the folders as the "
            "real set does, or by class number"
        )


@dataclass(frozen=True, kw_only=True)
class DistilledSet(_Named):
    """Images of a distilled set, class after class.

    Attributes:
        images: uint8 [N, C, H, W], on the CPU.
        labels, classes, path, source, numbered, logits: as those of ListedSet.
        ids: path of each image below ``path``; with a formation its place in the file follows, as in
            3/00001.png#2.
        storage: how they lie in files; several in one with a formation (formation.py).
    """

    images: Tensor
    ids: tuple[str, ...]
    storage: Storage = ONE_A_FILE


@dataclass(frozen=True, kw_only=True)
class ListedSet(_Named):
    """A distilled set whose images are decoded when they are asked for, class after class.

    Attributes:
        labels: int64 [N], the place of each image's class among ``classes``.
        classes: names of the class folders; in the released layout the class numbers, "0", "1", ...
        path: the folder that holds the class folders.
        source: the run that the set comes from; None: the set is no run's.
        numbered: whether this is the released layout, where a class is always meant by its number.
        logits: soft labels that an export holds beside its images, float16 [N, classes]; None: it holds none,
            or the set is a run's.
        name: what progress bars call it, such as ``deda of digits-run``.
        size, channels: as for open_set.
    """

    name: str
    found: ImageFiles
    size: int | None
    channels: int

    @property
    def per_file(self) -> int:
        """Images in each file; more than one with a formation."""
        return len(self.labels) // len(self.found.files)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the first image, which all must have."""
        channels, height, width = self.decoded([0]).shape[1:]
        return channels, height, width

    def batches(self, count: int, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Decode the images in batches: uint8 [count, C, H, W], the last one smaller.

        Args:
            rows: int64, which images, all those of a file one after the other; None: all.

        Raises:
            InputError: an image cannot be read, or differs in size from the first.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        files, per_file = rows[:: self.per_file] // self.per_file, self.per_file
        waiting = torch.empty((0, *self.shape), dtype=torch.uint8)
        with progress(f"read {self.name}", len(rows)) as bar:
            for chunk in files.split(-(-count // per_file)):
                waiting = torch.cat([waiting, self.decoded(chunk.tolist())])
                bar.advance(len(chunk) * per_file)
                while len(waiting) >= count:
                    yield waiting[:count]
                    waiting = waiting[count:]
        if len(waiting):
            yield waiting

    def name_of(self, row: int) -> str:
        """Path of an image's file below ``path``; with a formation its place in the file follows, as in
        3/00001.png#2."""
        file, place = divmod(row, self.per_file)
        path = self.found.files[file].path
        return path if self.per_file == 1 else f"{path}#{place}"

    def rows(self, rows: Tensor) -> Tensor:
        """Decode some images, given by their positions: uint8 [N, C, H, W]."""
        files, place = (rows // self.per_file).unique(return_inverse=True)
        return self.decoded(files.tolist())[place * self.per_file + rows % self.per_file]

    def decoded(self, files: Sequence[int]) -> Tensor:
        """Decode the images that some files hold, given by their numbers: uint8 [N, C, H, W]."""
        chosen = self.found._replace(files=[self.found.files[number] for number in files])
        size, channels = self._stored_as
        stored = decode_files(
            chosen, size, channels, of_run=self.source is not None, shape=self._stored_shape
        )
        formation = None if self.source is None else self.source.method.formation
        return stored if formation is None else as_shown(unpack(stored, formation), self.size, self.channels)

    @cached_property
    def _stored_shape(self) -> tuple[int, ...]:
        """Shape of the first file's image as it is decoded."""
        size, channels = self._stored_as
        return tuple(decode_file(self.found, 0, size, channels, of_run=self.source is not None).shape)

    @property
    def _stored_as(self) -> tuple[int | None, int]:
        """Size and channels in which files are decoded: those of the run, where images are unpacked."""
        if self.source is None or self.source.method.formation is None:
            return self.size, self.channels
        return None, self.source.recipe.data.channels


def require_folder(path: Path) -> None:
    """Refuse a path that cannot hold a distilled set.

    Raises:
        InputError: there is nothing, or no folder; or it is a set of the hub that is not in the cache.
    """
    path = local_folder(path)
    if not path.is_dir():
        what = "is no folder" if path.exists() else "does not exist"
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = suggestion(str(path), [str(each) for each in beside])
        raise InputError(
            f"no distilled set at {str(path)!r}, which {what}{near}; expected a run's folder, a folder of "
            "class folders, what `fastdd export` wrote, or hf:ORG/NAME"
        )


@refusals_explained()
def open_set(
    path: str | Path, arm: str | None = None, *, size: int | None = None, channels: int = 3
) -> DistilledSet:
    """Read a distilled set into memory, of a run or in any layout of layouts.py.

    Args:
        path: a run's folder, a folder of class folders, what ``fastdd export`` wrote, or ``hf:ORG/NAME``, a
            set of the hub that is in the cache of huggingface_hub.
        arm: the arm to read, of a run with several; None: its only one, the control aside.
        size: images are resized to cover a square of this side in pixels, and the center is cut out; None:
            they keep their size.
        channels: 3 for RGB, 1 for luminance.

    Raises:
        InputError: there is no such folder or arm, an image cannot be read, images differ in size where
            ``size`` is None, or the images do not fit into the memory.
    """
    listed = list_set(path, arm, size=size, channels=channels)
    found, source, storage = listed.found, listed.source, ONE_A_FILE
    formation = None if source is None else source.method.formation
    if source is None or formation is None:
        images = decode_files(found, size, channels, of_run=source is not None, shown=listed.name)
        ids = [entry.path for entry in found.files]
    else:
        stored = decode_files(found, None, source.recipe.data.channels, of_run=True, shown=listed.name)
        images, storage = unpack(stored, formation), Storage.of(stored, formation)
        images = as_shown(images, size, channels)
        if storage.mosaics is not None:
            storage = replace(storage, mosaics=as_shown(storage.mosaics, size, channels))
        ids = [f"{entry.path}#{place}" for entry in found.files for place in range(formation.images)]
    return DistilledSet(
        images=images,
        labels=listed.labels,
        classes=listed.classes,
        ids=tuple(ids),
        path=listed.path,
        source=source,
        storage=storage,
        numbered=listed.numbered,
        logits=listed.logits,
    )


@refusals_explained()
def list_set(
    path: str | Path, arm: str | None = None, *, size: int | None = None, channels: int = 3
) -> ListedSet:
    """List a distilled set, whose images are then decoded in parts; arguments and errors are those of
    ``open_set``, of which those that concern a single image come when it is decoded."""
    folder = local_folder(path)
    require_folder(folder)
    if channels not in (1, 3):
        raise InputError(f"channels {channels!r} is not possible; expected 1 (grey) or 3 (RGB)")
    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise InputError(f"size {size} is not possible; expected 1 to {LARGEST_SIDE} pixels")
    source, found_run = None, run_of(folder)
    if found_run is not None:
        run, named = found_run
        if arm is not None and named not in (None, arm):
            raise InputError(
                f"{str(path)!r} is arm {named!r}, but arm {arm!r} is asked for; give the run's folder"
            )
        chosen = arm_of(run, arm or named)
        folder, source = run.images(chosen), read_source(run, chosen)
    elif arm is not None:
        raise InputError(f"{str(path)!r} is no run folder, so it has no arm {arm!r}; leave the arm out")
    found = list_image_files(folder)
    if source is not None:
        _require_whole(found, source)
    formation = None if source is None else source.method.formation
    return ListedSet(
        labels=torch.tensor(found.labels).repeat_interleave(1 if formation is None else formation.images),
        classes=found.classes,
        path=found.folder,
        source=source,
        numbered=found.numbered,
        logits=found.logits,
        name=set_name(path) if source is None else f"{source.arm} of {source.folder.path.resolve().name}",
        found=found,
        size=size,
        channels=channels,
    )


def _require_whole(found: ImageFiles, source: RunSource) -> None:
    """Refuse an arm whose recovery is not finished, so that some classes lack images that others have, and
    one with images that the run did not make."""
    classes = source.splits[0].classes if source.splits else found.classes
    extra, missing = sorted({*found.classes} - {*classes}), sorted({*classes} - {*found.classes})
    if extra:
        raise InputError(
            f"{found.folder} has class folder {extra[0]!r}, but the run's {len(classes)} classes have none "
            "of that name; move it away"
        )
    counts = Counter(dict.fromkeys(missing, 0))
    counts.update(found.classes[label] for label in found.labels)
    name, most = counts.most_common(1)[0]
    if source.method.offset is None and most > source.recipe.ipc:
        raise InputError(
            f"{found.folder} holds {counted(most, 'image')} of class {name!r}, but the run made "
            f"{source.recipe.ipc}; move away those that it did not make"
        )
    least = min(counts, key=lambda name: counts[name])
    if counts[least] < most:
        raise InputError(
            f"{found.folder} holds {counted(counts[least], 'image')} of class {least!r}, others have "
            f"{most}, so it is "
            "not whole; start the run again, it continues where it stopped"
        )
