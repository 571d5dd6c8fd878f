"""The bank on disk: safetensors files by range of classes and a JSON manifest; a class is read without the others.

classes-00000-00009.safetensors   statistics of classes 0 to 9, stacked along the first dimension:
    <layer>/mean [k, D]            <layer>/covariance [k, D (D + 1) / 2] (packed) or [k, D, D] (full), or
    <layer>/factor [k, D, r], <layer>/diagonal [k, D] and <layer>/discarded [k] (lowrank)
    <layer>/class_mean, <layer>/class_var [k, channels], class-wise BatchNorm statistics
    <layer>/image_mean, _within, _between [k, channels] and <layer>/patch_mean, ... [k, patches] (see image_statistics.py)
    embeddings [sum of the k classes' n, D] float16
plan.json       what is being built, while it is; a class that is finished is a file of its own
manifest.json   written last, so a bank with a manifest is whole: the plan, and counts, ranges and skipped images
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from fastdd_kernels import LowRankCovariance

from ..errors import InputError
from ..runtime.files import write_tensors
from .image_statistics import Spread

SCHEMA = 2
MANIFEST, PLAN = "manifest.json", "plan.json"
FILE = re.compile(r"classes-(\d+)-(\d+)\.safetensors")


@dataclass(frozen=True)
class Shard:
    """A file of consecutive classes, first to last."""

    path: Path
    first: int
    last: int

    def facts(self) -> dict[str, Any]:
        """counts, embeddings (number a class) and skipped (names and reasons) of its classes, by class."""
        with safe_open(str(self.path), framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["fastdd"])
        return facts

    def tensors(self) -> dict[str, Tensor]:
        with safe_open(str(self.path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)


def shard_path(folder: Path, first: int, last: int) -> Path:
    return folder / f"classes-{first:05d}-{last:05d}.safetensors"


def shards(folder: Path) -> list[Shard]:
    """The files of a bank, in class order; where one is part of another, only the larger."""
    found = [
        Shard(path, int(match[1]), int(match[2]))
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := FILE.fullmatch(path.name))
    ]
    kept: list[Shard] = []
    for shard in sorted(found, key=lambda shard: (shard.first, -shard.last)):
        if not kept or shard.last > kept[-1].last:
            kept.append(shard)
    return kept


def write_shard(
    folder: Path, first: int, last: int, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    """Write the statistics of classes first to last; facts as Shard.facts gives them."""
    write_tensors(shard_path(folder, first, last), tensors, {"fastdd": json.dumps(facts, ensure_ascii=False)})


@dataclass(frozen=True)
class ClassStatistics:
    """What the bank knows of one class.

    Attributes:
        name, count: of the class, and the number of its images.
        tensors: as in the file, without the dimension of classes.
    """

    name: str
    count: int
    tensors: dict[str, Tensor]


class Bank:
    """Read-only statistics of the real data; ``bank[c]`` reads one class from disk and no other.

    Attributes:
        classes: class names in order.
        counts: images of each class that the statistics are made of.
        layers: name -> width of the tapped layers.
        manifest: all of manifest.json.

    Raises:
        InputError: no finished bank in that folder, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
        except FileNotFoundError:
            begun = " (it was begun; the same command finishes it)" if (path / PLAN).is_file() else ""
            raise InputError(
                f"{path} holds no finished bank{begun}; build it with `fastdd bank RECIPE`"
            ) from None
        if self.manifest["schema"] != SCHEMA:
            raise InputError(
                f"{path} has bank schema {self.manifest['schema']}, this version reads {SCHEMA}; build it again"
            )
        self.classes: tuple[str, ...] = tuple(self.manifest["classes"])
        self.counts: tuple[int, ...] = tuple(self.manifest["counts"])
        self.layers: dict[str, int] = self.manifest["layers"]
        self._shards = [Shard(shard_path(path, *ends), *ends) for ends in self.manifest["shards"]]
        self._open: dict[Path, Any] = {}

    @classmethod
    def open(cls, path: str | Path) -> Bank:
        """The bank in a folder."""
        return cls(Path(path))

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, c: int) -> ClassStatistics:
        """All statistics of class c."""
        shard = self._shard(c)
        names = [name for name in self._file(shard).keys() if name != "embeddings"]  # noqa: SIM118
        tensors = {name: self._rows(name, c)[0] for name in names}
        if self.manifest["embeddings"][c]:
            tensors["embeddings"] = self._embeddings(c)
        return ClassStatistics(self.classes[c], self.counts[c], tensors)

    def require(self, teacher: str, data: str) -> None:
        """Refuse a bank of another teacher or data set.

        Raises:
            InputError: a fingerprint differs; both are named.
        """
        for what, ours in (("teacher", teacher), ("data", data)):
            theirs = self.manifest[what]
            if ours != theirs:
                raise InputError(
                    f"bank {self.path} belongs to another {what}: its fingerprint is {theirs[:12]}, this run's is "
                    f"{ours[:12]}; use another run folder, or --fresh"
                )

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor | LowRankCovariance]:
        """(mean [k, D] float32, biased covariance) of some classes, in the form and dtype in which it is stored.

        Raises:
            InputError: the bank has no such layer.
        """
        if layer not in self.layers:
            raise InputError(
                f"bank {self.path} has no layer {layer!r}, only {', '.join(self.layers)}; build it again"
            )
        mean = self._stack(f"{layer}/mean", classes)
        if self.manifest["form"] != "lowrank":
            return mean, self._stack(f"{layer}/covariance", classes)
        factor, diagonal = (self._stack(f"{layer}/{name}", classes) for name in ("factor", "diagonal"))
        return mean, LowRankCovariance(factor, diagonal)

    def class_batch_norm(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(mean, variance) [k, channels] float32 of a BatchNorm's input over each class.

        Raises:
            InputError: the bank was built without them.
        """
        if self.manifest["class_bn"] == "none":
            raise InputError(
                f"bank {self.path} has no class-wise BatchNorm statistics; build it with bank.class_bn=true"
            )
        return self._stack(f"{layer}/class_mean", classes), self._stack(f"{layer}/class_var", classes)

    def spread(
        self, layer: str, kind: Literal["image", "patch"], classes: Sequence[int], patch: int
    ) -> Spread:
        """Statistics of single images of some classes: of a layer's channels, or of its patches of side ``patch``.

        Raises:
            InputError: the bank was built without them, or with patches of another side.
        """
        if self.manifest.get("patch") != patch:
            has = f"patches of {self.manifest['patch']}" if self.manifest.get("patch") else "no patches"
            raise InputError(
                f"bank {self.path} has {has}, expected patches of {patch}; build it with bank.patch={patch}"
            )
        return Spread(*(self._stack(f"{layer}/{kind}_{name}", classes) for name in Spread._fields))

    def embeddings(self, c: int) -> Tensor:
        """[n, D] float32 embeddings of the images of class c, or of those that were kept.

        Raises:
            InputError: the bank was built without them.
        """
        if not self.manifest["embeddings"][c]:
            raise InputError(f"bank {self.path} has no embeddings; build it with bank.embeddings=all")
        return self._embeddings(c).float()

    def _embeddings(self, c: int) -> Tensor:
        shard = self._shard(c)
        sizes = self.manifest["embeddings"]
        start = sum(sizes[shard.first : c])
        rows: Tensor = self._file(shard).get_slice("embeddings")[start : start + sizes[c]]
        return rows

    def _stack(self, name: str, classes: Sequence[int]) -> Tensor:
        return torch.cat([self._rows(name, c) for c in classes])

    def _rows(self, name: str, c: int) -> Tensor:
        """[1, ...] of class c."""
        shard = self._shard(c)
        rows: Tensor = self._file(shard).get_slice(name)[c - shard.first : c - shard.first + 1]
        return rows

    def _shard(self, c: int) -> Shard:
        if not 0 <= c < len(self.classes):
            raise IndexError(f"class {c} is outside of the {len(self.classes)} classes of {self.path}")
        return next(shard for shard in self._shards if c <= shard.last)

    def _file(self, shard: Shard) -> Any:
        """The mapped file; its pages are read when they are touched."""
        if shard.path not in self._open:
            try:
                self._open[shard.path] = safe_open(str(shard.path), framework="pt")
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{shard.path} is missing or damaged ({error}); delete {self.path} and start the same command again"
                ) from error
        return self._open[shard.path]
