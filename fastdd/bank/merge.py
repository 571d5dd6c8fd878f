"""Merge banks that were built apart: of different classes, or of different images of the same classes.

A class that one bank alone has is copied; one that several have is joined by Chan's rule,

    d = m_b - m_a,   m = m_a + d n_b / n,   C = (n_a C_a + n_b C_b) / n + n_a n_b / n^2 d d^T

in float64. One class is in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from fastdd_kernels import pack_symmetric

from ..errors import InputError
from ..run_folder import read
from ..run_folder.bank_files import MANIFEST, PLAN, REMEDY
from ..runtime.files import write_json
from ..runtime.new_folders import new_folder
from .store import EMBEDDINGS, ImageCounts, Plan, Shard, complete, read_manifest, shards, write_shard

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
"""settings in which banks must agree to be merged"""

SPREADS = (
    ("mean", "covariance"),
    ("class_mean", "class_var"),
    ("image_mean", "image_between"),
    ("patch_mean", "patch_between"),
)
"""pairs of a layer's tensors: a mean over images, and the (co)variance about it"""

OneClass = tuple[dict[str, Tensor], ImageCounts]
"""the statistics of one class of a bank, and what its file says of the images"""


def merge(parts: Sequence[Path], out: Path) -> bool:
    """Merge banks of one teacher.

    Images of one class in several banks need covariances in full or packed form, and class-wise BatchNorm
    statistics in their true form.

    Args:
        parts: folders with banks, whole or with some of their classes.

    Returns:
        Whether the merged bank is whole; if not, it can be merged again with what it lacks.

    Raises:
        InputError: the banks do not belong together, count the same images twice, or out is not empty.
    """
    plans = [_plan(part) for part in parts]
    for part, plan in zip(parts, plans, strict=True):
        if different := [key for key in SAME if plan.get(key) != plans[0].get(key)]:
            what = ", ".join(different)
            raise InputError(f"{part} differs from {parts[0]} in {what}; only alike banks can be merged")
    found = [(plan, shard) for part, plan in zip(parts, plans, strict=True) for shard in shards(part)]
    other_images = len({plan["data"] for plan in plans}) == len(plans) > 1
    merged: Plan = {**plans[0]}
    if other_images:
        data = "\n".join(sorted(plan["data"] for plan in plans))
        merged["data"] = hashlib.sha256(data.encode()).hexdigest()
        merged["images"] = [sum(counts) for counts in zip(*(plan["images"] for plan in plans), strict=True)]
    with new_folder(out) as folder:
        write_json(folder / PLAN, merged)
        for c, name in enumerate(merged["classes"]):
            having = [(plan, shard) for plan, shard in found if shard.first <= c <= shard.last]
            if len({plan["data"] for plan, _ in having}) < len(having):
                raise InputError(
                    f"two of the banks hold class {name!r} of the same data set; its images would count twice"
                )
            if having and (len(having) == len(plans) or not other_images):
                tensors, images = _merged([_one_class(shard, c) for _, shard in having], merged)
                write_shard(folder, c, c, tensors, images=images)
        return complete(folder)


def _plan(part: Path) -> Plan:
    """The settings of a bank, whole or begun."""
    if (part / MANIFEST).is_file():
        return cast(Plan, {**read_manifest(part), "shard_mb": 32})  # a manifest does not have it
    if (part / PLAN).is_file():
        return read(part / PLAN, Plan, REMEDY)
    raise InputError(f"{part} holds no bank (it has neither {MANIFEST} nor {PLAN})")


def _one_class(shard: Shard, c: int) -> OneClass:
    """One class of a file."""
    images, at = shard.images(), c - shard.first
    start = sum(images["embeddings"][:at])
    file = shard.open(embeddings=sum(images["embeddings"]))
    rows = dict.fromkeys(file.shapes, (at, at + 1))
    if EMBEDDINGS in rows:
        rows[EMBEDDINGS] = (start, start + images["embeddings"][at])
    tensors = {name: file.rows(name, *ends) for name, ends in rows.items()}
    own: ImageCounts = {
        "counts": [images["counts"][at]],
        "embeddings": [images["embeddings"][at]],
        "skipped": [images["skipped"][at]],
    }
    return tensors, own


def _merged(several: Sequence[OneClass], plan: Plan) -> OneClass:
    """One class of several banks."""
    tensors, images = several[0]
    for other, more in several[1:]:
        if plan["form"] == "lowrank" or plan["class_bn"] == "running":
            raise InputError(
                "banks that hold images of the same class can be merged only with form full or packed and "
                "class_bn none or true; build them so"
            )
        n_a, n_b = images["counts"][0], more["counts"][0]
        tensors = _chan(tensors, other, n_a=n_a, n_b=n_b, packed=plan["form"] == "packed")
        images = {
            "counts": [n_a + n_b],
            "embeddings": [images["embeddings"][0] + more["embeddings"][0]],
            "skipped": [images["skipped"][0] + more["skipped"][0]],
        }
    return tensors, images


def _chan(
    a: dict[str, Tensor], b: dict[str, Tensor], *, n_a: int, n_b: int, packed: bool
) -> dict[str, Tensor]:
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
    """Outer product of step [1, D] with itself, [1, D, D], or its lower triangle."""
    outer = step.mT @ step
    return pack_symmetric(outer)[None] if packed else outer[None]
