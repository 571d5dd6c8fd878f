"""``fastdd robust SET``: DD-Ranking's label- and augmentation-robust scores of a finished distilled set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..runtime.console import counted
from .console import new_table, refuse_diverged, say, show_table, spread
from .options import Commands, download, download_argument, held, request_of, set_arguments, written_text

if TYPE_CHECKING:
    from ..evaluate.dd_ranking import DDRanking, NetworkScores

TEXT = (
    "Tell what a distilled set is worth apart from its soft labels and its augmentation (DD-Ranking). "
    "Students learn the whole real training set and the distilled set with hard labels, and the distilled "
    "set and random real images with the protocol's labels, with and without its augmentation, all for one "
    "number of steps. Scores lie in [0, 1]; at 0.269 the set has no advantage and no loss."
)
ROWS = {
    "real_hard": ("whole real training set", "hard labels"),
    "synthetic_hard": ("distilled set", "hard labels"),
    "synthetic": ("distilled set", "as the protocol"),
    "random": ("random real images", "as the protocol"),
    "synthetic_plain": ("distilled set", "no augmentation"),
    "random_plain": ("random real images", "no augmentation"),
}


def add(commands: Commands) -> None:
    robust = commands.add_parser(
        "robust",
        help="score a distilled set apart from its soft labels and its augmentation",
        description=TEXT,
    )
    robust.add_argument("set", metavar="SET", help="a run's folder, or a folder of class folders")
    robust.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="override a value of the protocol, for example steps=500",
    )
    set_arguments(robust)
    download_argument(robust)
    robust.add_argument(
        "--weight",
        type=float,
        default=0.5,
        metavar="W",
        help="weight, 0 to 1, of the gain over random images against the loss with hard labels, and of "
        "augmented against plain students (default: 0.5)",
    )
    robust.add_argument(
        "--json",
        metavar="FILE",
        help="the file of scores, which keeps those of other weights and networks (default: "
        "robust-HASH.json in SET); the students of X.json are in X-students.json",
    )
    robust.set_defaults(run=_robust)


def _robust(arguments: argparse.Namespace) -> None:
    from ..evaluate.dd_ranking import open_dd_ranking
    from ..runtime.devices import device_of

    download(arguments, arguments.set, arguments.data)
    request = request_of(arguments, arguments.set)
    with held(request, "robust"):
        ranking = open_dd_ranking(request, device_of(arguments.device), arguments.weight)
        found = ranking.run()
        for network, scores in found.items():
            _print(ranking, network, scores)
    real = ranking.evaluation.real
    say(f"\nweight {ranking.weight:g}")
    say(f"students are tested on the {len(real.evaluation_set):,} {real.evaluated_on} images")
    say(written_text(request, ranking.path, ranking.evaluation.results.path))
    groups = [group for scores in found.values() for group in scores.groups.values()]
    refuse_diverged([line for group in groups for line in group.diverged], "lower lr=, or warm up for longer")


def _print(ranking: DDRanking, network: str, scores: NetworkScores) -> None:
    from ..evaluate import protocol_hash, protocol_text

    rows = new_table("students of", "trained with", "protocol", "last %")
    for name, group in scores.groups.items():
        rows.add_row(*ROWS[name], protocol_hash(group.config), spread(group.accuracies))
    config = scores.groups["synthetic"].config
    say(
        f"\n{ranking.evaluation.set.path}: {counted(len(ranking.evaluation.images), 'image')}; {network}, "
        f"{counted(config.seeds, 'student')} a row, each {counted(ranking.steps, 'step')} of "
        f"{counted(ranking.batch, 'image')}"
    )
    show_table(rows)
    say(f"protocol {config.protocol}: {protocol_text(config)}")
    if (label := scores.label) is None or (augmentation := scores.augmentation) is None:
        say("no scores: students that they need diverged")
        return
    say(
        f"label-robust score {label.score:.3f}: {_points(label.over_random)} over random real images, "
        f"{_points(-label.hard_label_loss)} with hard labels against the whole set; alpha {label.alpha:+z.3f}"
    )
    say(
        f"augmentation-robust score {augmentation.score:.3f}: {_points(augmentation.augmented)} over random "
        f"real images with augmentation, {_points(augmentation.plain)} without; beta "
        f"{augmentation.beta:+z.3f}"
    )


def _points(fraction: float) -> str:
    return f"{100 * fraction:+z.1f} points"
