"""Images of a run's arm, written and read: one file a slot and one folder a class (run_folder.image_file).

With a formation a file holds several slots, and the file's number is the slot divided by how many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import encode_jpeg, encode_png

from ..config import RANDOM_REAL, Formation, Method, Save
from ..data.decode import decode
from ..data.verify import BadImage
from ..errors import InputError
from ..run_folder import DataSplit, RunFolder, UnitLog, image_file, read, read_recipe
from ..runtime.files import write_bytes
from .formation import pack, unpack


@dataclass(frozen=True)
class Storage:
    """How the images of a set lie in its files.

    Attributes:
        per_file: images in each file, which follow each other; more than one with a formation.
        mosaics: uint8 [N / per_file, C, H, W], the files as they are stored; None: images are no tiles of
            them.
    """

    per_file: int = 1
    mosaics: Tensor | None = None

    @classmethod
    def of(cls, stored: Tensor, formation: Formation) -> Storage:
        """The storage of a set with a formation; ``stored`` is uint8 [M, C, H, W]."""
        return cls(formation.images, stored if formation.tiled else None)

    def on(self, device: torch.device) -> Storage:
        """The same on a device."""
        return replace(self, mosaics=None if self.mosaics is None else self.mosaics.to(device))


ONE_A_FILE = Storage()
"""the storage of a set without a formation"""


def to_levels(images: Tensor, config: Save) -> Tensor:
    """Images in [0, 1] as uint8, rounded or cut off as ``config.rounding`` says."""
    levels = images.clamp(0, 1) * 255
    return (levels.round() if config.rounding == "round" else levels).to(torch.uint8)


def save_images(
    folder: Path,
    classes: Sequence[str],
    rows: Sequence[tuple[int, int]],
    images: Tensor,
    *,
    config: Save,
    encoders: Executor | None = None,
) -> None:
    """Write images.

    Args:
        rows: (class, number of the file) of each image.
        images: uint8 [N, C, H, W].
        encoders: threads that encode and write the images; None: they are written one after another.
    """

    def save(file: tuple[tuple[int, int], Tensor]) -> None:
        (c, slot), image = file
        encoded = encode_png(image) if config.format == "png" else encode_jpeg(image, config.quality)
        write_bytes(image_file(folder, classes[c], slot, config.format), bytes(encoded.numpy()))

    files = zip(rows, images.cpu().contiguous(), strict=True)
    for _ in (map if encoders is None else encoders.map)(save, files):
        pass  # what failed is raised here


def stored_files(
    rows: Sequence[tuple[int, int]], images: Tensor, method: Method
) -> tuple[Sequence[tuple[int, int]], Tensor]:
    """What a method saves of recovered images: (class, number of the file) of each file, and its image.

    Args:
        rows: (class, slot) of each image; with a formation all slots of a file, one after the other.
        images: float [N, C, H, W] in [0, 1]; with a formation of tiles the stored images, fewer than
            the rows.
    """
    levels = to_levels(images, method.save)
    if (formation := method.formation) is not None:
        rows = [(c, slot // formation.images) for c, slot in rows[:: formation.images]]
        if not formation.tiled:
            levels = pack(images, formation)
    return rows, levels.cpu()


def load_recovered(
    folder: Path, classes: Sequence[str], slots: int, *, channels: int, method: Method
) -> tuple[Tensor, Tensor, Storage]:
    """The images that students see of an arm, which are unpacked where the method has a formation.

    Args:
        slots: images a class that students see.

    Returns:
        Images, uint8 [K * slots, C, H, W] in the order of classes and slots, their labels, int64, and how
        they are stored.

    Raises:
        InputError: see ``load_images``.
    """
    if (formation := method.formation) is None:
        return *load_images(folder, classes, slots, channels=channels, config=method.save), ONE_A_FILE
    files = slots // formation.images
    stored, _ = load_images(folder, classes, files, channels=channels, config=method.save)
    labels = torch.arange(len(classes)).repeat_interleave(slots)
    return unpack(stored, formation), labels, Storage.of(stored, formation)


def load_images(
    folder: Path, classes: Sequence[str], ipc: int, *, channels: int, config: Save
) -> tuple[Tensor, Tensor]:
    """The images of an arm as they are stored.

    Args:
        ipc: files a class.

    Returns:
        Images, uint8 [K * ipc, C, H, W] in the order of classes and files, and their labels, int64 [K * ipc].

    Raises:
        InputError: an image is missing, damaged or of another size than the first, or a folder is none of the
            classes.
    """
    files = _files(folder, classes, ipc, config)
    images: Tensor | None = None
    for number, image in enumerate(_decoded(files, channels)):
        if images is None:
            images = torch.empty((len(files), *image.shape), dtype=torch.uint8)
        images[number] = image
    assert images is not None  # there are classes
    return images, torch.arange(len(classes)).repeat_interleave(ipc)


def stream_recovered(
    folder: Path, classes: Sequence[str], slots: int, count: int, *, channels: int, method: Method
) -> Iterator[Tensor]:
    """The images of ``load_recovered`` in batches of ``count``, the last one smaller; more are never held."""
    formation, waiting = method.formation, list[Tensor]()
    per_file = 1 if formation is None else formation.images
    files = _files(folder, classes, slots // per_file, method.save)
    for image in _decoded(files, channels):
        waiting += (image[None] if formation is None else unpack(image[None], formation)).unbind()
        while len(waiting) >= count:
            yield torch.stack(waiting[:count])
            waiting = waiting[count:]
    if waiting:
        yield torch.stack(waiting)


def _files(folder: Path, classes: Sequence[str], ipc: int, config: Save) -> list[Path]:
    """The image files of an arm, in the order of classes and files."""
    others = sorted({entry.name for entry in folder.glob("[!.]*/")} - set(classes))
    if others:
        raise InputError(
            f"{folder / others[0]} is of no class of the real images ({len(others)} such folders beside "
            f"{len(classes)} classes); move it away"
        )
    return [image_file(folder, name, slot, config.format) for name in classes for slot in range(ipc)]


def _decoded(files: Sequence[Path], channels: int) -> Iterator[Tensor]:
    """Decode files one after another: uint8 [channels, H, W], all as large as the first."""
    first: torch.Size | None = None
    for file in files:
        try:
            image = decode(bytearray(file.read_bytes()), channels)
        except OSError as error:
            raise unreadable(file, error) from error
        except BadImage as error:
            raise InputError(f"{file} is damaged: it {error}; {how_to_redo(file)}") from error
        first = image.shape if first is None else first
        if image.shape != first:
            here, there = (f"{height} x {width}" for _, height, width in (image.shape, first))
            raise InputError(
                f"{file} is {here} pixels, the images before it are {there}; {how_to_redo(file)}"
            )
        yield image


def unreadable(file: Path, error: OSError) -> InputError:
    """The error of a run's image file that the system does not open, with the least that mends it."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{file} is missing; {how_to_redo(file)}")
    if isinstance(error, PermissionError):
        return InputError(
            f"{file} exists and cannot be read ({error.strerror}); change its permissions, and those of its "
            "folders, then start the same command again"
        )
    if file.is_dir():
        return InputError(
            f"{file} is a folder, where an image belongs; move it away, then {how_to_redo(file)}"
        )
    return InputError(f"{file} cannot be read ({error.strerror or error}); {how_to_redo(file)}")


def how_to_redo(file: Path) -> str:
    """What to do so that a run makes one of its image files again, for messages.

    The smallest thing that a run makes again is a unit: its log marks it as finished.
    """
    run, again = RunFolder(file.parents[3]), "start the same `fastdd run` command again"
    try:
        unit = _unit_of(run, file.parents[1].name, file)
    except InputError as error:  # without that file the unit cannot be told
        return f"first mend what tells how it is made again: {error}"
    if unit is None:  # its unit is not finished, or its arm is no longer in the recipe
        return f"{again}, which makes it"
    return f"delete {unit} and {again}, which makes that alone"


def _unit_of(run: RunFolder, arm: str, file: Path) -> Path | None:
    """The log of the finished unit that made an image file; None: there is none."""
    if not file.stem.isdecimal():
        return None
    classes = read(run.data, list[DataSplit])[0].classes
    formation = read_recipe(run).arms.get(arm, RANDOM_REAL).formation
    if file.parent.name not in classes:
        return None
    slot = int(file.stem) * (1 if formation is None else formation.images)
    row = (classes.index(file.parent.name), slot)
    return next((log for log in run.units(arm) if row in read(log, UnitLog).rows), None)
