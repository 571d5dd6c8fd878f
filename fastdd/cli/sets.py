"""Options of the commands that evaluate a distilled set, and the request that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..evaluate.evaluation import EvaluationRequest


def set_arguments(group: Any) -> None:
    """Add the options that say how a set is evaluated; ``group`` is a parser or one of its groups."""
    group.add_argument(
        "--student",
        metavar="NETWORKS",
        help="one or several, such as resnet18,convnet; papers: those of their tables",
    )
    group.add_argument(
        "--protocol", metavar="NAME", help="how papers train students, such as sre2l-cifar or rded"
    )
    group.add_argument("--teacher", metavar="FILE", help="weights with a card (default: the run's)")
    group.add_argument("--data", metavar="ROOT", help="the real images (default: the run's)")
    group.add_argument(
        "--resize", type=int, metavar="PIXELS", help="their shorter side before the center is cut out"
    )
    group.add_argument("--arm", metavar="NAME", help="of a run with several")
    group.add_argument("--seeds", type=int, metavar="N", help="students a network (default: the protocol's)")
    group.add_argument(
        "--seed", type=int, metavar="SEED", help="of controls and students (default: the run's, or 0)"
    )
    group.add_argument("--device", default="auto", help="auto, cpu or cuda")


def request_of(arguments: argparse.Namespace, path: str, **more: Any) -> EvaluationRequest:
    """The request to evaluate the set at ``path``.

    Args:
        more: further attributes of the request.
    """
    from ..evaluate.evaluation import EvaluationRequest

    return EvaluationRequest(
        Path(path),
        students=[name for name in (arguments.student or "").split(",") if name],
        protocol=arguments.protocol,
        overrides=arguments.overrides,
        teacher=Path(arguments.teacher) if arguments.teacher else None,
        data=arguments.data,
        resize=arguments.resize,
        arm=arguments.arm,
        seeds=arguments.seeds,
        seed=arguments.seed,
        json=Path(arguments.json) if arguments.json else None,
        **more,
    )
