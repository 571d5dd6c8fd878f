"""``fastdd profile RECIPE [STAGE]``: where the time of a stage goes on this machine."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from ..runtime.console import rough_duration
from .console import new_table, say, show_table
from .options import Commands
from .stages import recipe_arguments, resolved_recipe

TEXT = (
    "Run a few steps of a stage of the recipe under PyTorch's profiler, on black images and random weights, "
    "and tell what each part takes, and what bounds the stage. Neither data nor a teacher need be there."
)


def add(commands: Commands) -> None:
    command = commands.add_parser(
        "profile",
        help="tell where the time of a stage goes: by part, as a trace, and what bounds it",
        description=TEXT,
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
