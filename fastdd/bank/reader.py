"""Reading a finished bank: one class is read from disk, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fastdd_kernels import LowRankCovariance

from ..errors import InputError
from ..run_folder import TensorFile
from ..run_folder.bank_files import MANIFEST, PLAN
from .class_statistics import Spread
from .store import EMBEDDINGS, Shard, read_manifest, shard_path


@dataclass(frozen=True)
class ClassStatistics:
    """What the bank knows of one class.

    Attributes:
        count: number of images that the statistics are made of.
        tensors: name -> statistic, as in the file (store.py) without the dimension of classes.
    """

    name: str
    count: int
    tensors: dict[str, Tensor]


class Bank:
    """Read-only statistics of the real data; ``bank[c]`` reads one class from disk and no other.

    Attributes:
        layers: name -> width of the layers with mean and covariance.

    Raises:
        InputError: the folder holds no finished bank, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / MANIFEST).exists():
            begun = " (it was begun; the same command finishes it)" if (path / PLAN).is_file() else ""
            raise InputError(f"{path} holds no finished bank{begun}; build it with `fastdd bank RECIPE`")
        self.manifest = read_manifest(path)
        self.classes: tuple[str, ...] = tuple(self.manifest["classes"])
        self.counts: tuple[int, ...] = tuple(self.manifest["counts"])
        self.layers = self.manifest["layers"]
        self._shards = [Shard(shard_path(path, *ends), *ends) for ends in self.manifest["shards"]]
        self._open: dict[Path, TensorFile] = {}

    @classmethod
    def open(cls, path: str | Path) -> Bank:
        """The bank in a folder."""
        return cls(Path(path))

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, c: int) -> ClassStatistics:
        """All statistics of class c."""
        shard = self._shard(c)
        names = [name for name in self._file(shard).shapes if name != EMBEDDINGS]
        tensors = {name: self._rows(name, c)[0] for name in names}
        if self.manifest["embeddings"][c]:
            tensors["embeddings"] = self._embeddings(c)
        return ClassStatistics(self.classes[c], self.counts[c], tensors)

    def require(self, teacher: str, data: str) -> None:
        """Refuse a bank of another teacher or data set than those with these fingerprints."""
        theirs = {"teacher": self.manifest["teacher"], "data": self.manifest["data"]}
        for what, ours in (("teacher", teacher), ("data", data)):
            if ours != theirs[what]:
                raise InputError(
                    f"bank {self.path} belongs to another {what}: its fingerprint is {theirs[what][:12]}, "
                    f"this run's is {ours[:12]}; delete that folder, and the same command builds it anew"
                )

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor | LowRankCovariance]:
        """(mean [k, D] float32, biased covariance in its stored form and dtype) of some classes.

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
        """Statistics of single images of some classes: of a layer's channels or of its patches.

        Args:
            patch: side of the patches in pixels, which the bank must have been built with.

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
        """Embeddings [n, D] float32 of the images of class c, all or those kept, in the data set's order.

        Raises:
            InputError: the bank was built without them.
        """
        if not self.manifest["embeddings"][c]:
            raise InputError(f"bank {self.path} has no embeddings; build it with bank.embeddings=all")
        return self._embeddings(c).float()

    @property
    def has_all_embeddings(self) -> bool:
        """Whether the embeddings of all images are kept, and not a choice of them."""
        return tuple(self.manifest["embeddings"]) == self.counts

    def _embeddings(self, c: int) -> Tensor:
        shard = self._shard(c)
        sizes = self.manifest["embeddings"]
        start = sum(sizes[shard.first : c])
        return self._file(shard).rows(EMBEDDINGS, start, start + sizes[c])

    def _stack(self, name: str, classes: Sequence[int]) -> Tensor:
        return torch.cat([self._rows(name, c) for c in classes])

    def _rows(self, name: str, c: int) -> Tensor:
        """The tensor of a name, [1, ...] of class c."""
        shard = self._shard(c)
        return self._file(shard).rows(name, c - shard.first, c - shard.first + 1)

    def _shard(self, c: int) -> Shard:
        if not 0 <= c < len(self.classes):
            raise IndexError(f"class {c} is outside of the {len(self.classes)} classes of {self.path}")
        return next(shard for shard in self._shards if c <= shard.last)

    def _file(self, shard: Shard) -> TensorFile:
        """The mapped file; its pages are read when they are touched."""
        if shard.path not in self._open:
            if not shard.path.exists():
                raise InputError(f"{shard.path} is missing; start the same command again, which makes it")
            embeddings = sum(self.manifest["embeddings"][shard.first : shard.last + 1])
            self._open[shard.path] = shard.open(self.manifest, embeddings)
        return self._open[shard.path]
