"""What is lost when a command is killed, its disk fails, it is not alone or its data change: counts.

    python benchmarks/faults.py                                        # every fault of every command, once
    python benchmarks/faults.py kills --count 200 --json kills.json    # 200 random kill -9
    python benchmarks/faults.py disk --commands bank export            # the small disks need root, for tmpfs
    python benchmarks/faults.py pairs --count 100                      # two processes at once in one folder

The commands run on tiny recipes of 48 images (about a second each), every case in a folder of its own. After
its faults the same command is run to its end and its files are compared with those of a command that nothing
happened to: ``same`` are cases with the same bytes, ``lost`` those that cannot be finished or have others.
``told`` are processes that ended in one line with status 2, ``tracebacks`` those that printed one or hung.
``--seed`` draws other moments. Counts are written to ``--json`` after each case; what stands there is
continued.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import count as numbers
from pathlib import Path

from fault_cases import COMMANDS, Bench, Ended, files, serve, start, write_images

FAULTS = ("kills", "disk", "pairs", "ranks", "data")
DISKS = ("disk full", "no inodes", "read-only", "EFBIG", "EIO")
SHARED = ("run", "bank", "recover", "experts", "coupled")
"""commands whose work the processes of torchrun share"""
CHANGES = ("gone", "cut", "another")
"""what happens to an image under a run"""


def cases(bench: Bench, fault: str, commands: list[str], count: int) -> Iterator[tuple[str, int]]:
    """The command and the number of each case that is still to do: the commands in turn, ``count`` in all."""
    for place in range(count if commands else 0):
        number, command = place // len(commands), commands[place % len(commands)]
        if number >= bench.tried(fault, command):
            bench.undisturbed(command)
            yield command, number


def kills(bench: Bench, commands: list[str], count: int) -> None:
    """kill -9 at random moments; a command that ended before is begun again."""
    for command, number in cases(bench, "kill -9", commands, count):
        draw = bench.draw("kill", command, number)
        while True:
            folder = bench.new(f"{command}-killed-{number}")
            running = start(bench.arguments(command), folder)
            time.sleep(draw.uniform(0, bench.seconds[command]))
            ended = running.kill()
            if ended.status == -signal.SIGKILL:
                break
        bench.conclude("kill -9", command, folder, ended)


# -- disks -----------------------------------------------------------------------------------------


def disk(bench: Bench, commands: list[str], count: int) -> None:
    """A disk that is too small, has no inodes, is read-only, or fails; or a limit on the size of a file."""
    kinds = DISKS if can_mount(bench.new("mount")) else DISKS[3:]
    for kind in kinds:
        for command, number in cases(bench, kind, commands, count):
            folder, draw = (
                bench.new(f"{command}-{kind.replace(' ', '-')}-{number}"),
                bench.draw(kind, command, number),
            )
            if kind in DISKS[:3]:
                small_disk(bench, command, kind, folder=folder, draw=draw)
                continue
            if kind == "EFBIG":
                largest = max(
                    file.stat().st_size
                    for file in (bench.folder / "cases" / f"{command}-whole/out").rglob("*")
                    if file.is_file()
                )
                disturbance = partial(limit_files, draw.randint(1, largest))
            else:
                disturbance = partial(fail_once, draw.randint(1, max(1, len(bench.whole[command]))))
            ended = start(bench.arguments(command), folder, disturbance).finish()
            bench.conclude(kind, command, folder, ended)


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond some bytes: EFBIG."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fail_once(at: int) -> None:
    """Let one call of fsync fail, as it does where a disk cannot keep what was written: EIO."""
    whole, calls = os.fsync, numbers(1)

    def fsync(file: int) -> None:
        if next(calls) == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        whole(file)

    os.fsync = fsync


def small_disk(bench: Bench, command: str, kind: str, *, folder: Path, draw: random.Random) -> None:
    """Run a command on a tmpfs that is too small, and then again in a copy of its folder that is not."""
    share = draw.uniform(0.05, 0.9)
    whole = bench.folder / "cases" / f"{command}-whole/out"
    size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    options = {
        "disk full": f"size={max(4, int(share * size / 1024))}k",
        "no inodes": f"nr_inodes={2 + int(share * len(bench.whole[command]))}",
        "read-only": "ro",
    }[kind]
    kept = bench.new(f"{folder.name}-kept")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        ended = start(bench.arguments(command), folder).finish()
        shutil.copytree(folder, kept, dirs_exist_ok=True)
    finally:
        subprocess.run(["umount", folder], check=True)
    bench.conclude(kind, command, kept, ended)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a small file system."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False, capture_output=True
    )
    if done.returncode:
        print("-- no right to mount a tmpfs: full, inodes and read-only are left out", file=sys.stderr)
        return False
    subprocess.run(["umount", folder], check=True)
    return True


# -- others at work --------------------------------------------------------------------------------


def pairs(bench: Bench, commands: list[str], count: int) -> None:
    """Two processes of one command at once in one folder: one does the work, the other is told.

    The first is halted at work, at a moment drawn from its time, until the second has ended; so they are
    never one after another.
    """
    for command, number in cases(bench, "two at once", commands, count):
        draw = bench.draw("pair", command, number)
        while True:
            folder = bench.new(f"{command}-pair-{number}")
            first = start(bench.arguments(command), folder)
            while first.is_alive and not at_work(folder):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.5) * bench.seconds[command] * (number % 2))
            first.send(signal.SIGSTOP)
            if first.is_alive and at_work(folder):
                break
            first.kill()
        second = start(bench.arguments(command), folder).finish()
        first.send(signal.SIGCONT)
        bench.conclude("two at once", command, folder, first.finish(), second)


def at_work(folder: Path) -> bool:
    """Whether a process holds ``out`` below a folder, or prepares it there."""
    return any(folder.glob("out/.lock-*")) or any(folder.glob(".tmp-*-out"))


def ranks(bench: Bench, commands: list[str], count: int) -> None:
    """One of torchrun's two processes is killed, and torchrun starts both again."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    shared = [command for command in commands if command in SHARED]
    for command, number in cases(bench, "a rank killed", shared, count):
        folder, draw = bench.new(f"{command}-rank-{number}"), bench.draw("rank", command, number)
        # Two processes squeeze another teacher than one, by rounding; all else has the same bytes.
        start(["squeeze", *bench.arguments(command)[1:]], folder).finish()
        process = subprocess.Popen(
            [*launcher, "--max-restarts", "3", "-m", "fastdd", *bench.arguments(command)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not at_work(folder):  # imports take the longest
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1) * bench.seconds[command])
        if workers := children(process.pid):
            os.kill(draw.choice(workers), signal.SIGKILL)
        _, text = process.communicate()
        # torchrun prints a traceback of its own where a process fails for good
        ended = Ended(process.returncode, text if process.returncode else "")
        bench.conclude("a rank killed", command, folder, ended)


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


# -- data ------------------------------------------------------------------------------------------


def data(bench: Bench, commands: list[str], count: int) -> None:
    """An image goes, is cut or becomes another under a run.

    Each of two runs ends in one line, or with the bytes of a run on the images as they were, or as they are.
    """
    words = ["run", "recipe.yaml", "--out", "out"]
    whole = bench.new("data-whole")
    write_images(whole)
    began = time.monotonic()
    if start(words, whole).finish().status:
        sys.exit("a run of a folder of images failed with nothing done to it")
    seconds, before = time.monotonic() - began, files(whole / "out")
    for number in range(bench.tried("data changed", "run"), count):
        folder, draw = bench.new(f"data-{number}"), bench.draw("data", number)
        write_images(folder)
        running = start(words, folder)
        time.sleep(draw.uniform(0, 1) * seconds)
        change(draw.choice(sorted((folder / "pets").rglob("*.png"))), CHANGES[number % len(CHANGES)])
        fresh = bench.new(f"data-{number}-fresh")
        shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns("out"), dirs_exist_ok=True)
        ends, made = [running.finish()], [files(folder / "out")]
        ends.append(start(words, folder).finish())
        made.append(files(folder / "out"))
        start(words, fresh).finish()
        whole_ones = (before, files(fresh / "out"))
        wrong = [
            run
            for run, end, found in zip(("first", "second"), ends, made, strict=True)
            if not end.told and (end.status != 0 or found not in whole_ones)
        ]
        if wrong:
            how = CHANGES[number % len(CHANGES)]
            bench.finding(
                "data changed", "run", f"the {wrong[0]} run has neither bytes: {how}, case {number}"
            )
        bench.count("data changed", "run", *ends, same=not wrong, lost=bool(wrong))
        if not wrong:
            shutil.rmtree(folder)
        shutil.rmtree(fresh)


def change(victim: Path, how: str) -> None:
    """Do something to an image."""
    if how == "gone":
        victim.unlink()
    elif how == "cut":
        victim.write_bytes(victim.read_bytes()[:40])
    else:
        others = (each for each in victim.parent.parent.rglob("*.png") if each.parent != victim.parent)
        victim.write_bytes(next(others).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--count", type=int, help="cases of each fault in all (default: one a command)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, and continue them")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"unknown fault {min(unknown)}; there are {', '.join(FAULTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that disks are unmounted
    serve()
    with tempfile.TemporaryDirectory(prefix="fastdd-faults-") as folder:
        bench = Bench(Path(folder), arguments.json, arguments.seed)
        bench.prepare()
        commands: list[str] = arguments.commands
        for fault in arguments.faults or FAULTS:
            work = {"kills": kills, "disk": disk, "pairs": pairs, "ranks": ranks, "data": data}[fault]
            work(bench, commands, arguments.count or len(commands))
        print(bench.table(), flush=True)


if __name__ == "__main__":
    main()
