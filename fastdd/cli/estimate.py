"""What a run costs: ``fastdd estimate RECIPE``, before it is started; ``fastdd profile RECIPE [STAGE]``,
where the time of a stage goes on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.console import bytes_text, rough_duration
from .console import new_table, say, show_table
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

if TYPE_CHECKING:
    from ..cost.estimate import Estimate, StageEstimate

TEXT = (
    "Tell how long each stage of a run takes, how much memory, and how many bytes it stores. The code of "
    "each stage runs on tensors without values, and what it asks for is priced: on a GPU by its data sheet, "
    "on this machine's processor by what is measured in a few seconds. Neither data, weights nor a GPU need "
    "be there. Metrics, the report and the choice of initial images are not counted."
)


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "estimate", help="tell what a run takes in time, memory and storage, before it", description=TEXT
    )
    recipe_arguments(command)
    command.add_argument(
        "--gpu",
        metavar="NAME",
        default="cpu",
        help="the device: h200, h100, b200, a100, a100-40gb, l40s, a10, rtx4090, or cpu, which is this "
        "machine (default: cpu)",
    )
    command.add_argument(
        "--count", metavar="N", type=_count, default=1, help="how many of them share the run (default: 1)"
    )
    command.add_argument(
        "--cores",
        metavar="N",
        type=_count,
        default=16,
        help="processor cores beside each GPU that decode images (default: 16)",
    )
    for name, what in (("classes", "classes"), ("images", "training images"), ("test-images", "test images")):
        command.add_argument(
            f"--{name}",
            metavar="N",
            type=_count,
            help=f"number of {what} (default: those of data.root, or the published ones of the data set)",
        )
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.set_defaults(run=_estimate)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number, for example 8")
    return int(text)


def _estimate(arguments: argparse.Namespace) -> None:
    from ..cost.estimate import estimate

    resolved = resolved_recipe(arguments)
    given = {"classes": arguments.classes, "train": arguments.images, "test": arguments.test_images}
    found = estimate(
        resolved.recipe,
        arguments.gpu.lower(),
        count=arguments.count,
        cores=arguments.cores,
        sizes={name: value for name, value in given.items() if value is not None},
    )
    if arguments.json:
        print(json.dumps(content(found), indent=2))
    else:
        show(found)


def content(found: Estimate) -> dict[str, object]:
    """An estimate as JSON: each stage's figures, and which are computed and which measured."""
    stages = [asdict(stage) | {"bound": stage.bound, "how": "computed"} for stage in found.stages]
    return asdict(found) | {"seconds": found.seconds, "stages": stages}


def show(found: Estimate) -> None:
    """Print an estimate."""
    device = "this machine" if found.device == "cpu" else f"{found.count} x {found.device}"
    rows = new_table("stage", "time", "memory", "bound by", "of it")
    for stage in found.stages:
        rows.add_row(stage.stage, *_cells(stage))
    rows.add_row("in all", rough_duration(found.seconds), "", "", "")
    say(f"{found.recipe} on {device}")
    show_table(rows)
    stored = ", ".join(f"{what} {bytes_text(size)}" for what, size in found.storage.items())
    say(f"stored: {stored}")
    say(f"computed: {found.computed}")
    say(f"measured: {found.measured}")
    for note in found.notes:
        say(note)


def _cells(stage: StageEstimate) -> tuple[str, str, str, str]:
    if stage.why and not stage.parts:
        return "?", "", "", "not counted"
    parts = ", ".join(f"{part.name} {rough_duration(part.seconds)}" for part in stage.parts)
    return (
        rough_duration(stage.seconds),
        bytes_text(stage.memory),
        stage.bound,
        parts if len(stage.parts) > 1 else "",
    )


PROFILE = (
    "Run a few steps of a stage of the recipe under PyTorch's profiler, on black images and random weights, "
    "and tell what each part takes, and what bounds the stage. Neither data nor a teacher need be there."
)


def add_profile(commands: Commands) -> None:
    command = commands.add_parser(
        "profile",
        help="tell where the time of a stage goes: by part, as a trace, and what bounds it",
        description=PROFILE,
        usage="fastdd profile RECIPE [STAGE] [KEY=VALUE ...] [options]",
    )
    recipe_arguments(command)
    command.add_argument(
        "--steps", metavar="N", type=int, default=3, help="steps that are looked at (default: 3)"
    )
    command.add_argument(
        "--trace",
        metavar="FILE",
        help="where the trace is written, in Chrome's format (default: profile-RECIPE-STAGE.json here)",
    )
    command.add_argument("--json", action="store_true", help="print it as JSON")
    command.set_defaults(run=_profile)


def _profile(arguments: argparse.Namespace) -> None:
    # The library behind PyTorch's profiler reads it when it is loaded, and would print what it does.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from ..cost.profile import profile
    from ..errors import InputError
    from ..runtime.devices import device_of
    from ..runtime.files import require_writable

    words = [text for text in arguments.overrides if "=" not in text]
    arguments.overrides = [text for text in arguments.overrides if "=" in text]
    if arguments.steps < 1:
        raise InputError(f"--steps is {arguments.steps}, expected 1 or more")
    resolved = resolved_recipe(arguments)
    recipe, stage = resolved.recipe, " ".join(words) or "recover"
    trace = Path(arguments.trace or f"profile-{recipe.name}-{stage.replace(' ', '-')}.json")
    require_writable(trace, "name another file with --trace")
    device = device_of(recipe.device)
    found = profile(recipe, stage, trace, repetitions=arguments.steps, device=device)
    if arguments.json:
        print(json.dumps(asdict(found) | {"trace": str(trace), "sentence": found.sentence}, indent=2))
        return

    rows = new_table("part", "time", "share")
    for part, seconds in found.parts.items():
        rows.add_row(part, rough_duration(seconds), f"{seconds / found.seconds:.0%}")
    clock = "that passed" if device.type == "cuda" else "of the processor"
    say(
        f"{recipe.name}, {found.stage}, {found.part}: {rough_duration(found.seconds)} {clock} for "
        f"{found.images} images, the mean of {arguments.steps} steps on {device}"
    )
    show_table(rows)
    say(found.sentence)
    say(f"trace: {trace} (open it in chrome://tracing or ui.perfetto.dev)")
