"""The reader of manifest.json and recipe.yaml, which must be of this version and belong together; and the
digest of metrics.json, by which a file that was damaged or edited by hand is known.

Whoever edits a file with care can write its digest anew, so the digest tells of accidents and haste alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue, ValidationError

from ..config import Recipe
from ..config.terms import TERMS, Terms
from ..config.yaml_text import load_yaml
from ..errors import InputError
from ..runtime.files import write_json
from .paths import RunFolder
from .reading import AGAIN, DELETE, START_OVER, damaged, first_fault, read, read_text
from .results import Manifest, Metrics

FORMAT = 2
"""Number of the run folder's format, noted in the manifest. It rises when folders of earlier versions of
fastdd can no longer be continued or read; the first format had no number."""


def require_run(path: Path) -> RunFolder:
    """The run folder at a path.

    Raises:
        InputError: there is nothing, or something else.
    """
    run = RunFolder(path)
    if not path.exists():
        raise InputError(f"run folder {path} does not exist; make it with `fastdd run RECIPE --out {path}`")
    if not path.is_dir():
        raise InputError(f"{path} is a file, expected the folder that `fastdd run` wrote")
    if not run.recipe.exists():
        raise InputError(
            f"{path} is no run folder: it has no {run.recipe.name} of a run; name the folder that "
            "`fastdd run` wrote"
        )
    return run


def read_manifest(run: RunFolder) -> Manifest:
    """manifest.json of a run folder of this version.

    Raises:
        InputError: it is missing or damaged, or the folder has the format of another version.
    """
    found = format_of(run)
    if found != FORMAT:
        raise InputError(f"{run} was made by {_version(found)}; make the run again in another folder")
    return read(run.manifest, Manifest)


def read_recipe(run: RunFolder, *, terms: bool = True) -> Recipe:
    """recipe.yaml of a run folder.

    Args:
        terms: false: of the arms' terms the names alone are read, and torch is not imported.

    Raises:
        InputError: it is missing, damaged or edited, names a term that is not registered in this process,
            or has other keys than recipes of this version.
    """
    plain = recipe_text(run)
    if run.manifest.is_file() and format_of(run) == FORMAT:
        require_unedited(run, read_manifest(run), plain)
    if terms:
        _require_terms(run, plain)
    else:
        plain = _with_names_of_terms(plain)
    try:
        return Recipe.model_validate(plain)
    except ValidationError as error:
        raise InputError(
            f"{run.recipe} is damaged or of another version of fastdd ({first_fault(error)}); make the run "
            "again in another folder"
        ) from error


def require_unedited(run: RunFolder, manifest: Manifest, plain: object) -> None:
    """Refuse a recipe.yaml that says something else than when the run began, but for where the data lie and
    what a paper prints.

    Args:
        plain: what recipe.yaml says now.

    Raises:
        InputError: it was edited, so that the run's results would be told of settings that they are not of.
    """
    known = (manifest.settings_hash, manifest.next_settings_hash)
    if manifest.settings_hash is not None and settings_hash(plain) not in known:
        raise InputError(
            f"{run.recipe} was edited after the run began, so its values are not those of the results; take "
            f"the edit back, or delete the file and {AGAIN}; for other values run a copy of it in another "
            "folder with --out"
        )


def settings_hash(plain: object) -> str:
    """First 12 hex digits of the sha256 of a resolved recipe's settings.

    They lack data.root, the place of the data, and the numbers of a paper, which change no result.
    """
    if isinstance(plain, dict):
        plain = without_published(plain)
        if isinstance(data := plain.get("data"), dict):
            plain["data"] = {key: value for key, value in data.items() if key != "root"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def without_published(plain: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A recipe without a paper's numbers, which may be corrected when the run is done."""
    return {key: value for key, value in plain.items() if key != "published"}


def recipe_text(run: RunFolder) -> object:
    """What recipe.yaml of a run folder says, of any version.

    Raises:
        InputError: it is missing, unreadable or no YAML.
    """
    text = read_text(run.recipe)
    try:
        return load_yaml(text, "it")
    except InputError as error:
        raise damaged(run.recipe, str(error)) from error


def _require_terms(run: RunFolder, plain: object) -> None:
    """Refuse a recipe with a term that this process does not know; the folder is in order then."""
    arms = plain.get("arms") if isinstance(plain, dict) else None
    for arm, method in arms.items() if isinstance(arms, dict) else ():
        terms = method.get("terms") if isinstance(method, dict) else None
        for name, config in terms.items() if isinstance(terms, dict) else ():
            if config is not None and name not in TERMS:
                raise InputError(
                    f"{run.recipe}: the arm {arm!r} has a term {name!r}, which is not registered in this "
                    f"process; install the package that defines it (entry points {TERMS.group}), or call "
                    f"fastdd.register_term({name!r}, ...) in Python first; nothing is damaged"
                )


def _with_names_of_terms(plain: object) -> object:
    """A recipe as it is written, in which the terms of each arm are known by name alone."""
    arms = plain.get("arms") if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or not isinstance(arms, dict):
        return plain
    named = {}
    for arm, method in arms.items():
        terms = method.get("terms") if isinstance(method, dict) else None
        if isinstance(method, dict) and isinstance(terms, dict):
            method = method | {"terms": Terms.named(name for name in terms if terms[name] is not None)}
        named[arm] = method
    return plain | {"arms": named}


def format_of(run: RunFolder) -> int:
    """Number of the folder's format, of any version.

    Raises:
        InputError: the manifest is missing or damaged.
    """
    manifest = read(run.manifest, dict[str, JsonValue])
    found = manifest.get("format", 1)
    if not isinstance(found, int):
        raise damaged(run.manifest, f"format is {found!r}")
    return found


def refuse_format(run: RunFolder, found: int) -> InputError:
    """The error of a folder that another version made and that cannot be continued."""
    return InputError(
        f"{run} was made by {_version(found)}; choose another folder with --out, or {START_OVER}"
    )


def _version(found: int) -> str:
    age = "an earlier" if found < FORMAT else "a later"
    return f"{age} version of fastdd (run folder format {found}, this version has {FORMAT})"


DIGEST = "digest"


def write_metrics(file: Path, metrics: Metrics) -> None:
    """Write results atomically: the fields that were given, in the order of the type, then the digest."""
    content = metrics.model_dump(mode="json", exclude_unset=True, exclude={DIGEST})
    write_json(file, content | {DIGEST: _digest(content)})


def require_unedited_results(file: Path, remedy: str = DELETE) -> None:
    """Refuse results that say something else than when they were measured; those of earlier versions have no
    digest, and pass.

    Args:
        remedy: the smallest thing to do.

    Raises:
        InputError: it was edited, or it is no JSON.
    """
    content = read(file, dict[str, JsonValue], remedy)
    noted = content.pop(DIGEST, None)
    if noted is not None and noted != _digest(content):
        raise InputError(f"{file} was edited after it was measured, which its digest tells; {remedy}")


def _digest(content: Mapping[str, JsonValue]) -> str:
    """First 16 hex digits of the sha256 of the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
