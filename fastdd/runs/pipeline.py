"""The stages of a run in order: teachers -> banks -> experts -> images -> labels -> students -> report.

``STAGES`` is the whole of it. Each stage asks the run folder what is missing and does only that, so a run
that was killed continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..config import Recipe
from ..config.naming import student_section
from ..cost.subject import Sizes, Subject
from ..cost.trial import outlook_text
from ..data import summary
from ..errors import InputError
from ..run_folder import RunFolder, Session, open_run
from ..run_folder.comparison import Fractions
from ..runtime.distributed import is_main, say_once, under_torchrun, world_size
from ..runtime.events import Receiver
from ..runtime.files import explained, write_json
from ..runtime.lock import at_work, await_gone, refuse_busy
from ..runtime.precision import float32_products
from ..runtime.seeds import seeded
from ..trackers import require_trackers, tracked
from . import student_stage
from .experiment import Experiment, check
from .label_stage import label_all_arms, label_arms
from .metrics_stage import write_metrics
from .recover_stage import recover_arms
from .result import RunResult
from .run import Run
from .student_stage import train_students
from .teacher_stage import build_banks, squeeze, train_experts

# -- the stages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A step of every run.

    Attributes:
        name: the value of ``until`` that stops after it.
        needs, makes: what it reads and what it writes, in words.
        do: does what the run folder lacks.
        do_last: does it where the run stops after this stage, which someone then wants for itself; None:
            ``do``.
        do_part: does no more of that than a range of classes or units, where many jobs may share the stage.
        alone: only the main process of torchrun does it; in other stages all processes share the work.
    """

    name: str
    needs: str
    makes: str
    do: Callable[[Run], None]
    do_last: Callable[[Run], None] | None = None
    do_part: Callable[[Run, range], None] | None = None
    alone: bool = False


def _evaluate(run: Run) -> None:
    train_students(run)
    if is_main():
        write_metrics(run)


def _squeeze_and_show(run: Run) -> None:
    """Squeeze, and write the page of the snapshots where the recipe asks for some."""
    squeeze(run)
    kept = [
        run.folder.snapshots(each.name)
        for each in run.experiment.working_teachers.values()
        if each.config.snapshots
    ]
    if not kept or not is_main():
        return
    from ..report import report_squeeze

    page = run.folder.squeeze_page
    newest = max(path.stat().st_mtime_ns for path in kept)
    if not page.is_file() or page.stat().st_mtime_ns < newest:
        report_squeeze(run.folder.path)


def _report(run: Run) -> None:
    from ..report import report

    page, metrics = run.folder.report, run.folder.metrics
    is_current = page.is_file() and page.stat().st_mtime_ns >= metrics.stat().st_mtime_ns
    if is_current and not run.session.stages:  # nothing of what it shows was made after it
        return
    with run.session.stage("report"):
        report(run.folder.path)


STAGES = (
    Stage("squeeze", needs="real images", makes="teachers", do=squeeze, do_last=_squeeze_and_show),
    Stage("bank", needs="real images, teachers", makes="banks", do=build_banks, do_part=build_banks),
    Stage("experts", needs="real images", makes="experts, where an arm follows some", do=train_experts),
    Stage("recover", needs="teachers, banks, experts", makes="images", do=recover_arms, do_part=recover_arms),
    Stage(
        "label",
        needs="teachers, images",
        makes="soft labels, where students read them",
        do=label_arms,
        do_last=label_all_arms,
    ),
    Stage("evaluate", needs="images, soft labels", makes="students, metrics", do=_evaluate),
    Stage("report", needs="all that was made", makes="the page", do=_report, alone=True),
)


# -- running them --------------------------------------------------------------------------------


@float32_products("fp32")  # whatever has no precision of its own in the recipe
def run(
    recipe: Recipe,
    out: Path,
    *,
    fresh: bool = False,
    until: str = "report",
    part: range | None = None,
    earlier: Sequence[Path] = (),
    reduced: Mapping[str, str] | None = None,
    on_event: Receiver | None = None,
    outlook: bool = False,
    grows: bool = False,
    held: bool = False,
) -> RunResult:
    """Run a recipe into a folder; the arguments and errors are those of ``fastdd.run``.

    Args:
        earlier: folders of finished runs of the same sweep, as ``Run`` has them.
        reduced: what arms have less of than their methods, as ``Run`` has it; None: nothing is known.
        grows: the recipe may have arms that the run in the folder lacks, and the run then gets them.
        held: the caller holds the folder, which nobody else works in.
    """
    names = [stage.name for stage in STAGES]
    if until not in names:
        raise InputError(f"until must be one of {', '.join(names)}, got {until!r}")
    last = STAGES[names.index(until)]
    if part is not None and last.do_part is None:
        raise InputError(f"a part is one of the bank's classes or recover's units; until is {until!r}")
    require_trackers(recipe)
    shared = part is not None and not fresh  # who deletes the run must be alone in it
    command = "run" if until == "report" else until
    holds = is_main() and not held  # the main process holds the folder for all processes of torchrun
    if holds:
        with explained(out):
            if under_torchrun():  # which may have lost the machine that held it
                await_gone(out)
            refuse_busy(out, shared=shared)
    with seeded(recipe.seed):
        experiment = check(
            recipe,
            out,
            fresh=fresh,
            grows=grows,
            classes=part if until == "bank" else None,
            units=part if until == "recover" else None,
            trains=until in ("evaluate", "report"),
        )
        with at_work(out, command, shared=shared) if holds else nullcontext():
            session = begin(experiment, out, fresh=fresh, shared=shared, grows=grows)
            work = Run(experiment, session, tuple(map(RunFolder, earlier)), reduced or {})
            if outlook and is_main() and not session.manifest.stages:
                subject = Subject(experiment.recipe, Sizes.of(experiment.real, experiment.recipe.data.root))
                say_once(f"{recipe.name} {outlook_text(subject, experiment.device, world_size())}")
            with tracked(work.folder, recipe, on_event):
                _do_stages(work, last, part)
        return RunResult(work.folder, work.session.manifest)


def _do_stages(work: Run, last: Stage, part: range | None) -> None:
    """Do what the run folder lacks of the stages up to ``last``."""
    for stage in STAGES[: STAGES.index(last) + 1]:
        if stage.alone and not is_main():
            continue
        if stage is last and stage.do_part is not None and part is not None:
            stage.do_part(work, part)
        elif stage is last and stage.do_last is not None:
            stage.do_last(work)
        else:
            stage.do(work)


@float32_products("fp32")
def accuracies_on_test(recipe: Recipe, out: Path, arms: Sequence[str]) -> dict[str, Fractions]:
    """Read the test images for some arms of a finished run with validation images (see student_stage).

    Raises:
        InputError: the run folder is in use, or is not of the recipe.
    """
    if is_main():
        refuse_busy(out)
    with seeded(recipe.seed):
        experiment = check(recipe, out)
        with at_work(out, "sweep") if is_main() else nullcontext():
            work = Run(experiment, begin(experiment, out))
            with tracked(work.folder, recipe):
                return student_stage.accuracies_on_test(work, arms)


def begin(
    experiment: Experiment, out: Path, *, fresh: bool = False, shared: bool = False, grows: bool = False
) -> Session:
    """Open the run folder of an experiment that was checked, and note there what its data is.

    Args:
        fresh: delete an earlier run in it first.
        shared: other jobs may be at work in it.
        grows: the experiment may have arms that the run in the folder lacks.

    Raises:
        InputError: the folder's run began with other data.
    """
    recipe, real = experiment.recipe, experiment.real
    left_out = experiment.full_set_left_out()
    session = open_run(
        out, recipe, fresh=fresh, shared=shared, grows=grows, full_set_left_out=left_out, skipped=real.skipped
    )
    for split in real.splits:
        session.check_fingerprint(split.split, split.fingerprint)
    for arm, candidates in experiment.candidates.items():
        session.check_fingerprint(f"set of candidates of {arm}", candidates.fingerprint)
    for student, digest in experiment.student_structures().items():
        session.check_fingerprint(f"{student_section(student)} network", digest)
    if is_main() and not session.folder.data.is_file():
        write_json(session.folder.data, [summary(split) for split in real.splits])
    return session
