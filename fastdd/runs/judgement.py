"""What a judgement is asked for, and what its folder holds already.

Sets that are judged later into the same folder become further arms of the recipe that is there; what is not
said of data, teacher and students is as that recipe has it (judgement_recipes.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..config import CONTROL, FULL, Method, Recipe
from ..config.student import Regime
from ..distilled import require_folder, set_name
from ..distilled.runs import RunSource, arm_of, read_source, run_of
from ..errors import InputError
from ..run_folder import RunFolder, read_recipe
from .given_views import views_of_run


@dataclass(frozen=True)
class JudgeRequest:
    """Which sets are judged, and how.

    Attributes:
        sets: folders; of a run all arms, or RUN:ARM.
        data: root of the real images; None: those of the judgement in the folder, else of the first run among
            the sets.
        teacher: weights; None: likewise, and where there is no run among the sets one is trained on the real
            images.
        teacher_network: the teacher's network, where its card names a function or there is none; None: the
            card's.
        ipc: stored images of each class that are judged, the first ones of each set; None: all.
        labels: labels of the views of sets, each ``SET=FOLDER``, or ``FOLDER`` of the only set; of runs those
            that they stored are found.
        plain: with soft labels also train students without augmentation, for the augmentation-robust score.
        regimes: the regimes; empty: those of the judgement in the folder, else all.
        students: names of networks (models/registry.py); empty: likewise, else the protocol's network.
        protocol: name of a preset; None: the house's.
        overrides: ``key=value`` texts of the protocol.
        teacher_overrides: ``teacher.key=value`` texts: how the teacher is trained, or mean and std of weights
            without a card.
        seeds: students of each kind; None: the protocol's number.
        seed: seed of the control and the students; None: that of the judgement in the folder, else 0.
        resize: shorter side in pixels of the real images before their center is cut out; None: the run's.
        full_set: whether students learn from the whole training set; auto: where its images fit into memory;
            None: as in the judgement in the folder, else auto.
        trains: false: no students are trained, and the sets are measured and checked alone; None: as in the
            judgement in the folder, else true.
        device: auto, cpu or cuda.
    """

    sets: Sequence[str]
    data: str | None = None
    teacher: Path | None = None
    teacher_network: str | None = None
    ipc: int | None = None
    labels: Sequence[str] = ()
    plain: bool = False
    regimes: Sequence[Regime] = ()
    students: Sequence[str] = ()
    protocol: str | None = None
    overrides: Sequence[str] = ()
    teacher_overrides: Sequence[str] = ()
    seeds: int | None = None
    seed: int | None = None
    resize: int | None = None
    full_set: bool | Literal["auto"] | None = None
    trains: bool | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Judgement:
    """What a folder holds of an earlier judgement.

    Attributes:
        recipes: the recipe of each number of images a class, by that number; empty: there is no judgement.
        is_run: the folder itself is the run folder, of the only number of images a class.
    """

    out: Path
    recipes: Mapping[int, Recipe]
    is_run: bool

    @property
    def first(self) -> Recipe | None:
        """A recipe that says how sets are judged here; None: there is none."""
        return next(iter(self.recipes.values()), None)

    def folder(self, ipc: int, *, several: bool) -> Path:
        """The run folder of the sets with a number of images a class."""
        return self.out / f"ipc-{ipc}" if several else self.out

    def arms(self, ipc: int) -> dict[str, Method]:
        """The sets with a number of images a class, as arms by name."""
        return dict(self.recipes[ipc].arms) if ipc in self.recipes else {}

    def arm_of(self, ipc: int, each: JudgedSet) -> str | None:
        """The arm that a set already is; None: it is none yet."""
        for name, method in self.arms(ipc).items():
            given = method.given
            if given is not None and is_same_place(given.path, each.path) and given.arm == each.arm:
                return name
        return None


def earlier_judgement(out: Path) -> Judgement:
    """What a folder holds of an earlier judgement; none where it holds something else.

    Raises:
        InputError: a recipe there is damaged or was edited.
    """
    is_run = RunFolder(out).recipe.is_file()
    folders = [RunFolder(out)] if is_run else [RunFolder(each) for each in sorted(out.glob("ipc-*"))]
    found = [read_recipe(folder) for folder in folders if folder.recipe.is_file() and folder.is_run()]
    return Judgement(out, {each.ipc: each for each in found if each.is_judgement}, is_run)


def is_same_place(one: str, other: str) -> bool:
    """Whether two paths lead to the same place."""
    return Path(one).resolve() == Path(other).resolve()


TAKEN = (CONTROL, FULL, "real", "real_labels")
"""names that no set may have in a run"""


def safe(name: str) -> str:
    """A name that folders may have too."""
    return re.sub(r"[^A-Za-z0-9+_-]+", "_", name).strip("_")


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
        return safe(f"{above.name}-{self.name}")

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
        title = set_name(path)
    else:
        run = source.folder.path.resolve().name
        title = (
            f"{source.method.title or source.arm}, {run}" if several else source.method.title or source.arm
        )
    own = title if source is None else f"{run}-{source.arm}" if several else source.arm
    name = safe(own) or "set"
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
