"""The bank on disk: safetensors and a JSON manifest; one class is read without touching the others.

manifest.json            schema, classes, counts, layers, fingerprints of teacher and data
statistics.safetensors   counts [K], <layer>/mean [K, D], <layer>/covariance [K, D (D + 1) / 2]
embeddings.safetensors   embeddings [N, D] float16, in class order
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import InputError
from ..files import write_json, write_tensors

SCHEMA = 1
STATISTICS, EMBEDDINGS, MANIFEST = "statistics.safetensors", "embeddings.safetensors", "manifest.json"


def save(
    path: Path, statistics: dict[str, Tensor], embeddings: dict[str, Tensor], classes: Sequence[str],
    teacher: str, data: str,
) -> None:  # fmt: skip
    """Write a bank; the manifest comes last, so that a bank with a manifest is whole."""
    write_tensors(path / STATISTICS, statistics)
    write_tensors(path / EMBEDDINGS, embeddings)
    layers = sorted(name.removesuffix("/mean") for name in statistics if name.endswith("/mean"))
    counts = statistics["counts"].tolist()
    write_json(
        path / MANIFEST,
        {
            "schema": SCHEMA,
            "classes": list(classes),
            "counts": counts,
            "layers": layers,
            "teacher": teacher,
            "data": data,
        },
    )


class Bank:
    """Read-only statistics of the real data.

    Attributes:
        classes: class names in order.
        counts: images a class.
        layers: names of the tapped layers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            manifest = json.loads((path / MANIFEST).read_text())
        except FileNotFoundError:
            raise InputError(f"{path} holds no finished bank; build it with `fastdd bank RECIPE`") from None
        if manifest["schema"] != SCHEMA:
            raise InputError(
                f"{path} has bank schema {manifest['schema']}, this version reads {SCHEMA}; build it again"
            )
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.counts: tuple[int, ...] = tuple(manifest["counts"])
        self.layers: tuple[str, ...] = tuple(manifest["layers"])
        self.teacher, self.data = manifest["teacher"], manifest["data"]

    def require(self, teacher: str, data: str) -> None:
        """Refuse a bank of another teacher or data set.

        Raises:
            InputError: a fingerprint differs; both are named.
        """
        for what, ours, theirs in (("teacher", teacher, self.teacher), ("data", data, self.data)):
            if ours != theirs:
                raise InputError(
                    f"bank {self.path} belongs to another {what}: its fingerprint is {theirs[:12]}, this run's is "
                    f"{ours[:12]}; use another run folder, or --fresh"
                )

    def gaussian(self, layer: str, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(mean [k, D], packed biased covariance [k, D (D + 1) / 2]) of some classes, float32."""
        with safe_open(str(self.path / STATISTICS), framework="pt") as file:
            mean, covariance = file.get_slice(f"{layer}/mean"), file.get_slice(f"{layer}/covariance")
            rows = [(mean[c : c + 1], covariance[c : c + 1]) for c in classes]
        return torch.cat([m for m, _ in rows]), torch.cat([v for _, v in rows])

    def embeddings(self, c: int) -> Tensor:
        """[n_c, D] float32 embeddings of the images of class c."""
        start = sum(self.counts[:c])
        with safe_open(str(self.path / EMBEDDINGS), framework="pt") as file:
            return file.get_slice("embeddings")[start : start + self.counts[c]].float()
