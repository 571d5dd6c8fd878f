"""Open a run folder, new or to be continued; note what is done in it, and when.

Times and machine facts stand in the manifest and the log, never among the results, so that a run that was
killed and continued ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from ..config import Recipe, as_plain
from ..config.naming import value_of_key
from ..config.yaml_text import dump_yaml
from ..errors import InputError
from ..runtime.distributed import is_main, require_shared
from ..runtime.events import in_stage, send
from ..runtime.files import LOCK, TEMPORARY, explained, remove_leftovers, write_text
from ..version import __version__
from .manifest import (
    FORMAT,
    format_of,
    read_manifest,
    recipe_text,
    refuse_format,
    require_unedited,
    settings_hash,
    without_published,
)
from .paths import RunFolder
from .reading import START_OVER, write
from .results import Machine, Manifest, StageWork, Versions

SECTIONS = {
    *("name", "description", "ipc", "seed", "device"),
    *("data", "teacher", "arms", "recover", "student", "metrics"),
}
"""Sections of every resolved recipe; a recipe.yaml that lacks one was written by a person, not by a run."""
GROWING = ("arms", "students", "student_arms", "student_labels", "student_views")
"""Sections of a recipe to which entries may be added where a run takes further sets."""


@dataclass
class Work:
    """What a stage did in this session; the stage counts it.

    Attributes:
        images: images seen; of recover image-iterations.
    """

    images: int = 0


@dataclass(frozen=True)
class Session:
    """A run folder that is open for work.

    Attributes:
        manifest: what manifest.json says; ``stage`` and ``check_fingerprint`` add to it.
        stages: the stages that did something in this session.
    """

    folder: RunFolder
    manifest: Manifest
    stages: list[str] = field(default_factory=list)

    def check_fingerprint(self, what: str, value: str) -> None:
        """Note a fingerprint, or refuse one that differs from the run's.

        Raises:
            InputError: the data or teacher has changed since the run began.
        """
        known = self.manifest.fingerprints.setdefault(what, value)
        if known != value:
            raise InputError(
                f"{self.folder} was made from another {what}: fingerprint {known[:12]}, now {value[:12]}; "
                f"choose another folder with --out, or {START_OVER}"
            )
        self.write_manifest()

    def write_manifest(self) -> None:
        """Write manifest.json where it says something else; only the main process does."""
        if is_main():
            _write_changed(self.folder, self.manifest)

    @contextmanager
    def stage(self, name: str) -> Iterator[Work]:
        """Time a stage, and send events of its beginning and end; its seconds and images add up over the
        sessions of a run. A session that is ended within a stage leaves its seconds."""
        start, work = time.perf_counter(), Work()
        self.stages.append(name)
        try:
            with in_stage(name):
                send("begin")
                yield work
        except BaseException:
            self._count(name, time.perf_counter() - start, images=0)
            raise
        seconds = time.perf_counter() - start
        self._count(name, seconds, images=work.images)
        with in_stage(name):
            send("end", values={"seconds": round(seconds, 3), "images": work.images})

    def _count(self, name: str, seconds: float, images: int) -> None:
        earlier = self.manifest.stages.get(name, StageWork(seconds=0.0, images=0))
        self.manifest.stages[name] = StageWork(
            seconds=round(earlier.seconds + seconds, 3), images=earlier.images + images
        )
        self.write_manifest()


# -- looking -------------------------------------------------------------------------------------


def check_folder(path: Path, recipe: Recipe, *, fresh: bool = False, grows: bool = False) -> None:
    """Refuse a folder in which a recipe cannot be run or continued. Nothing is written or deleted.

    Args:
        fresh: an earlier run in the folder will be deleted, so it may be of any recipe and version.
        grows: the recipe may have arms and kinds of students that the run in the folder lacks.

    Raises:
        InputError: path is a file, or the folder holds something else, a run of another recipe (the
            differences are named), a run of another version, or one whose recipe.yaml was edited.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; choose another folder with --out")
    run = RunFolder(path)
    manifest = None if fresh or run.recipe.exists() else _manifest(run)
    if manifest is not None and manifest.recipe_hash == recipe_hash(recipe):
        return  # recipe.yaml was deleted and is written again
    earlier = _earlier_recipe(path)
    if earlier is None or fresh:
        return
    if run.manifest.is_file() and (found := format_of(run)) != FORMAT:
        raise refuse_format(run, found)
    if (begun := _manifest(run)) is not None:
        require_unedited(run, begun, earlier)
    now = without_published(as_plain(recipe))
    if grows:
        _require_same(path, without_published(earlier), _without_added(now, earlier), LEAVE_OUT)
    else:
        _require_same(path, without_published(earlier), now, "choose another folder with --out")


def _without_added(now: dict[str, JsonValue], earlier: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A recipe with the description of an earlier one and, in the sections GROWING, its entries alone."""
    kept = {**now, "description": earlier.get("description")}
    for name in GROWING:
        own, theirs = kept.pop(name, {}), earlier.get(name, {})
        if isinstance(own, dict) and isinstance(theirs, dict) and theirs:
            kept[name] = {key: value for key, value in own.items() if key in theirs}
    return kept


def _earlier_recipe(path: Path) -> dict[str, JsonValue] | None:
    """The recipe of the run in a folder, of any version; None: the folder is absent or empty.

    Raises:
        InputError: the folder holds something else, such as a recipe that a person wrote, or its recipe.yaml
            is damaged.
    """
    file = RunFolder(path).recipe
    if not path.is_dir() or all(_is_begun(entry, file) for entry in path.iterdir()):
        return None
    document = None
    try:
        document = recipe_text(RunFolder(path))
    except InputError:
        if file.exists() and _manifest(RunFolder(path)) is not None:
            raise
    if not isinstance(document, dict) or SECTIONS - document.keys():
        raise InputError(
            f"{path} exists and is no run folder (it has no {file.name} of a run); choose another folder "
            "with --out"
        )
    return document


def _manifest(run: RunFolder) -> Manifest | None:
    """The manifest of a run of this version; None: the folder has none that can be read."""
    try:
        return read_manifest(run)
    except InputError:
        return None


def _is_begun(entry: Path, recipe: Path) -> bool:
    """Whether a file is one that a run leaves when it is killed before its first file is written."""
    found = TEMPORARY.fullmatch(entry.name)
    name = entry.name if found is None else found[1]
    return name.startswith(LOCK) or (found is not None and name == recipe.name)


LEAVE_OUT = "leave out what is said otherwise now, choose another folder with --out"
"""what to do where sets are added to a run that says otherwise"""


def _require_same(path: Path, earlier: JsonValue, now: JsonValue, remedy: str) -> None:
    """Refuse a folder that another recipe made, and say what differs."""
    theirs, ours = _flat(earlier), _flat(now)
    absent = object()
    keys = [key for key in {**theirs, **ours} if theirs.get(key, absent) != ours.get(key, absent)]
    if keys:
        shown = "; ".join(
            f"{key}: {value_of_key(theirs, key)} there, {value_of_key(ours, key)} now" for key in keys[:5]
        )
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise InputError(f"{path} holds a run of another recipe ({shown}{more}); {remedy}, or {START_OVER}")


def _flat(node: JsonValue, path: str = "") -> dict[str, JsonValue]:
    """The leaves of nested mappings by dotted path."""
    if not isinstance(node, Mapping) or not node:
        return {path: node}
    leaves: dict[str, JsonValue] = {}
    for key, value in node.items():
        leaves |= _flat(value, f"{path}.{key}" if path else key)
    return leaves


# -- acting --------------------------------------------------------------------------------------


def open_run(
    path: Path,
    recipe: Recipe,
    *,
    fresh: bool = False,
    shared: bool = False,
    grows: bool = False,
    full_set_left_out: str | None = None,
    skipped: dict[str, list[str]] | None = None,
) -> Session:
    """Open a run folder, new or to be continued; all processes come together.

    Args:
        fresh: delete first what an earlier run made there.
        shared: other jobs may be at work in the folder, so their temporary files are no leftovers.
        grows: as ``check_folder`` has it.
        full_set_left_out: why a new run has no students of the whole training set; None: it has some.
        skipped: unreadable images that are left out, by split.

    Raises:
        InputError: the folder cannot be used, see check_folder; or torchrun's processes do not share it.
    """
    run = RunFolder(path)
    check_folder(path, recipe, fresh=fresh, grows=grows)
    if is_main():
        if not shared:
            remove_leftovers(run.made(recipe.committee))
        if fresh:
            delete_run(path)
        manifest = read_manifest(run) if run.manifest.is_file() else _new(recipe, full_set_left_out)
        digest = settings_hash(as_plain(recipe))
        if grows and manifest.settings_hash != digest:
            # whatever is killed here, recipe.yaml is one of the two that the manifest knows
            _write_changed(run, manifest.model_copy(update={"next_settings_hash": digest}))
        if not run.recipe.is_file() or recipe_text(run) != as_plain(recipe):  # a paper's number was corrected
            write_text(run.recipe, dump_yaml(as_plain(recipe)))
        if grows:
            manifest = _grown(manifest, recipe)
        manifest.fingerprints["code"] = code_fingerprint()
        if skipped:
            manifest = manifest.model_copy(update={"skipped": skipped})
        _write_changed(run, manifest)
    require_shared(run.manifest, Path.read_bytes)
    return Session(run, read_manifest(run))


def _grown(manifest: Manifest, recipe: Recipe) -> Manifest:
    """The manifest of a run whose recipe has been written with further sets."""
    kept = {name: getattr(manifest, name) for name in manifest.model_fields_set - {"next_settings_hash"}}
    hashes = {"recipe_hash": recipe_hash(recipe), "settings_hash": settings_hash(as_plain(recipe))}
    return Manifest.model_validate({**kept, **hashes})


def _write_changed(run: RunFolder, manifest: Manifest) -> None:
    """Write a manifest that differs from the one on the disk: a finished run that is run again stays as it
    is."""
    if not run.manifest.is_file() or read_manifest(run) != manifest:
        write(run.manifest, manifest)


def refuse_deleting(key: str, given: str | Path, out: Path) -> None:
    """Refuse what a recipe gives where it lies in a run folder that will be deleted.

    Args:
        key: the recipe's key that gives it.
    """
    place = Path(given).resolve()
    if out.resolve() in (place, *place.parents):
        raise InputError(f"{key} {given} lies in {out}, which --fresh would delete; move it")


def delete_run(path: Path) -> None:
    """Delete what a run made, of any version, and nothing else that lies in the folder.

    Raises:
        InputError: the folder holds something else than a run.
    """
    earlier = _earlier_recipe(path)
    if earlier is None:
        return
    committee = earlier.get("committee")
    for made in RunFolder(path).made(committee if isinstance(committee, dict) else ()):
        with explained(made, remedy="delete it yourself, or choose another folder with --out"):
            if made.is_dir() and not made.is_symlink():
                shutil.rmtree(made)
            else:
                made.unlink(missing_ok=True)


def _new(recipe: Recipe, full_set_left_out: str | None) -> Manifest:
    """The manifest of a run that begins here and now."""
    import torch

    return Manifest(
        format=FORMAT,
        fastdd=__version__,
        versions=Versions(torch=torch.__version__, python=platform.python_version()),
        machine=Machine(
            cpu=processor_name(),
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        ),
        recipe_hash=recipe_hash(recipe),
        settings_hash=settings_hash(as_plain(recipe)),
        fingerprints={},
        stages={},
        full_set_left_out=full_set_left_out,
    )


def recipe_hash(recipe: Recipe) -> str:
    """First 12 hex digits of the sha256 of a resolved recipe without a paper's numbers."""
    content = json.dumps(without_published(as_plain(recipe)), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def code_fingerprint() -> str:
    """sha256 over the source files of both packages."""
    import fastdd_kernels

    digest = hashlib.sha256()
    for module in (sys.modules["fastdd"], fastdd_kernels):
        root = Path(str(module.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


def processor_name() -> str:
    """The model of the processor, where Linux tells it, else what Python says of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
