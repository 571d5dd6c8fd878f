"""``fastdd slurm RECIPE``: a batch script for Slurm that runs a recipe on several machines."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

from ..errors import InputError
from .options import Commands, overrides_of
from .stages import chosen_parts, recipe_arguments, resolved_recipe

TEXT = (
    "Print a batch script: `fastdd slurm RECIPE --nodes 4 --gpus 8 > job.sbatch`, then `sbatch job.sbatch`. "
    "torchrun starts a process a GPU on each machine; together they squeeze the teachers, and share what "
    "follows from queues. A machine that is lost costs what it had in hand: the others start again from what "
    "is on the disk, and the job goes on when it is queued again."
)
MOST = 65_533
"""nodes that Slurm can have"""
NAME = re.compile(r"[\w.,:@%+=/-]+")
"""what Slurm's own options may hold, so that nothing of it is read as another option"""
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{options}#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --no-kill
# --no-kill: a lost machine does not end the job; --requeue: if all are lost it begins anew. Both times the
# run continues from its folder, which all machines must see.
set -euo pipefail
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"
machines=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${{machines%%$'\\n'*}}
# The first machine is where the others meet; with 1:{nodes} those that are left go on without a lost one.
srun --no-kill --kill-on-bad-exit=0 torchrun \\
    --nnodes=1:{nodes} --nproc-per-node={processes} --max-restarts=10 \\
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" \\
    --rdzv-endpoint="$first:$((20000 + SLURM_JOB_ID % 20000))" \\
    -m {command}
"""


def add(commands: Commands) -> None:
    slurm = commands.add_parser(
        "slurm",
        help="print a batch script for Slurm that runs a recipe on several machines",
        description=TEXT,
    )
    recipe_arguments(slurm)
    slurm.add_argument(
        "--out", metavar="DIR", help="the run folder, which all machines see (default: runs/ and the name)"
    )
    slurm.add_argument("--nodes", type=_positive, default=1, metavar="N", help="machines (default: 1)")
    slurm.add_argument(
        "--gpus",
        type=_count,
        default=8,
        metavar="N",
        help="GPUs of each machine, a process each; 0: machines without, one process each (default: 8)",
    )
    slurm.add_argument(
        "--cpus", type=_positive, default=8, metavar="N", help="processors of each process (default: 8)"
    )
    slurm.add_argument("--time", default="24:00:00", metavar="TIME", help="time limit (default: 24:00:00)")
    slurm.add_argument("--partition", metavar="NAME", help="Slurm's partition (default: the cluster's)")
    slurm.add_argument("--account", metavar="NAME", help="Slurm's account (default: yours)")
    slurm.set_defaults(run=_slurm)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or (number := int(text)) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r:.40} must be a number of at most {MOST:,}")
    return number


def _positive(text: str) -> int:
    if (number := _count(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return number


def _slurm(arguments: argparse.Namespace) -> None:
    overrides, recipe = overrides_of(arguments), resolved_recipe(arguments).recipe
    out = arguments.out or str(Path("runs") / recipe.name)
    words = ["fastdd", "run", arguments.recipe, *overrides, *chosen_parts(arguments), "--out", out]
    print(batch_script(arguments, recipe.name, words), end="")


def batch_script(arguments: argparse.Namespace, recipe: str, words: list[str]) -> str:
    """The text of a batch script.

    Args:
        arguments: nodes, gpus, cpus, time, partition and account.
        words: the command that torchrun starts, after ``-m``; any text is safe.

    Raises:
        InputError: an option of Slurm's holds what could be read as something else.
    """
    given = {"time": arguments.time, "partition": arguments.partition, "account": arguments.account}
    for option, value in given.items():
        if value is not None and not NAME.fullmatch(value):
            raise InputError(
                f"--{option} {value!r} is no word of Slurm's; give letters, digits and .,:@%+=/-"
            )
    processes = max(1, arguments.gpus)
    lines = [f"--cpus-per-task={processes * arguments.cpus}"]
    if arguments.gpus:
        lines.append(f"--gpus-per-node={arguments.gpus}")
    lines += [f"--{option}={value}" for option, value in given.items() if value is not None]
    return SCRIPT.format(
        name=f"fastdd-{re.sub(r'[^A-Za-z0-9._-]+', '-', recipe)}",
        nodes=arguments.nodes,
        options="".join(f"#SBATCH {line}\n" for line in lines),
        threads=arguments.cpus,
        processes=processes,
        command=shlex.join(words),
    )
