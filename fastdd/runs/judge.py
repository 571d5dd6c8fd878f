"""The judge: finished sets of anybody's beside random real images and the whole set, in every regime.

A judgement is a run whose arms are given sets (given_sets.py), so that the table, metrics.json, the page,
continuing after a kill and torchrun are those of any run. Sets with other numbers of images a class are
judged in runs of their own, ``ipc-10``, ``ipc-50``, ..., each beside as many random real images, and have a
page in common. All that was asked for is trained and shown, and nothing goes out of a judgement again: sets
that are judged later into the same folder are added to those that are there, under the same protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ..errors import InputError, refusals_explained
from ..report import report_runs, require_page
from ..run_folder import RunFolder, read_manifest
from ..runtime.console import counted
from ..runtime.distributed import barrier, is_main
from ..runtime.lock import at_work, refuse_busy
from .experiment import check
from .judgement import JudgedSet, Judgement, JudgeRequest, earlier_judgement, find_sets, refuse_deleting
from .judgement_recipes import recipes
from .pipeline import RunResult
from .pipeline import run as run_pipeline


@refusals_explained()
def judge(request: JudgeRequest, out: Path, *, fresh: bool = False) -> list[RunResult]:
    """Judge finished sets; or continue where it was interrupted. All is checked before anything is written.

    Args:
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
    _refuse_idle_options(request)
    sets = find_sets(request.sets)
    if fresh:
        refuse_deleting(sets, out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose another folder with --out")
    # One process holds the folder for all of torchrun. Another judgement is waited for, and then added to.
    with at_work(out, "judge", waits=True) if is_main() else nullcontext():
        barrier()
        return _judge(request, sets, out, fresh=fresh)


def _refuse_idle_options(request: JudgeRequest) -> None:
    """Refuse what is said of students where none are trained."""
    said = {
        "--regimes": request.regimes,
        "--student": request.students,
        "--protocol": request.protocol,
        "--seeds": request.seeds,
        "--labels": request.labels,
        "--plain": request.plain,
        " ".join(request.overrides): request.overrides,
    }
    if request.trains is False and (idle := [option for option, value in said.items() if value]):
        raise InputError(
            f"{idle[0]} says how students are trained, and --no-students trains none; leave one out"
        )


def _judge(request: JudgeRequest, sets: Sequence[JudgedSet], out: Path, *, fresh: bool) -> list[RunResult]:
    """Judge into a folder that this process holds."""
    there = Judgement(out, {}, is_run=False) if fresh else earlier_judgement(out)
    by_ipc = recipes(request, sets, there)
    barrier()  # all have read what is there before any writes
    several = not there.is_run and (bool(there.recipes) or len(by_ipc) > 1)
    if there.is_run and (others := by_ipc.keys() - there.recipes.keys()):
        if not there.recipes:
            raise InputError(f"{out} is the folder of a run, and no judgement; choose another --out")
        (here,) = there.recipes
        raise InputError(
            f"{out} judges sets of {counted(here, 'image')} a class, and one now has {min(others)}; choose "
            f"another --out for it, or give --ipc {here}"
        )
    folders = {ipc: there.folder(ipc, several=several) for ipc in sorted({*by_ipc, *there.recipes})}
    if several and is_main():
        require_page(RunFolder(out).report)
    for ipc, recipe in by_ipc.items():
        if is_main() and several:
            refuse_busy(folders[ipc])
        experiment = check(recipe, folders[ipc], fresh=fresh, grows=True)
        for each in sets:
            if each.source is not None and request.data is None:
                for split in experiment.real.splits:
                    each.source.require_unchanged(split.split, split.fingerprint, "--data")
    for ipc, recipe in by_ipc.items():
        run_pipeline(recipe, folders[ipc], fresh=fresh, grows=True, held=not several)
    if several and is_main() and all(recipe.metrics.students for recipe in by_ipc.values()):
        report_runs(list(folders.values()), RunFolder(out).report)
    return [RunResult(RunFolder(folder), read_manifest(RunFolder(folder))) for folder in folders.values()]
