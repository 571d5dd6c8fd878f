"""The bank on disk: safetensors files of ranges of classes, ``shard_mb`` each, and a JSON manifest.

classes-00000-00009.safetensors   statistics of classes 0 to 9, stacked along the first dimension:
    <layer>/mean [k, D]            <layer>/covariance [k, D (D + 1) / 2] (packed) or [k, D, D] (full), or
    <layer>/factor [k, D, r], <layer>/diagonal [k, D] and <layer>/discarded [k] (lowrank)
    <layer>/class_mean, <layer>/class_var [k, channels]: class-wise BatchNorm statistics
    <layer>/image_mean, _within, _between [k, channels], <layer>/patch_... [k, patches]: of single images
    embeddings [sum of the k classes' n, D] float16
plan.json       what is being built, while it is; a class that is finished is a file of its own
manifest.json   written last, so a bank with a manifest is whole: the plan, counts, ranges and skipped images

class_statistics.py defines the statistics, reader.py reads them one class at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, cast

import torch
from pydantic import JsonValue
from torch import Tensor
from typing_extensions import TypedDict

from ..errors import InputError
from ..run_folder import TensorFile, damaged, read
from ..run_folder.bank_files import MANIFEST, PLAN, REMEDY, class_files
from ..runtime.files import write_json, write_tensors

SCHEMA = 2
METADATA_KEY = "fastdd"
"""the key under which a file's metadata hold its ImageCounts"""
EMBEDDINGS = "embeddings"
"""name of the tensor of embeddings, whose rows are images; the rows of all others are classes"""
MEGABYTE = 1_000_000


class Settings(TypedDict):
    """Everything that the content of a bank depends on; from ``batch`` on, the recipe's section ``bank``.

    Attributes:
        images: number of images of each class, readable or not.
        layers: name -> width of the layers with mean and covariance.
        transform: what was done to the images before the network saw them.
    """

    schema: int
    classes: list[str]
    images: list[int]
    layers: dict[str, int]
    embedding: int
    teacher: str
    data: str
    transform: dict[str, JsonValue]
    batch: int
    precision: str
    compile: bool
    form: Literal["full", "packed", "lowrank"]
    rank: int
    dtype: str
    class_bn: str
    class_bn_group: int
    patch: int | None
    embeddings_per_class: int | str


class Plan(Settings):
    """What plan.json says while a bank is built."""

    shard_mb: float


class Manifest(Settings):
    """What manifest.json says of a whole bank.

    Attributes:
        counts: number of images of each class that the statistics are made of.
        skipped: names of the images that could not be read.
        discarded: layer -> mean and largest part of ||C||_F^2 that the low rank discards, over the classes.
        shards: first and last class of each file.
    """

    counts: list[int]
    embeddings: list[int]
    skipped: list[str]
    discarded: NotRequired[dict[str, dict[str, float]]]
    shards: list[tuple[int, int]]


class ImageCounts(TypedDict):
    """What a file says of the images of its classes, one entry a class.

    Attributes:
        skipped: names of the images that could not be read.
    """

    counts: list[int]
    embeddings: list[int]
    skipped: list[list[str]]


@dataclass(frozen=True)
class Shard:
    """A file of consecutive classes, first to last."""

    path: Path
    first: int
    last: int

    def images(self) -> ImageCounts:
        """What the file says of the images of its classes."""
        file, number = self.open(), self.last - self.first + 1
        images = file.note(METADATA_KEY, ImageCounts)
        lists = (images["counts"], images["embeddings"], images["skipped"])
        if any(len(each) != number for each in lists):
            raise file.damaged(f"its metadata are not of {number} classes")
        return images

    def tensors(self) -> dict[str, Tensor]:
        """All statistics of its classes, by name."""
        return self.open().tensors()

    def open(self, settings: Settings | None = None, embeddings: int | None = None) -> TensorFile:
        """The file, whose tensors are of its classes.

        Args:
            settings: those of the bank, whose layers the file must hold.
        """
        file, number = TensorFile(self.path, REMEDY), self.last - self.first + 1
        by_class = {name: shape for name, shape in file.shapes.items() if name != EMBEDDINGS}
        file.require({name: (number, *shape[1:]) for name, shape in by_class.items()})
        if settings is not None:
            file.require(_shapes(settings, number))
        if embeddings:
            file.require({EMBEDDINGS: (embeddings, -1 if settings is None else settings["embedding"])})
        return file


def _shapes(settings: Settings, number: int) -> dict[str, tuple[int, ...]]:
    """The tensors of the mean and covariance of some classes, and their shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, width in settings["layers"].items():
        rank = min(settings["rank"], width)
        forms: dict[str, dict[str, tuple[int, ...]]] = {
            "full": {"covariance": (width, width)},
            "packed": {"covariance": (width * (width + 1) // 2,)},
            "lowrank": {"factor": (width, rank), "diagonal": (width,), "discarded": ()},
        }
        parts = forms[settings["form"]]
        shapes |= {f"{layer}/{name}": (number, *shape) for name, shape in {"mean": (width,), **parts}.items()}
    return shapes


def shard_path(folder: Path, first: int, last: int) -> Path:
    """The file of classes first to last."""
    return folder / f"classes-{first:05d}-{last:05d}.safetensors"


def shards(folder: Path) -> list[Shard]:
    """The files of a bank in class order; where one's classes are part of another's, only the larger."""
    return [Shard(*file) for file in class_files(folder)]


def write_shard(
    folder: Path, first: int, last: int, tensors: Mapping[str, Tensor], *, images: ImageCounts
) -> None:
    """Write the statistics of classes first to last, whole or not at all."""
    metadata = {METADATA_KEY: json.dumps(images, ensure_ascii=False)}
    write_tensors(shard_path(folder, first, last), dict(tensors), metadata)


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a bank of which nothing is left to do: files that were deleted are made again.

    Raises:
        InputError: the manifest is damaged.
    """
    if (folder / PLAN).is_file() or not (folder / MANIFEST).is_file():
        return False
    ranges = read_manifest(folder)["shards"]
    return all(shard_path(folder, first, last).is_file() for first, last in ranges)


def read_manifest(folder: Path) -> Manifest:
    """manifest.json of a bank.

    Raises:
        InputError: it is missing or damaged, or the bank is of another version.
    """
    file = folder / MANIFEST
    schema = read(file, dict[str, JsonValue], REMEDY).get("schema")
    if schema is None:  # the manifest of a run, or of labels
        raise InputError(f"{folder} holds no bank, but something else; a run's bank is its folder bank")
    if schema != SCHEMA:
        raise InputError(
            f"{folder} has bank schema {schema}, this version reads {SCHEMA}; delete it and build it again"
        )
    manifest = read(file, Manifest, REMEDY)
    number = len(manifest["classes"])
    if not number or any(len(manifest[key]) != number for key in ("images", "counts", "embeddings")):
        raise damaged(file, "its classes, images, counts and embeddings are not as many", REMEDY)
    ends = [-1, *(last for _, last in manifest["shards"])]
    starts = [*(first for first, _ in manifest["shards"]), number]
    if starts != [last + 1 for last in ends] or ends != sorted(set(ends)):
        raise damaged(file, f"its shards are not those of {number} classes", REMEDY)
    return manifest


def complete(folder: Path) -> bool:
    """Join the classes to files of ``shard_mb`` and write the manifest, if all classes are there.

    Where this was killed at any moment, the next call ends with the same files.

    Returns:
        Whether the bank is whole.
    """
    if not (folder / PLAN).is_file():
        return (folder / MANIFEST).is_file()
    plan = read(folder / PLAN, Plan, REMEDY)
    number = len(plan["classes"])
    found = shards(folder)
    if sum(shard.last - shard.first + 1 for shard in found) < number:
        return False
    together = max(1, int(plan["shard_mb"] * MEGABYTE / _class_bytes(found[0])))
    ranges = [(first, min(first + together, number) - 1) for first in range(0, number, together)]
    for first, last in ranges:
        parts = [shard for shard in found if first <= shard.first <= last]
        if len(parts) > 1:
            _join(folder, parts)
    whole = [Shard(shard_path(folder, *ends), *ends) for ends in ranges]
    for path in folder.glob("classes-*.safetensors"):
        if path not in {shard.path for shard in whole}:
            path.unlink(missing_ok=True)
    write_json(folder / MANIFEST, _manifest(plan, whole))
    (folder / PLAN).unlink(missing_ok=True)
    return True


def _manifest(plan: Plan, whole: Sequence[Shard]) -> Manifest:
    """The manifest of a bank of these files: the plan without the size of files, and what was found."""
    images = joined([shard.images() for shard in whole])
    manifest = cast(Manifest, {key: value for key, value in plan.items() if key != "shard_mb"})
    manifest["counts"], manifest["embeddings"] = images["counts"], images["embeddings"]
    manifest["skipped"] = [name for names in images["skipped"] for name in names]
    if plan["form"] == "lowrank":
        manifest["discarded"] = {layer: _discarded(whole, layer) for layer in plan["layers"]}
    manifest["shards"] = [(shard.first, shard.last) for shard in whole]
    return manifest


def _class_bytes(shard: Shard) -> float:
    """Size of a class without its embeddings, whose number differs from class to class."""
    total = sum(tensor.nbytes for name, tensor in shard.tensors().items() if name != EMBEDDINGS)
    return max(1.0, total / (shard.last - shard.first + 1))


def _join(folder: Path, parts: Sequence[Shard]) -> None:
    """Write files of consecutive classes as one file, and delete them."""
    tensors = [part.tensors() for part in parts]
    stacked = {name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}
    images = joined([part.images() for part in parts])
    write_shard(folder, parts[0].first, parts[-1].last, stacked, images=images)
    for part in parts:
        with suppress(FileNotFoundError):  # another job may have joined them too, to the same bytes
            part.path.unlink()


def joined(parts: Sequence[ImageCounts]) -> ImageCounts:
    """What files of consecutive classes say together."""
    return {
        "counts": [count for part in parts for count in part["counts"]],
        "embeddings": [count for part in parts for count in part["embeddings"]],
        "skipped": [names for part in parts for names in part["skipped"]],
    }


def _discarded(whole: Sequence[Shard], layer: str) -> dict[str, float]:
    """Part of ||C||_F^2 that the low rank discards in a layer: mean and largest over the classes."""
    values = torch.cat([shard.open().tensor(f"{layer}/discarded") for shard in whole]).double()
    return {"mean": values.mean().item(), "largest": values.max().item()}
