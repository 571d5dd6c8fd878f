"""A distilled set for other libraries: ``fastdd export SET --to imagefolder|webdataset|parquet|hf``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FORMS = ("imagefolder", "webdataset", "parquet", "hf")


def add(commands: Any) -> None:
    export = commands.add_parser(
        "export", help="write a distilled set for other libraries, with a dataset card"
    )
    export.add_argument(
        "set", metavar="SET", help="a run, new000/class000_id000.jpg folders, or an ImageFolder"
    )
    export.add_argument("--to", required=True, choices=FORMS, help="the form")
    export.add_argument("--arm", metavar="NAME", help="of a run with several")
    export.add_argument("--out", metavar="DIR", help="a new folder (default: named after the set, here)")
    export.add_argument("--size", type=int, metavar="PIXELS", help="resize the images (default: as they are)")
    export.add_argument(
        "--shard-mb", type=float, default=500, metavar="MB", help="largest file (default: 500)"
    )
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from ..distilled import channels_of, open_set
    from ..export.forms import export

    path = Path(arguments.set)
    distilled = open_set(path, arguments.arm, arguments.size, channels_of(path))
    place = distilled.path
    name = f"{place.parents[1].resolve().name}-{place.name}" if distilled.source else place.resolve().name
    out = export(distilled, arguments.to, arguments.out or f"{name}-{arguments.to}", arguments.shard_mb)
    print(f"{out}: {len(distilled)} images, {arguments.to}; {out / 'README.md'} says how to load it")
