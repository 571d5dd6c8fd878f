"""``fastdd check SET``: what is wrong with a distilled set before anybody trains on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.console import counted
from .console import say
from .options import Commands, device_argument, download, download_argument, real_root

TEXT = (
    "Look for test images in a set, whole, cropped and as tiles of mosaics, in pixels and, with a teacher, "
    "in its embeddings; for repeated, plain and clipped images, unlike numbers of images a class, and soft "
    "labels and claims that do not hold. It ends with 1 where test images or faults are found."
)


def add(commands: Commands) -> None:
    check = commands.add_parser(
        "check", help="look for leaks and faults in a distilled set", description=TEXT
    )
    check.add_argument("set", metavar="SET", help="a run folder, an export, or folders of images by class")
    check.add_argument("--arm", metavar="NAME", help="the arm of a run with several")
    check.add_argument("--real", metavar="ROOT", help="the real set (default: that of the run)")
    check.add_argument(
        "--teacher",
        metavar="FILE",
        help="network whose embeddings are compared too (default: the teacher of the run, if it is one)",
    )
    device_argument(check)
    download_argument(check)
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    from ..data import open_dataset
    from ..distilled import list_set, require_folder
    from ..distilled.runs import run_of
    from ..evaluate import teacher_features
    from ..evaluate.validity import check_set
    from ..run_folder.results import MAY_ESCAPE
    from ..runtime.devices import device_of

    download(arguments, arguments.set, arguments.real)
    require_folder(Path(arguments.set))
    of_run = run_of(Path(arguments.set))
    weights = arguments.teacher or (None if of_run is None else of_run[0].teacher())
    device = device_of(arguments.device)
    features = None if weights is None else teacher_features(Path(weights), device)
    channels = 3 if features is None else features.channels
    distilled = list_set(arguments.set, arguments.arm, channels=channels)
    root, data = real_root(arguments, distilled)
    links = data is not None and data.follow_links
    train, test = (open_dataset(root, split, follow_links=links) for split in ("train", "test"))
    found = check_set(distilled, train, test, resize=data.resize if data else None, features=features)
    for finding in found:
        say(f"{finding.kind}: {finding.text}")
    compared = "pixels" if features is None else f"pixels and embeddings of {features.text}"
    say(
        f"{distilled.path}: {counted(len(distilled), 'image')} against {len(test)} test images, by {compared}"
    )
    if not found:
        say(f"nothing of what is looked for was found; {MAY_ESCAPE}")
    return int(any(finding.kind != "note" for finding in found))
