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
from ..config import Data, Recipe
from ..config.regimes import REGIMES, Regime, in_regime
from ..config.validation import validated
from ..data.open import check_recorded_root
from ..distilled.runs import RunSource
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
from .judged_sets import JudgedSet, find_sets, refuse_deleting
from .pipeline import RunResult
from .pipeline import run as run_pipeline


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
    arms: dict[int, dict[str, object]] = {}
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
        method = found.method(ipc, each.title, each.path, each.arm)
        arms.setdefault(ipc, {})[each.name] = method.model_dump(mode="json")
    assert shape is not None  # there is a set
    teacher = {"network": card.network, "weights": str(weights), "mean": card.mean, "std": card.std}
    (_, student), *further = _students(request, len(card.classes), shape)
    common = {
        "name": "judge",
        "description": f"Judged beside random real images: {', '.join(map(str, sets))}.",
        "seed": request.seed,
        "device": request.device,
        "data": _data(request, first, card.channels, shape[1]),
        "teacher": teacher,
        "student": student,
        "students": dict(further),
        "metrics": {"full_set": request.full_set},
    }
    return {
        ipc: validated(Recipe, {**common, "ipc": ipc, "arms": of_size}, "judge")
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


def _students(
    request: JudgeRequest, classes: int, shape: tuple[int, int, int]
) -> list[tuple[str, dict[str, object]]]:
    """The kinds of students, by name: every network in every regime."""
    seeds = [] if request.seeds is None else [f"seeds={request.seeds}"]
    config = resolve_student({}, request.protocol, [*request.overrides, *seeds])
    found: list[tuple[str, dict[str, object]]] = []
    for name in networks_of(request.students, shape[1]) or [config.network]:
        network = network_for("--student", name, classes, shape)
        student = config.model_copy(update={"network": network})
        for regime in request.regimes:
            safe = re.sub(r"[^A-Za-z0-9+_-]+", "_", f"{network}-{regime}")
            values = in_regime(student, regime)
            unsaved = {"keep": values.keep, "checkpoint_every": values.checkpoint_every}
            found.append((safe, values.model_dump(mode="json") | unsaved))
    return found


def _data(request: JudgeRequest, first: RunSource | None, channels: int, side: int) -> dict[str, object]:
    """The real images: those that are asked for, or else those of the first run among the sets."""
    data = (Data() if first is None else first.recipe.data).model_dump(mode="json")
    data["channels"] = channels
    if first is None:
        data["size"] = side
    if request.resize is not None:
        data["resize"] = request.resize
    if request.data is not None:
        data["root"] = request.data
    elif first is not None:
        check_recorded_root(first.recipe.data.root, "--data")
    return data


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
    for name, number in (("--ipc", request.ipc), ("--resize", request.resize)):
        if number is not None and number < 1:
            raise InputError(f"{name} {number} is not possible; expected 1 or more")
    sets = find_sets(request.sets)
    if fresh:
        refuse_deleting(sets, out)
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
