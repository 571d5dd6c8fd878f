"""Merge banks that were built apart: of different classes, or of different images of the same classes.

A class that one bank alone has is copied; one that several have is joined by Chan's rule,

    d = m_b - m_a,   m = m_a + d n_b / n,   C = (n_a C_a + n_b C_b) / n + n_a n_b / n^2 d dt

in float64. One class is in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fastdd_kernels import pack_symmetric

from ..errors import InputError
from ..runtime.files import write_json
from .finish import complete
from .store import MANIFEST, PLAN, Shard, shards, write_shard

SAME = (
    "schema",
    "classes",
    "layers",
    "embedding",
    "teacher",
    "transform",
    "precision",
    "form",
    "rank",
    "dtype",
    "class_bn",
    "patch",
)

SPREADS = (
    ("mean", "covariance"),
    ("class_mean", "class_var"),
    ("image_mean", "image_between"),
    ("patch_mean", "patch_between"),
)
"""tensors of a layer: a mean over images, and what lies about it"""


def merge(parts: Sequence[Path], out: Path) -> bool:
    """Merge banks of one teacher.

    Images of one class in several banks need covariances in full or packed form, and class-wise BatchNorm statistics
    in their true form.

    Args:
        parts: folders with banks, whole or with some of their classes.
        out: a new folder.

    Returns:
        Whether the merged bank is whole; if not, it can be merged again with what it lacks.

    Raises:
        InputError: the banks do not belong together, count the same images twice, or out is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; give a new folder to merge into")
    plans = [_plan(part) for part in parts]
    for part, plan in zip(parts, plans, strict=True):
        if different := [key for key in SAME if plan.get(key) != plans[0].get(key)]:
            what = ", ".join(different)
            raise InputError(f"{part} differs from {parts[0]} in {what}; only alike banks can be merged")
    found = [(plan, shard) for part, plan in zip(parts, plans, strict=True) for shard in shards(part)]
    apart = len({plan["data"] for plan in plans}) == len(plans) > 1
    images = (
        [sum(n) for n in zip(*(plan["images"] for plan in plans), strict=True)]
        if apart
        else plans[0]["images"]
    )
    data = plans[0]["data"]
    if apart:
        data = hashlib.sha256("\n".join(sorted(plan["data"] for plan in plans)).encode()).hexdigest()
    write_json(out / PLAN, {**plans[0], "data": data, "images": images})
    for c, name in enumerate(plans[0]["classes"]):
        having = [(plan, shard) for plan, shard in found if shard.first <= c <= shard.last]
        if len({plan["data"] for plan, _ in having}) < len(having):
            raise InputError(
                f"two of the banks hold class {name!r} of the same data set; its images would count twice"
            )
        if having and (len(having) == len(plans) or not apart):
            write_shard(out, c, c, *_merged([_one(shard, c) for _, shard in having], plans[0]))
    return complete(out)


def _plan(part: Path) -> dict[str, Any]:
    for name in (MANIFEST, PLAN):
        if (part / name).is_file():
            return {"shard_mb": 32, **json.loads((part / name).read_text())}
    raise InputError(f"{part} holds no bank (it has neither {MANIFEST} nor {PLAN})")


def _one(shard: Shard, c: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of one class of a file."""
    facts, at = shard.facts(), c - shard.first
    start = sum(facts["embeddings"][:at])
    with safe_open(str(shard.path), framework="pt") as file:
        rows = {
            name: (start, facts["embeddings"][at]) if name == "embeddings" else (at, 1)
            for name in file.keys()  # noqa: SIM118
        }
        tensors = {name: file.get_slice(name)[begin : begin + count] for name, (begin, count) in rows.items()}
    return tensors, {key: [value[at]] for key, value in facts.items()}


def _merged(
    several: Sequence[tuple[dict[str, Tensor], dict[str, Any]]], plan: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = several[0]
    for other, more in several[1:]:
        if plan["form"] == "lowrank" or plan["class_bn"] == "running":
            raise InputError(
                "banks that hold images of the same class can be merged only with form full or packed and class_bn "
                "none or true; build them so"
            )
        tensors = _chan(tensors, facts["counts"][0], other, more["counts"][0], plan["form"] == "packed")
        facts = {
            "counts": [facts["counts"][0] + more["counts"][0]],
            "embeddings": [facts["embeddings"][0] + more["embeddings"][0]],
            "skipped": [facts["skipped"][0] + more["skipped"][0]],
        }
    return tensors, facts


def _chan(a: dict[str, Tensor], n_a: int, b: dict[str, Tensor], n_b: int, packed: bool) -> dict[str, Tensor]:
    """Statistics of n_a + n_b images from those of each part."""
    n = n_a + n_b
    merged = {"embeddings": torch.cat((a["embeddings"], b["embeddings"]))} if "embeddings" in a else {}
    for name in [name for name in a if name.endswith("_within")]:
        merged[name] = ((n_a * a[name].double() + n_b * b[name].double()) / n).to(a[name].dtype)
    for mean, spread in SPREADS:
        for layer in [name.removesuffix(f"/{mean}") for name in a if name.endswith(f"/{mean}")]:
            ours, theirs = a[f"{layer}/{mean}"].double(), b[f"{layer}/{mean}"].double()
            step = theirs - ours
            between = _outer(step, packed) if spread == "covariance" else step.square()
            within = n_a * a[f"{layer}/{spread}"].double() + n_b * b[f"{layer}/{spread}"].double()
            value = within / n + n_a * n_b / n**2 * between
            merged[f"{layer}/{mean}"] = (ours + step * (n_b / n)).to(a[f"{layer}/{mean}"].dtype)
            merged[f"{layer}/{spread}"] = value.to(a[f"{layer}/{spread}"].dtype)
    return merged


def _outer(step: Tensor, packed: bool) -> Tensor:
    """step stept [1, D, D], or its lower triangle."""
    outer = step.mT @ step
    return pack_symmetric(outer)[None] if packed else outer[None]
