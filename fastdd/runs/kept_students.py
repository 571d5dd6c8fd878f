"""The weights of a run's students, kept where ``student.keep`` asks for them, each with a card.

A kept student is a file like a teacher's, so that it can be one: ``teacher.weights=FILE``. Its card says from
which set it learned, under which protocol, and what it reaches.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

from ..config import CONTROL, FULL
from ..errors import InputError, suggestion
from ..run_folder import RunFolder, StudentResult, read, read_recipe
from ..runtime.console import counted
from ..runtime.files import write_bytes
from ..teachers import Card, Teacher, save_teacher
from ..teachers.card import Schooling
from ..teachers.weights import read_weights
from .label_stage import described_protocol
from .run import Run


def keep_student(
    run: Run, network: nn.Module, result: StudentResult, *, learned: str, student: str = ""
) -> None:
    """Write the weights of a trained student with its card.

    Args:
        learned: the arm that it learned from, or ``full``.
        student: a name in the recipe's ``students``.
    """
    experiment, teacher = run.experiment, run.teacher.card
    channels, height, width = experiment.real.shape
    is_full = learned == FULL
    card = Card(
        experiment.students[student].network,
        teacher.classes,
        channels,
        teacher.mean,
        std=teacher.std,
        accuracy=result.last,
        size=(height, width),
        data=experiment.real.train.fingerprint if is_full else result.learned_from,
        accuracy_on="validation" if experiment.real.evaluated_on == "validation" else None,
        student=Schooling(
            recipe=experiment.recipe.name,
            set=learned,
            students=student,
            seed=result.seed,
            protocol=described_protocol(run, student)[1],
        ),
    )
    save_teacher(run.folder.student_weights(learned, result.seed, student), Teacher(network, card))


class Exported(NamedTuple):
    """A student that was exported.

    Attributes:
        card: what it says of the student.
        schooling: what it says of the student's training.
    """

    path: Path
    card: Card
    schooling: Schooling


def export_students(
    folder: RunFolder, out: Path, *, arm: str | None = None, kind: str | None = None, seed: int | None = None
) -> list[Exported]:
    """Copy kept students of a run to a file, or to a folder where there may be several.

    Args:
        out: a new file ``NAME.safetensors``, for one student alone, or a folder that may exist.
        arm: the students of this arm, of ``random`` or of ``full`` alone.
        kind: those of this name in the recipe's ``students`` alone; empty: of its section ``student``.
        seed: those of this seed alone.

    Raises:
        InputError: the run kept none of these, or their weights are of another training than their
            accuracies; or they cannot be written to ``out``.
    """
    chosen = _chosen(folder, arm, kind, seed)
    is_file = out.suffix == ".safetensors"
    if is_file and len(chosen) > 1:
        raise InputError(
            f"--out {out} is one file, but {counted(len(chosen), 'student')} were kept; choose one with "
            "--arm, --students and --seed, or name a folder"
        )
    if out.exists() and (is_file or not out.is_dir()):
        raise InputError(f"--out {out} exists; name a new file NAME.safetensors, or a folder")
    exported = []
    for student, learned, number in chosen:
        source = folder.student_weights(learned, number, student)
        result = read(folder.student(learned, number, student), StudentResult)
        card = read_weights("the kept student", source).card
        if card is None or card.student is None or card.accuracy != result.last:
            raise InputError(
                f"{source} is of another training than its accuracy; delete it and start the `fastdd run` "
                "command again with student.keep=true"
            )
        name = "-".join(part for part in (student, learned, f"seed_{number}") if part)
        target = out if is_file else out / f"{name}.safetensors"
        if target.exists():
            raise InputError(f"{target} exists; name another folder with --out")
        exported.append((source, Exported(target, card, card.student)))
    for source, each in exported:
        write_bytes(each.path, source.read_bytes())
    return [each for _, each in exported]


def _chosen(
    folder: RunFolder, arm: str | None, kind: str | None, seed: int | None
) -> list[tuple[str, str, int]]:
    """The kept students that are asked for: kind, set and seed of each.

    Raises:
        InputError: an arm or a kind is unknown, or none of them was kept.
    """
    recipe = read_recipe(folder)
    sets, kinds = [CONTROL, *recipe.arms, FULL], recipe.all_students
    for option, value, known in (("--arm", arm, sets), ("--students", kind, [*kinds])):
        if value is not None and value not in known:
            names = ", ".join(filter(None, known))
            raise InputError(f"{option}: {folder} has no {value!r}{suggestion(value, known)}; it has {names}")
    kept = [
        (student, learned, number)
        for student, config in kinds.items()
        for learned in sets
        for number in range(config.seeds)
        if folder.student_weights(learned, number, student).is_file()
    ]
    if not kept:
        raise InputError(
            f"{folder} kept no students; start its `fastdd run` command again with student.keep=true, which "
            "trains them once more"
        )
    asked = [
        each
        for each in kept
        if kind in (None, each[0]) and arm in (None, each[1]) and seed in (None, each[2])
    ]
    if not asked:
        held = ", ".join(" ".join(filter(None, (student, name, str(n)))) for student, name, n in kept[:5])
        more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
        raise InputError(f"{folder} kept no such student; it has {held}{more}")
    return asked
