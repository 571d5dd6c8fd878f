"""A distilled set for other libraries: ``fastdd export SET --to FORM``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..runtime.console import counted
from .options import Commands, download, download_argument


def add(commands: Commands) -> None:
    export = commands.add_parser(
        "export",
        help="write a distilled set for other libraries, with a dataset card",
        description="Write a distilled set in a form that other libraries read. A dataset card, its README, "
        "says what it was made from and how, and what it is worth beside random real images.",
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
    export.add_argument("--arm", metavar="NAME", help="the arm to export (default: all but the control)")
    export.add_argument(
        "--out",
        metavar="DIR",
        help="a new folder; of several arms that of their folders (default: ./SET-FORM, or ./RUN-ARM-FORM)",
    )
    export.add_argument("--size", type=int, metavar="PIXELS", help="resize the images (default: as they are)")
    export.add_argument(
        "--shard-mb", type=float, default=500, metavar="MB", help="size of the largest file (default: 500)"
    )
    export.add_argument(
        "--push",
        metavar="ORG/NAME",
        help="then send the folder to the Hugging Face hub, as a data set of this name",
    )
    export.add_argument(
        "--dry-run", action="store_true", help="with --push: say what would be sent, and send nothing"
    )
    download_argument(export)
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    from ..distilled import arms_of, channels_of, open_set, set_name
    from ..export import export
    from ..export.forms import form_named
    from ..runtime.hub import push
    from ..runtime.new_folders import require_new

    form, path = arguments.to, Path(arguments.set)
    form_named(form, arguments.shard_mb)  # what cannot be written is refused before the images are read
    download(arguments, arguments.set)
    arms = arms_of(path, arguments.arm)
    _check_push(arguments, arms)
    if arguments.out is not None and len(arms) == 1:
        require_new(Path(arguments.out))
    for arm in arms:
        distilled = open_set(path, arm, size=arguments.size, channels=channels_of(path))
        out = arguments.out
        if (source := distilled.source) is None:
            name = set_name(path)
        else:
            name = f"{source.folder.path.resolve().name}-{source.arm}"
            out = Path(out) / source.arm if out and len(arms) > 1 else out
        written = export(
            distilled, form, out or f"{name}-{form}", shard_mb=arguments.shard_mb, repository=arguments.push
        )
        found = counted(len(distilled), "image")
        print(f"{written}: {found}, {form}; {written / 'README.md'} says how to load it")
        if arguments.push and not arguments.dry_run:
            print(f"sent: {push(written, arguments.push)}")
        elif arguments.push:
            _print_files(written, arguments.push)


def _check_push(arguments: argparse.Namespace, arms: Sequence[str | None]) -> None:
    """Refuse now what could not be sent when the folder is written."""
    from ..errors import InputError
    from ..runtime.hub import require_repository

    if arguments.push is None:
        if arguments.dry_run:
            raise InputError("--dry-run says what --push would send; give --push ORG/NAME")
        return
    require_repository(arguments.push)
    if len(arms) > 1:
        raise InputError(
            f"--push sends one set to {arguments.push}, but {arguments.set} has {len(arms)}; name one with "
            "--arm"
        )


def _print_files(folder: Path, repository: str) -> None:
    """What would be sent of an export, a line a file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        print(f"would send {path.relative_to(folder)}: {path.stat().st_size:,} bytes")
    total = sum(path.stat().st_size for path in files)
    print(f"{counted(len(files), 'file')}, {total:,} bytes, to the data set {repository}; nothing was sent")
