"""From files of single classes to a whole bank: joined to files of ``shard_mb``, and the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..runtime.files import write_json
from .store import MANIFEST, PLAN, Shard, shard_path, shards, write_shard

MEGABYTE = 1_000_000


def complete(folder: Path) -> bool:
    """Join the classes to files of ``shard_mb`` and write the manifest, if all classes are there.

    Killed at any moment and called again it ends with the same files.
    """
    if not (folder / PLAN).is_file():
        return (folder / MANIFEST).is_file()
    plan = json.loads((folder / PLAN).read_text())
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
    facts = [shard.facts() for shard in whole]
    manifest: dict[str, Any] = {key: value for key, value in plan.items() if key != "shard_mb"}
    for key in ("counts", "embeddings", "skipped"):
        manifest[key] = [value for fact in facts for value in fact[key]]
    manifest["skipped"] = [name for names in manifest["skipped"] for name in names]
    if plan["form"] == "lowrank":
        manifest["discarded"] = _discarded(whole, plan["layers"])
    manifest["shards"] = [list(ends) for ends in ranges]
    for path in folder.glob("classes-*.safetensors"):
        if path not in {shard.path for shard in whole}:
            path.unlink(missing_ok=True)
    write_json(folder / MANIFEST, manifest)
    (folder / PLAN).unlink(missing_ok=True)
    return True


def is_whole(folder: Path) -> bool:
    """Whether nothing is left to do."""
    return (folder / MANIFEST).is_file() and not (folder / PLAN).is_file()


def _class_bytes(shard: Shard) -> float:
    """Size of a class without its embeddings, which differ from class to class."""
    with safe_open(str(shard.path), framework="pt") as file:
        names = [name for name in file.keys() if name != "embeddings"]  # noqa: SIM118 (safe_open is no mapping)
        total = sum(file.get_tensor(name).nbytes for name in names)
    return max(1.0, total / (shard.last - shard.first + 1))


def _join(folder: Path, parts: Sequence[Shard]) -> None:
    tensors = [part.tensors() for part in parts]
    facts = [part.facts() for part in parts]
    joined = {name: torch.cat([each[name] for each in tensors]) for name in tensors[0]}
    together = {key: [value for fact in facts for value in fact[key]] for key in facts[0]}
    write_shard(folder, parts[0].first, parts[-1].last, joined, together)
    for part in parts:
        with suppress(FileNotFoundError):  # another job may have joined them too, to the same bytes
            part.path.unlink()


def _discarded(whole: Sequence[Shard], layers: dict[str, int]) -> dict[str, dict[str, float]]:
    """Energy that the low rank discards in each layer, as a part of ||C||_F^2: mean and largest over the classes."""
    result = {}
    for layer in layers:
        parts = []
        for shard in whole:
            with safe_open(str(shard.path), framework="pt") as file:
                parts.append(file.get_tensor(f"{layer}/discarded"))
        values = torch.cat(parts).double()
        result[layer] = {"mean": values.mean().item(), "largest": values.max().item()}
    return result
