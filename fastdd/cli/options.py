"""Types and options that several commands share; sets are evaluated by ``evaluate`` and ``robust``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ..config import Data
    from ..distilled.sets import ListedSet
    from ..evaluate.evaluation import EvaluationRequest


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""where a module of this folder adds its commands"""
Options: TypeAlias = "argparse.ArgumentParser | argparse._ArgumentGroup"
"""a parser, or a group of its options"""


def regimes_argument(group: Options, default: str = "the labels of the students' protocol") -> None:
    """Add the option that names the regimes; the default is told in words."""
    group.add_argument(
        "--regimes",
        metavar="NAMES",
        help="labels that students of each kind learn, one after the other, such as hard,fixed,online; "
        "hard: the classes of the images, fixed: stored soft labels, online: a teacher labels every view "
        f"(default: {default})",
    )


def download_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets a command download sets of the hub."""
    parser.add_argument(
        "--download",
        action="store_true",
        help="download sets hf:ORG/NAME that the cache lacks (default: download nothing)",
    )


def download(arguments: argparse.Namespace, *names: str | None) -> None:
    """Download the sets of the hub among the names, where ``--download`` asks for it."""
    from ..runtime.hub import download_named

    if arguments.download:
        download_named(names)


def real_root(arguments: argparse.Namespace, distilled: ListedSet) -> tuple[str, Data | None]:
    """The root of a set's real images: ``--real``, else that of its run, whose section ``data`` is given too.

    Raises:
        InputError: the set is no run's and there is no ``--real``, or see ``check_recorded_root``.
    """
    from ..data.open import check_recorded_root
    from ..errors import InputError

    if arguments.real is not None:
        return arguments.real, None
    if distilled.source is None:
        raise InputError(f"{arguments.set} is no run, which would name its real set; give --real ROOT")
    data = distilled.source.recipe.data
    check_recorded_root(data.root, "--real")
    return data.root, data


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The overrides of a command that takes a recipe, with what ``--regimes`` says."""
    regimes = [] if arguments.regimes is None else [f"regimes={arguments.regimes}"]
    return [*arguments.overrides, *regimes]


def device_argument(group: Options) -> None:
    """Add the option that names the device."""
    group.add_argument(
        "--device", default="auto", help="auto, cpu or cuda (default: auto, which is cuda where there is one)"
    )


def set_arguments(group: Options) -> None:
    """Add the options that say how a set is evaluated."""
    group.add_argument(
        "--student",
        metavar="NETWORKS",
        help="networks to train, such as resnet18,convnet; papers: those of all cross-architecture tables; "
        "deda, dire: those of one paper's table of images of this size",
    )
    group.add_argument(
        "--protocol",
        metavar="NAME",
        help="how students are trained, such as sre2l-cifar or rded, or a name in the run's section "
        "students (default: as in its section student, or house)",
    )
    group.add_argument("--teacher", metavar="FILE", help="weights with a card (default: those of the run)")
    group.add_argument(
        "--teacher-network",
        metavar="NETWORK",
        help="network of the teacher, needed where its card names a function, as package.module:function",
    )
    group.add_argument("--data", metavar="ROOT", help="the real images (default: those of the run)")
    group.add_argument(
        "--resize",
        type=int,
        metavar="PIXELS",
        help="shorter side of the real images before their center is cut out",
    )
    group.add_argument(
        "--on",
        choices=("validation", "test"),
        help="images that students are tested on, of a run with data.validation (default: those of the run's "
        "data.evaluate; the validation images for scores)",
    )
    group.add_argument("--arm", metavar="NAME", help="the arm, where SET is a run with several")
    group.add_argument(
        "--seeds", type=int, metavar="N", help="students of each network (default: the protocol's number)"
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="SEED",
        help="seed of controls and students (default: that of the run, or 0)",
    )
    device_argument(group)


@contextmanager
def held(request: EvaluationRequest, command: str) -> Iterator[None]:
    """Hold the folder into which the students of a set are written, or try its file of ``--json``.

    Raises:
        InputError: another process is at work there, or it cannot be written.
    """
    from ..distilled.runs import run_of
    from ..errors import InputError
    from ..runtime.files import require_writable
    from ..runtime.hub import is_hub
    from ..runtime.lock import at_work

    run = run_of(request.path)
    folder = run[0].path if run else request.path
    if request.json is None and is_hub(request.path):
        raise InputError(
            f"{request.path} lies in the cache of the hub, into which nothing is written; name the file of "
            "results with --json"
        )
    if request.json is not None:
        require_writable(request.json, "name another file with --json")
        yield
    elif not folder.is_dir():  # the evaluation says so
        yield
    else:
        with at_work(folder, command, remedy="name a file elsewhere with --json"):
            yield


def written_text(request: EvaluationRequest, *files: Path) -> str:
    """Where results are, and how to have them elsewhere where that is in the folder of the set."""
    elsewhere = "" if request.json is not None else " (--json FILE writes elsewhere)"
    return f"written: {' and '.join(map(str, files))}{elsewhere}"


def request_of(
    arguments: argparse.Namespace, path: str, *, control: bool = True, full: bool | Literal["auto"] = "auto"
) -> EvaluationRequest:
    """The request to evaluate the set at ``path``.

    Args:
        full: also evaluate the whole real training set; auto: where its images fit into memory.
    """
    from ..config.student import read_regimes
    from ..evaluate.evaluation import EvaluationRequest

    regimes = getattr(arguments, "regimes", None)
    return EvaluationRequest(
        Path(path),
        students=[name for name in (arguments.student or "").split(",") if name],
        regimes=[] if regimes is None else read_regimes(regimes, "--regimes"),
        protocol=arguments.protocol,
        overrides=arguments.overrides,
        teacher=Path(arguments.teacher) if arguments.teacher else None,
        teacher_network=arguments.teacher_network,
        data=arguments.data,
        resize=arguments.resize,
        on=arguments.on,
        arm=arguments.arm,
        seeds=arguments.seeds,
        seed=arguments.seed,
        json=Path(arguments.json) if arguments.json else None,
        control=control,
        full=full,
    )
