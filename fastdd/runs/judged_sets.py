"""The sets that a judgement is asked for: their folders, their arms, and a name for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import CONTROL, FULL
from ..distilled import require_folder
from ..distilled.runs import RunSource, arm_of, read_source, run_of
from ..errors import InputError
from .given_views import views_of_run

TAKEN = (CONTROL, FULL, "real", "real_labels")
"""names that no set may have in a run"""


@dataclass(frozen=True)
class JudgedSet:
    """A set that is judged.

    Attributes:
        name: the name of its arm.
        title: what tables call it.
        source: the run that it comes from; None: it is no run's.
        views: folder of labels of its views that came with it; None: none is known.
    """

    name: str
    title: str
    path: str
    source: RunSource | None
    views: Path | None = None

    @property
    def longer_name(self) -> str:
        """The name of its arm where another set of a judgement has ``name``: with its run's, or with the
        folder's above it."""
        above = Path(self.path).resolve().parent if self.source is None else self.source.folder.path.resolve()
        return re.sub(r"[^A-Za-z0-9+_-]+", "_", f"{above.name}-{self.name}").strip("_")

    @property
    def arm(self) -> str | None:
        """Its arm in that run."""
        return None if self.source is None else self.source.arm

    def __str__(self) -> str:
        return self.path if self.arm is None else f"{self.path}:{self.arm}"


def find_sets(texts: Sequence[str]) -> list[JudgedSet]:
    """The sets that are asked for, each with a name of its own.

    Raises:
        InputError: there is no such folder or arm, or a set is given twice, or two would have one name.
    """
    given: list[tuple[str, RunSource | None]] = []
    for text in texts:
        path, arm = _path_and_arm(text)
        require_folder(Path(path))
        found = run_of(Path(path))
        if found is None:
            if arm is not None:
                raise InputError(f"{path} is no run folder, so it has no arm {arm!r}; give {path} alone")
            given.append((path, None))
            continue
        run, named = found
        arms = [arm or named] if arm or named else [each for each in run.arms() if each != CONTROL]
        given += [(path, read_source(run, arm_of(run, each))) for each in arms or [None]]
    runs = {source.folder.path.resolve() for _, source in given if source is not None}
    sets = [_named(path, source, several=len(runs) > 1) for path, source in given]
    _refuse_twice(sets)
    return sets


def with_views(sets: Sequence[JudgedSet], given: Sequence[str]) -> list[JudgedSet]:
    """The sets with the labels of their views: those that are given, else those that a run stored.

    Args:
        given: ``FOLDER`` where there is one set, or ``SET=FOLDER``.

    Raises:
        InputError: there is no such set or folder, or a set has several.
    """
    found: dict[str, Path] = {}
    for text in given:
        of, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            of, path = "", text
        named = [each for each in sets if not of or of in (str(each), each.path, each.name)]
        if len(named) != 1:
            known = ", ".join(map(str, sets))
            raise InputError(
                f"--labels {text} must name one set, and fits {len(named) or 'none'} of {known}; write "
                "--labels SET=FOLDER with one of them"
            )
        if not Path(path).is_dir():
            raise InputError(f"--labels {text}: there is no folder {path}; name the folder of the labels")
        found[named[0].name] = Path(path)
    return [
        replace(
            each, views=found.get(each.name) or (None if each.source is None else views_of_run(each.source))
        )
        for each in sets
    ]


def _path_and_arm(text: str) -> tuple[str, str | None]:
    path, colon, arm = text.rpartition(":")
    return (path, arm) if colon and not Path(text).exists() and Path(path).exists() else (text, None)


def _named(path: str, source: RunSource | None, *, several: bool) -> JudgedSet:
    """Name a set after its arm, with the run's name where sets are of several, or after its folder."""
    if source is None:
        folder = Path(path).resolve()
        title = folder.parent.name if folder.name in ("train", "data", "images") else folder.name
    else:
        run = source.folder.path.resolve().name
        title = (
            f"{source.method.title or source.arm}, {run}" if several else source.method.title or source.arm
        )
    own = title if source is None else f"{run}-{source.arm}" if several else source.arm
    name = re.sub(r"[^A-Za-z0-9+_-]+", "_", own).strip("_") or "set"
    return JudgedSet(f"set-{name}" if name in TAKEN else name, title, path, source)


def _refuse_twice(sets: Sequence[JudgedSet]) -> None:
    places: dict[tuple[Path, str | None], JudgedSet] = {}
    names: dict[str, JudgedSet] = {}
    for each in sets:
        folder = Path(each.path) if each.source is None else each.source.folder.path
        first = places.setdefault((folder.resolve(), each.arm), each)
        if first is not each:
            raise InputError(f"{each} is given twice; give each set once")
        other = names.setdefault(each.name, each)
        if other is not each:
            raise InputError(
                f"{other} and {each} would both be called {each.name!r}; rename the folder of one, and give "
                "each set once"
            )


def refuse_deleting(sets: Sequence[JudgedSet], out: Path) -> None:
    """Refuse an output folder that holds a set, or lies in one, where what is there will be deleted."""
    for each in sets:
        folder = Path(each.path) if each.source is None else each.source.folder.path
        here, there = folder.resolve(), out.resolve()
        if there == here or there in here.parents or here in there.parents:
            raise InputError(
                f"{each} and --out {out} lie in one another, and --fresh would delete the set; choose "
                "another folder with --out"
            )
