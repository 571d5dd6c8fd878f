"""``fastdd judge SET...``: what finished sets are worth, in every regime."""

from __future__ import annotations

import argparse
from pathlib import Path

from .console import refuse_diverged, say
from .options import Commands, Options, device_argument, download, download_argument, regimes_argument
from .stages import print_result, say_page

HELP = "tell what finished sets are worth beside random real images, in every regime"
TEXT = (
    "Judge finished sets, of runs or of anybody: students learn each set, as many random real images and the "
    "whole real training set, for the same steps, with hard labels, with stored labels and with a teacher "
    "that labels every view. Soft labels that came with a set are taken for the stored ones. Table, "
    "metrics.json and page show everything that was asked for; an interrupted judgement is continued, and "
    "sets that are judged into its folder later are added, as it judges: `fastdd judge C --out J`."
)


def add(commands: Commands) -> None:
    judge = commands.add_parser("judge", help=HELP, description=TEXT)
    _sets_arguments(judge)
    _students_arguments(judge.add_argument_group("students"))
    device_argument(judge)
    judge.add_argument(
        "--out",
        metavar="DIR",
        default="runs/judge",
        help="the folder, new or with a judgement to which sets are added (default: runs/judge)",
    )
    judge.add_argument(
        "--fresh", action="store_true", help="first delete an earlier judgement in that folder"
    )
    download_argument(judge)
    judge.set_defaults(run=_judge, overrides=[])


def _sets_arguments(judge: argparse.ArgumentParser) -> None:
    """Arguments that say which sets are judged, beside which real images."""
    judge.add_argument(
        "sets",
        nargs="+",
        metavar="SET",
        help="a run's folder (all its arms; RUN:ARM for one), a folder of class folders, a released set, or "
        "what `fastdd export` wrote; KEY=VALUE overrides a value of the protocol, for example steps=500, or "
        "of the teacher that is trained, for example teacher.epochs=10",
    )
    judge.add_argument(
        "--data",
        metavar="ROOT",
        help="the real images (default: as --out judges, else those of the first run)",
    )
    judge.add_argument(
        "--resize",
        type=int,
        metavar="PIXELS",
        help="shorter side of the real images before their center is cut out",
    )
    judge.add_argument(
        "--teacher",
        metavar="FILE",
        help="weights (default: as --out judges, else those of the first run, else a teacher with the "
        "network of the first students is trained on the real images)",
    )
    judge.add_argument(
        "--teacher-network",
        metavar="NETWORK",
        help="network of the teacher, needed where its weights have no card, or one that names a function, "
        "as package.module:function",
    )
    judge.add_argument(
        "--ipc", type=int, metavar="N", help="judge the first N stored images of each class (default: all)"
    )
    judge.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="[SET=]FOLDER",
        help="labels of the views of a set, which fastdd or the released FKD code stored: in the regime "
        "fixed students of a kind of their own learn them, beside random real images in the same views "
        "(default: those that a run stored)",
    )


def _students_arguments(students: Options) -> None:
    """Arguments that say which students are trained, and how."""
    regimes_argument(students, "as --out judges, else those three")
    students.add_argument(
        "--student",
        metavar="NETWORKS",
        help="networks to train, such as resnet20,convnet3 (default: as --out judges, else resnet20)",
    )
    students.add_argument(
        "--protocol", metavar="NAME", help="how students are trained (default: as --out judges, else house)"
    )
    students.add_argument(
        "--seeds", type=int, metavar="N", help="students of each kind (default: the protocol's number)"
    )
    students.add_argument(
        "--seed",
        type=int,
        metavar="SEED",
        help="seed of controls and students (default: as --out judges, else 0)",
    )
    students.add_argument(
        "--plain",
        action="store_true",
        help="with soft labels also train students without augmentation, which DD-Ranking's "
        "augmentation-robust score needs; its label-robust score is told wherever a soft and the hard regime "
        "and the whole set are there",
    )
    students.add_argument(
        "--no-full-set", action="store_true", help="train no students of the whole real training set"
    )
    students.add_argument(
        "--no-students",
        action="store_true",
        help="train no students: measure diversity and bytes, and look for test images and faults, alone",
    )


def _judge(arguments: argparse.Namespace) -> None:
    from ..config.student import read_regimes
    from ..report.verdicts import choices, verdicts
    from ..run_folder import RunFolder
    from ..runs.judge import judge
    from ..runs.judgement import JudgeRequest
    from ..runtime.distributed import is_main

    own = [text for text in arguments.sets if "=" in text and not Path(text).exists()]
    download(arguments, arguments.data, *own, *arguments.sets)
    values = [*own, *arguments.overrides]
    request = JudgeRequest(
        [text for text in arguments.sets if text not in own],
        data=arguments.data,
        teacher=Path(arguments.teacher) if arguments.teacher else None,
        teacher_network=arguments.teacher_network,
        ipc=arguments.ipc,
        labels=arguments.labels,
        plain=arguments.plain,
        regimes=() if arguments.regimes is None else read_regimes(arguments.regimes, "--regimes"),
        students=[name for name in (arguments.student or "").split(",") if name],
        protocol=arguments.protocol,
        overrides=[text for text in values if not text.startswith("teacher.")],
        teacher_overrides=[text for text in values if text.startswith("teacher.")],
        seeds=arguments.seeds,
        seed=arguments.seed,
        resize=arguments.resize,
        full_set=False if arguments.no_full_set else None,
        trains=False if arguments.no_students else None,
        device=arguments.device,
    )
    found = judge(request, Path(arguments.out), fresh=arguments.fresh)
    if not is_main():
        return
    for result in found:
        print_result(result)
        for sentence in (*verdicts(result.metrics), *choices(result.recipe, result.metrics)):
            say(sentence)
        say_page(result)
    if len(found) > 1 and not arguments.no_students:
        say(f"all sets by their images a class: open {RunFolder(Path(arguments.out)).report}")
    diverged = [line for result in found for line in result.metrics.diverged()]
    refuse_diverged(diverged, "lower lr=, or warm up for longer")
