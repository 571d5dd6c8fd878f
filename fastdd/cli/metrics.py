"""``fastdd metrics SET --real ROOT --teacher FILE``: diversity metrics of any set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.console import counted
from .console import new_table, say, show_table
from .options import Commands, device_argument, download, download_argument, real_root

if TYPE_CHECKING:
    from ..distilled import ListedSet
    from ..evaluate import Extractor, SetScores

FACTS = {"set", "real", "split", "fingerprint", "features", "size", "class_names"}
"""keys of the file of scores that say what was measured"""


TEXT = (
    "Measure how much of the real images a set covers, and how diverse its images are, in the embeddings of "
    "a network: coverage, density, precision, recall, the Vendi score and the mean cosine of pairs of a "
    "class. No student is trained."
)


def add(commands: Commands) -> None:
    metrics = commands.add_parser(
        "metrics",
        help="measure coverage, density, precision, recall, Vendi score and cosine of any set",
        description=TEXT,
    )
    metrics.add_argument(
        "set", metavar="SET", help="a run folder, folders new000/class000_id000.jpg, or an ImageFolder"
    )
    metrics.add_argument("--arm", metavar="NAME", help="the arm of a run (default: all but the control)")
    metrics.add_argument("--real", metavar="ROOT", help="the real set (default: that of the run)")
    metrics.add_argument(
        "--split", default="train", help="split of the real set: train or test (default: train)"
    )
    metrics.add_argument(
        "--teacher",
        metavar="FILE",
        help="network whose embeddings are compared (default: the teacher of the run)",
    )
    metrics.add_argument(
        "--teacher-network",
        metavar="NETWORK",
        help="network of the teacher, needed where its card names a function, as package.module:function",
    )
    metrics.add_argument(
        "--features",
        metavar="NETWORK",
        help="compare features of another network, not the teacher's: torchvision:NAME with --weights, "
        "or clip:FILE with weights of CLIP",
    )
    metrics.add_argument(
        "--weights",
        metavar="FILE",
        help="weights for --features, a local .safetensors, .pth, .pt, .th, .bin or .pth.tar",
    )
    metrics.add_argument("--random-weights", action="store_true", help="give --features random weights")
    metrics.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side to which all images are resized (default: as the set has them)",
    )
    metrics.add_argument("--k", type=int, default=5, help="nearest neighbors (default: 5)")
    device_argument(metrics)
    metrics.add_argument(
        "--json",
        metavar="FILE",
        help="also write all scores, class by class, to this file; of several arms to FILE-ARM",
    )
    download_argument(metrics)
    metrics.set_defaults(run=_metrics)


def _metrics(arguments: argparse.Namespace) -> None:
    from ..distilled import arms_of, require_folder

    download(arguments, arguments.set, arguments.real)
    require_folder(Path(arguments.set))
    arms = arms_of(Path(arguments.set), arguments.arm)
    files = {arm: _file_of(arguments.json, arm, several=len(arms) > 1) for arm in arms}
    for file in files.values():
        if file is not None:
            _require_ours(file)
    extractor = _extractor(arguments)
    for arm in arms:
        _measure_set(arguments, arm, files[arm], extractor)


def _file_of(json: str | None, arm: str | None, *, several: bool) -> Path | None:
    """The file of a set's scores; None: none is wanted."""
    if json is None or not several:
        return None if json is None else Path(json)
    return Path(json).with_stem(f"{Path(json).stem}-{arm}")


def _measure_set(
    arguments: argparse.Namespace, arm: str | None, file: Path | None, extractor: Extractor
) -> None:
    """Measure one set and print its scores.

    Args:
        arm: the arm of a run; None: the path tells which set is meant.
        file: where the scores are written too; None: nowhere.
    """
    from ..data import open_dataset, with_validation
    from ..data.open import split_named
    from ..distilled import list_set
    from ..evaluate import measure
    from ..runtime.files import write_json

    distilled = list_set(arguments.set, arm, size=arguments.size, channels=extractor.channels)
    root, data = real_root(arguments, distilled)
    source, split = distilled.source, split_named(arguments.split)
    kind = data.fingerprint if data else "names"
    real = open_dataset(root, split, kind, follow_links=data is not None and data.follow_links)
    if split == "train" and data is not None and data.validation is not None:
        real, _ = with_validation(real, data.validation, data.validation_seed)
    if source is not None and data is not None and not source.manifest.skipped:
        source.require_unchanged(real.split, real.fingerprint, "--real")
    labels = distilled.classes_of(real.classes)
    height, width = distilled.shape[1:]
    resize = data.resize if data and arguments.size is None else None
    embedded = extractor.of_set(distilled)
    embedded_real, truth = extractor.of_dataset(
        real, (height, width), resize, source.recipe.data.on_error if source else "fail"
    )
    measured = measure(embedded_real, truth, embedded, labels.to(extractor.device), k=arguments.k)
    if file is not None:
        facts = {
            "set": str(distilled.path),
            "real": str(root),
            "split": real.split,
            "fingerprint": real.fingerprint,
            "features": extractor.text,
            "size": [height, width],
            "class_names": list(real.classes),
        }
        write_json(file, facts | measured.content())
    _print(distilled, str(root), extractor, measured)


def _require_ours(path: Path) -> None:
    """Refuse a file of results that cannot be written, or that holds something else."""
    from pydantic import JsonValue

    from ..errors import InputError
    from ..run_folder import read
    from ..runtime.files import require_writable

    require_writable(path, "name another file with --json")
    if not path.exists():
        return
    try:
        is_ours = read(path, dict[str, JsonValue]).keys() >= FACTS
    except InputError:
        is_ours = False
    if not is_ours:
        raise InputError(f"{path} exists and holds no metrics of fastdd; name another file with --json")


def _extractor(arguments: argparse.Namespace) -> Extractor:
    from ..distilled.runs import run_of
    from ..errors import InputError
    from ..evaluate import network_features, teacher_features
    from ..evaluate.features import clip_features, is_clip
    from ..runtime.devices import device_of

    device = device_of(arguments.device)
    for option, given in (("--teacher", arguments.teacher), ("--teacher-network", arguments.teacher_network)):
        if arguments.features and given:
            raise InputError(f"{option} and --features are two networks; give one of them")
    if arguments.features and is_clip(arguments.features):
        if arguments.weights or arguments.random_weights:
            raise InputError(f"--features {arguments.features} names its weights; leave out the other option")
        return clip_features("--features", arguments.features, device)
    if arguments.features:
        weights = Path(arguments.weights) if arguments.weights else None
        return network_features(arguments.features, weights, device, random_weights=arguments.random_weights)
    if arguments.weights or arguments.random_weights:
        raise InputError("--weights and --random-weights are of --features NETWORK; give that too")
    belongs = run_of(Path(arguments.set))
    if arguments.teacher is None and belongs is None:
        raise InputError(
            f"{arguments.set} is no run, which would have its teacher; give --teacher FILE, or --features "
            "NETWORK"
        )
    path = Path(arguments.teacher) if arguments.teacher else belongs[0].teacher()  # type: ignore[index]
    return teacher_features(path, device, arguments.teacher_network)


def _print(distilled: ListedSet, root: str, extractor: Extractor, measured: SetScores) -> None:
    from ..evaluate.scores import NAMES

    whole, by_class = measured.whole, measured.by_class
    rows = new_table("", "whole set", "mean of classes", "least", "most", "classes")
    for name in NAMES:
        values = measured.values(name)
        shown = (
            getattr(whole, name),
            measured.mean(name),
            min(values, default=None),
            max(values, default=None),
        )
        cells = ("-" if value is None else f"{value:.4g}" for value in shown)
        rows.add_row(name.replace("_", " of order "), *cells, str(len(values)))
    say(f"{distilled.path}: {counted(whole.synthetic, 'image')} against {whole.real} of {root}")
    sizes = (
        f"{min(counts)} to {max(counts)}"
        for counts in zip(*((s.synthetic, s.real) for s in by_class), strict=True)
    )
    say("a class: {} against {}".format(*sizes))
    say(f"features: {extractor.text}, {counted(measured.dimension, 'value')}; k = {measured.k}")
    show_table(rows)
    for reason in dict.fromkeys(reason for scores in (whole, *by_class) for reason in scores.missing):
        say(f"- {reason}")
