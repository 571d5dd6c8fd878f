"""A distilled set for other libraries: ``fastdd export SET --to FORM``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.console import counted
from .options import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    export = commands.add_parser(
        "export", help="write a distilled set for other libraries, with a dataset card"
    )
    export.add_argument(
        "set",
        metavar="SET",
        help="a run's folder, new000/class000_id000.jpg folders, an ImageFolder, or an earlier export",
    )
    # The forms are a registry that knows them only once torch is imported; an unknown one is told the names
    # there are.
    export.add_argument(
        "--to",
        required=True,
        metavar="FORM",
        help="the form to write, such as imagefolder, webdataset, parquet, or hf for the Hugging Face hub",
    )
    export.add_argument("--arm", metavar="NAME", help="the arm to export (default: all beside the control)")
    export.add_argument(
        "--out",
        metavar="DIR",
        help="a new folder; of several arms that of their folders (default: ./SET-FORM, or ./RUN-ARM-FORM)",
    )
    export.add_argument("--size", type=int, metavar="PIXELS", help="resize the images (default: as they are)")
    export.add_argument(
        "--shard-mb", type=float, default=500, metavar="MB", help="size of the largest file (default: 500)"
    )
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from ..distilled import arms_of, channels_of, open_set
    from ..export import FORMS, export

    form, path = arguments.to, Path(arguments.set)
    FORMS[form]  # an unknown form is refused before the images are read
    arms = arms_of(path, arguments.arm)
    for arm in arms:
        distilled = open_set(path, arm, size=arguments.size, channels=channels_of(path))
        out = arguments.out
        if (source := distilled.source) is None:
            name = distilled.path.resolve().name
        else:
            name = f"{source.folder.path.resolve().name}-{source.arm}"
            out = Path(out) / source.arm if out and len(arms) > 1 else out
        written = export(distilled, form, out or f"{name}-{form}", shard_mb=arguments.shard_mb)
        found = counted(len(distilled), "image")
        print(f"{written}: {found}, {form}; {written / 'README.md'} says how to load it")
