"""The judge: finished sets of anybody's beside random real images and the whole set, in every regime.

A judgement is a run whose arms are given sets (given_sets.py), so that the table, metrics.json, the page,
continuing after a kill and torchrun are those of any run. Sets with other numbers of images a class are
judged in runs of their own, ``ipc-10``, ``ipc-50``, ..., each beside as many random real images, and have a
page in common. All that was asked for is trained and shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .. import teachers
from ..config import CONTROL, FULL, Data, Method, Metrics, Recipe, Student
from ..config import Teacher as TeacherConfig
from ..config.regimes import REGIMES, Regime, in_regime
from ..data.open import check_recorded_root
from ..distilled import require_folder
from ..distilled.runs import RunSource, arm_of, read_source, run_of
from ..errors import InputError, refusals_explained
from ..models.outline import network_for
from ..models.student_names import students as networks_of
from ..recipes.students import resolve_student
from ..report import report_runs, require_page
from ..run_folder import RunFolder
from ..runtime.console import counted
from ..runtime.distributed import is_main
from ..runtime.lock import at_work, refuse_busy
from ..runtime.seeds import seeded
from .experiment import check
from .given_sets import OpenSet, open_given
from .pipeline import RunResult
from .pipeline import run as run_pipeline

TAKEN = (CONTROL, FULL, "real", "real_labels")
"""names that no set may have in a run"""


@dataclass(frozen=True)
class JudgeRequest:
    """Which sets are judged, and how.

    Attributes:
        sets: folders; of a run all arms, or RUN:ARM.
        data: root of the real images; None: those of the first run among the sets.
        teacher: weights with a card; None: those of the first run.
        teacher_network: the teacher's network, where its card names a function; None: the card's.
        ipc: stored images of each class that are judged, the first ones of each set; None: all.
        regimes: the regimes.
        students: names of networks (models/student_names.py); empty: the protocol's network.
        protocol: name of a preset; None: the house's.
        overrides: ``key=value`` texts of the protocol.
        seeds: students of each kind; None: the protocol's number.
        seed: seed of the control and the students.
        resize: shorter side in pixels of the real images before their center is cut out; None: the run's.
        full_set: whether students learn from the whole training set; auto: where its images fit into memory.
        device: auto, cpu or cuda.
    """

    sets: Sequence[str]
    data: str | None = None
    teacher: Path | None = None
    teacher_network: str | None = None
    ipc: int | None = None
    regimes: Sequence[Regime] = tuple(REGIMES)
    students: Sequence[str] = ()
    protocol: str | None = None
    overrides: Sequence[str] = ()
    seeds: int | None = None
    seed: int = 0
    resize: int | None = None
    full_set: bool | Literal["auto"] = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class JudgedSet:
    """A set that is judged.

    Attributes:
        name: the name of its arm.
        title: what tables call it.
        path: its folder, as it was given.
        source: the run that it comes from; None: it is no run's.
    """

    name: str
    title: str
    path: str
    source: RunSource | None

    @property
    def arm(self) -> str | None:
        """Its arm in that run."""
        return None if self.source is None else self.source.arm

    def __str__(self) -> str:
        return self.path if self.arm is None else f"{self.path}:{self.arm}"


# -- which sets ------------------------------------------------------------------------------------


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
                raise InputError(f"{path} is no run folder, so it has no arm {arm!r}; give {path}")
            given.append((path, None))
            continue
        run, named = found
        arms = [arm or named] if arm or named else [each for each in run.arms() if each != CONTROL]
        given += [(path, read_source(run, arm_of(run, each))) for each in arms or [None]]
    runs = {source.folder.path.resolve() for _, source in given if source is not None}
    sets = [_named(path, source, several=len(runs) > 1) for path, source in given]
    _refuse_twice(sets)
    return sets


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


# -- the recipes that judge them -------------------------------------------------------------------


def recipes(request: JudgeRequest, sets: Sequence[JudgedSet]) -> dict[int, Recipe]:
    """The recipe that judges the sets of each number of images a class, by that number.

    Raises:
        InputError: a set cannot be read or does not fit the teacher, the other sets or what is asked for.
    """
    first = next((each.source for each in sets if each.source is not None), None)
    weights = request.teacher or (None if first is None else first.folder.teacher())
    if weights is None:
        raise InputError(
            f"{sets[0]} is no run, so it has no teacher; give one with --teacher FILE.safetensors"
        )
    if request.data is None and first is None:
        raise InputError(f"{sets[0]} is no run, so its real images are unknown; give them with --data ROOT")
    with seeded(0):  # its network is built with random weights, before it gets its own
        card = teachers.open_teacher(weights, torch.device("cpu"), request.teacher_network).card
    arms: dict[int, dict[str, Method]] = {}
    shape: tuple[int, int, int] | None = None
    for each in sets:
        found = open_given(Path(each.path), each.arm, card.classes, 3 if card.channels == 3 else 1)
        channels, height, width = found.set.images.shape[1:]
        if shape is not None and shape != (channels, height, width):
            raise InputError(
                f"the images of {sets[0]} are {shape[1]} x {shape[2]} pixels, those of {each} {height} x "
                f"{width}; judge sets of one size together"
            )
        shape, ipc = (channels, height, width), _images_a_class(each, found, request.ipc)
        arms.setdefault(ipc, {})[each.name] = found.method(ipc, each.title, each.path, each.arm)
    assert shape is not None  # there is a set
    kinds = _students(request, len(card.classes), shape)
    teacher = TeacherConfig(network=card.network, weights=str(weights), mean=card.mean, std=card.std)
    student, *further = kinds.values()
    return {
        ipc: Recipe(
            name="judge",
            description=f"Judged beside random real images: {', '.join(map(str, sets))}.",
            ipc=ipc,
            seed=request.seed,
            device=request.device,
            data=_data(request, first, card.channels, shape[1]),
            teacher=teacher,
            arms=of_size,
            student=student,
            students=dict(zip(list(kinds)[1:], further, strict=True)),
            metrics=Metrics(full_set=request.full_set),
        )
        for ipc, of_size in sorted(arms.items())
    }


def _images_a_class(each: JudgedSet, found: OpenSet, wanted: int | None) -> int:
    """Stored images of each class that are judged."""
    fewest, most = min(found.counts), max(found.counts)
    if wanted is None and fewest != most:
        raise InputError(
            f"{each} has {counted(fewest, 'image')} of one class and {most} of another; --ipc {fewest} takes "
            "the first ones of every class"
        )
    if wanted is not None and fewest < wanted:
        raise InputError(
            f"{each} has {counted(fewest, 'image')} of a class, but --ipc is {wanted}; set it to {fewest} or "
            "less"
        )
    return wanted or fewest


def _students(request: JudgeRequest, classes: int, shape: tuple[int, int, int]) -> dict[str, Student]:
    """The kinds of students by name: every network in every regime."""
    seeds = [] if request.seeds is None else [f"seeds={request.seeds}"]
    config = resolve_student({}, request.protocol, [*request.overrides, *seeds])
    names = networks_of(request.students, shape[1]) or [config.network]
    found: dict[str, Student] = {}
    for name in names:
        network = network_for("--student", name, classes, shape)
        student = config.model_copy(update={"network": network})
        safe = re.sub(r"[^A-Za-z0-9+_-]+", "_", network)
        found |= {f"{safe}-{regime}": in_regime(student, regime) for regime in request.regimes}
    return found


def _data(request: JudgeRequest, first: RunSource | None, channels: int, side: int) -> Data:
    """The real images: those that are asked for, or else those of the first run among the sets."""
    changes: dict[str, object] = {"channels": channels}
    if first is None:
        changes["size"] = side
    if request.resize is not None:
        changes["resize"] = request.resize
    if request.data is not None:
        changes["root"] = request.data
    elif first is not None:
        check_recorded_root(first.recipe.data.root, "--data")
    return (Data() if first is None else first.recipe.data).model_copy(update=changes)


# -- judging ---------------------------------------------------------------------------------------


@refusals_explained()
def judge(request: JudgeRequest, out: Path, *, fresh: bool = False) -> list[RunResult]:
    """Judge finished sets; or continue where it was interrupted. All is checked before anything is written.

    Args:
        request: which sets, and how.
        out: the run folder, or the one above those of several numbers of images a class.
        fresh: delete an earlier judgement in the folder first.

    Returns:
        A run for each number of images a class.

    Raises:
        InputError: bad input, or the folder holds something else.
    """
    sets = find_sets(request.sets)
    by_ipc = recipes(request, sets)
    several = len(by_ipc) > 1
    folders = {ipc: out / f"ipc-{ipc}" if several else out for ipc in by_ipc}
    if several and RunFolder(out).recipe.exists():
        raise InputError(f"{out} is the folder of one run, but these sets take several; choose another --out")
    if several and is_main():
        require_page(RunFolder(out).report)
    for ipc, recipe in by_ipc.items():
        if is_main():
            refuse_busy(folders[ipc])
        experiment = check(recipe, folders[ipc], fresh=fresh)
        for each in sets:
            if each.source is not None and request.data is None:
                for split in experiment.real.splits:
                    each.source.require_unchanged(split.split, split.fingerprint, "--data")
    with at_work(out, "judge") if several and is_main() else nullcontext():
        found = [run_pipeline(recipe, folders[ipc], fresh=fresh) for ipc, recipe in by_ipc.items()]
        if several and is_main():
            report_runs(list(folders.values()), RunFolder(out).report)
    return found
