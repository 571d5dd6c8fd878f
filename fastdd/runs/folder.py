"""The run folder: what is in it, whether it may be continued, what is done.

    recipe.yaml      the full resolved recipe            metrics.json   results, the same bytes on every machine run
    manifest.json    versions, fingerprints, seconds     log.jsonl      what happened when
    data.json        index of both splits: classes, counts, fingerprints
    teacher.safetensors  bank/  images/  recover/  labels/  students/  embeddings.safetensors  report.html
    squeeze.json     how the teacher learned, epoch by epoch, where it was trained here; squeeze.safetensors meanwhile

Every file is written whole or not at all, and a stage is done when its last file is there. Times and machine facts
are kept out of the results, so that a run that was killed and continued ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..config import Recipe, as_plain
from ..errors import InputError
from ..runtime.distributed import barrier, is_main
from ..runtime.files import TEMPORARY, append_line, remove_leftovers, write_json, write_text
from ..version import __version__

RECIPE, MANIFEST, LOG = "recipe.yaml", "manifest.json", "log.jsonl"
MADE = (
    "data.json",
    "squeeze.safetensors",
    "squeeze.json",
    "teacher-rejected.safetensors",
    "teacher.safetensors",
    "bank",
    "recover",
    "images",
    "labels",
    "students",
    "embeddings.safetensors",
    "metrics.json",
    "report.html",
    "sweep.json",
    "sweep.svg",
    MANIFEST,
    LOG,
)


SECTIONS = {
    "name",
    "description",
    "ipc",
    "seed",
    "device",
    "data",
    "teacher",
    "arms",
    "recover",
    "student",
    "metrics",
}
"""in the recipe of every run; one of an earlier version may lack others, and is told so when it is compared"""

LATER = {"metrics.full_set"}
"""settings that earlier versions lack and that leave all they made as it is: a run without them is continued"""


@dataclass
class Work:
    """What a stage did now, filled in by the stage."""

    images: int = 0


@dataclass
class RunFolder:
    """A run's folder with its manifest.

    Attributes:
        path: of the folder.
        manifest: the content of manifest.json.
    """

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)

    def check_fingerprint(self, what: str, value: str) -> None:
        """Note a fingerprint, or refuse one that differs from the run's.

        Raises:
            InputError: the data or teacher changed since the run began.
        """
        known = self.manifest["fingerprints"].setdefault(what, value)
        if known != value:
            raise InputError(
                f"{self.path} was made from another {what}: fingerprint {known[:12]}, now {value[:12]}; choose another "
                "folder with --out, or start over with --fresh"
            )
        self.write_manifest()

    def write_manifest(self) -> None:
        if is_main():
            write_json(self.path / MANIFEST, self.manifest)

    @contextmanager
    def stage(self, name: str) -> Iterator[Work]:
        """Time a stage; seconds and images add up over the sessions of a run that was continued."""
        start, work = time.perf_counter(), Work()
        self.log(stage=name, event="begin")
        yield work
        seconds = time.perf_counter() - start
        total = self.manifest["stages"].setdefault(name, {"seconds": 0.0, "images": 0})
        total["seconds"] = round(total["seconds"] + seconds, 3)
        total["images"] += work.images
        self.write_manifest()
        self.log(stage=name, event="end", seconds=round(seconds, 3), images=work.images)

    def log(self, **event: Any) -> None:
        """Append one line to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **event})
        if is_main():
            append_line(self.path / LOG, line)


def open_run(path: Path, recipe: Recipe, fresh: bool = False, shared: bool = False) -> RunFolder:
    """Open a run folder, new or to be continued.

    Args:
        fresh: delete what an earlier run left there and start over.
        shared: other jobs may be at work in it, so temporary files are not taken for leftovers.

    Raises:
        InputError: the folder holds something else, or a run of another recipe; the differences are named.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose another folder with --out")
    if is_main():
        _prepare(path, recipe, fresh, shared)
    barrier()
    manifest = json.loads((path / MANIFEST).read_text()) if (path / MANIFEST).is_file() else {}
    run = RunFolder(path, _facts(recipe) | {"fingerprints": {}, "stages": {}} | manifest)
    run.manifest["fingerprints"]["code"] = code_fingerprint()
    run.write_manifest()
    return run


def _prepare(path: Path, recipe: Recipe, fresh: bool, shared: bool) -> None:
    earlier = _earlier_recipe(path)
    if path.is_dir() and not shared:
        remove_leftovers(path)
    if earlier is not None and fresh:
        _delete_run(path, earlier.get("committee", {}))
    elif earlier is not None:
        _require_same(path, earlier, recipe)
    if earlier is None or fresh:
        write_text(path / RECIPE, yaml.safe_dump(as_plain(recipe), sort_keys=False, allow_unicode=True))


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        k: v for key, value in node.items() for k, v in _flat(value, f"{path}.{key}" if path else key).items()
    }


def _earlier_recipe(path: Path) -> dict[str, Any] | None:
    """The resolved recipe of the run in a folder, or None where the folder is absent or empty.

    Raises:
        InputError: the folder holds something else, such as a recipe that a person wrote.
    """
    if not path.is_dir() or all(entry.name.startswith(TEMPORARY) for entry in path.iterdir()):
        return None
    try:
        document = yaml.safe_load((path / RECIPE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        document = None
    if not isinstance(document, dict) or SECTIONS - document.keys():
        raise InputError(
            f"{path} exists and is no run folder (it has no {RECIPE} of a run); choose another folder with --out"
        )
    return document


def _delete_run(path: Path, committee: Iterable[str]) -> None:
    """Delete what a run makes, and nothing else that lies in the folder; the recipe goes last, it marks a run."""
    further = [
        name
        for member in committee
        for name in (
            f"teacher-{member}.safetensors",
            f"teacher-{member}-rejected.safetensors",
            f"bank-{member}",
            f"squeeze-{member}.json",
            f"squeeze-{member}.safetensors",
        )
    ]
    for name in (*MADE, *further, RECIPE):
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)


def _require_same(path: Path, earlier: dict[str, Any], recipe: Recipe) -> None:
    """Refuse a folder made by another recipe, and say what differs."""
    theirs, ours = _flat(earlier), _flat(as_plain(recipe))
    absent = object()
    keys = [
        k
        for k in {**theirs, **ours}
        if theirs.get(k, absent) != ours.get(k, absent) and (k in theirs or k not in LATER)
    ]
    if keys:
        shown = "; ".join(
            f"{k}: {theirs.get(k, 'absent')} there, {ours.get(k, 'absent')} now" for k in keys[:5]
        )
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise InputError(
            f"{path} holds a run of another recipe ({shown}{more}); choose another folder with --out, "
            "or start over with --fresh"
        )


def code_fingerprint() -> str:
    """sha256 over the source files of both packages."""
    import fastdd_kernels

    digest = hashlib.sha256()
    for module in (sys.modules["fastdd"], fastdd_kernels):
        root = Path(str(module.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _facts(recipe: Recipe) -> dict[str, Any]:
    """Versions and machine, for the manifest."""
    import torch

    content = json.dumps(as_plain(recipe), sort_keys=True)
    return {
        "fastdd": __version__,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        },
        "recipe_hash": hashlib.sha256(content.encode()).hexdigest()[:12],
    }
