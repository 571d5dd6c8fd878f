"""What is lost when a command is killed, its disk fails, it is not alone or its data change: counts.

    python benchmarks/faults.py                                        # every fault of every command, once
    python benchmarks/faults.py kills --count 200 --json kills.json    # 200 random kill -9
    python benchmarks/faults.py disk --commands bank export            # the small disks need root, for tmpfs
    python benchmarks/faults.py pairs --count 100                      # two processes at once in one folder

The commands run on a tiny recipe of the digits (some seconds each), every case in a folder of its own. After
its faults the same command is run to its end and its files are compared with those of a command that nothing
happened to: ``same`` are cases with the same bytes, ``lost`` those that cannot be finished or have others.
``told`` are the faults that ended in one line with status 2, ``tracebacks`` those that printed one. A kill
comes at a moment drawn evenly from the command's time; ``--seed`` draws others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

RECIPE = """\
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, batch: 256, pad: 1, minimum_accuracy: 0}
method: {steps: 3}
arms: {deda: {method: deda}}
recover: {unit_images: 4}
student: {network: resnet8, steps: 3, batch: 10, pad: 1, seeds: 1, evaluations: 1, labels: stored}
"""
FOLDER_OF_IMAGES = RECIPE.replace("digits, channels: 1", "pets, channels: 1, size: 8")
COMMANDS = ("run", "squeeze", "bank", "recover", "label", "evaluate", "sweep", "export", "merge")
TIMES = ("manifest.json", "log.jsonl", "report.html")
"""files of a run that hold times of day, or seconds"""
FAULTS = ("kills", "disk", "pairs", "ranks", "data")
DISKS = ("disk full", "no inodes", "read-only", "EFBIG", "EIO")
PATIENCE = 600.0
"""seconds after which a command counts as one that hangs"""
FAILING_DISK = """\
import errno, os
calls, whole = [0], os.fsync
def fsync(file):
    calls[0] += 1
    if calls[0] == int(os.environ["FAILS_AT"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return whole(file)
os.fsync = fsync
"""
"""sitecustomize.py of a process whose disk fails once"""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status and what it printed to stderr."""

    status: int
    text: str

    @property
    def told(self) -> bool:
        """Whether it ended in one line that says what is wrong."""
        return self.status == 2 and self.text.strip().splitlines()[-1:] != [] and "error: " in self.text

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.text


@dataclass
class Bench:
    """A folder for all cases, with what the commands start from, and the counts.

    Attributes:
        whole: the files of each command that nothing happened to, by command.
        seconds: how long each took.
        counts: by fault and command.
    """

    folder: Path
    random: random.Random
    whole: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    def arguments(self, command: str) -> list[str]:
        """The command line; its results are in ``out`` below the current folder."""
        if command == "merge":
            return ["merge", str(self.folder / "a/bank"), str(self.folder / "b/bank"), "--out", "out"]
        if command == "export":
            return [
                "export",
                str(self.folder / "made"),
                "--arm",
                "deda",
                "--to",
                "imagefolder",
                "--out",
                "out",
            ]
        words = [command, str(self.folder / "recipe.yaml"), "--out", "out"]
        if command == "sweep":
            words += ["--grid", "method.gamma=1,2"]
        if command not in ("run", "squeeze") and (self.folder / "made").is_dir():
            words.append(f"teacher.weights={self.folder / 'made/teacher.safetensors'}")
        return words

    def prepare(self) -> None:
        """Make the finished run and the banks that export and merge start from."""
        (self.folder / "recipe.yaml").write_text(RECIPE)
        recipe = str(self.folder / "recipe.yaml")
        for words in (
            ["run", recipe, "--out", "made"],
            ["bank", recipe, "--out", "a", "--classes", "0:5", "teacher.weights=made/teacher.safetensors"],
            ["bank", recipe, "--out", "b", "--classes", "5:10", "teacher.weights=made/teacher.safetensors"],
        ):
            ended = finish(start(words, self.folder))
            if ended.status:
                sys.exit(f"{' '.join(words)} failed:\n{ended.text}")

    def undisturbed(self, command: str) -> None:
        """Run a command to which nothing happens, once."""
        if command not in self.whole:
            folder = self.new(f"{command}-whole")
            began = time.monotonic()
            ended = finish(start(self.arguments(command), folder))
            if ended.status:
                sys.exit(f"{command} failed with nothing done to it:\n{ended.text}")
            self.seconds[command], self.whole[command] = time.monotonic() - began, files(folder / "out")

    def new(self, name: str) -> Path:
        """An empty folder for a case."""
        folder = self.folder / "cases" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def count(self, fault: str, command: str, *ends: Ended, **numbers: int) -> None:
        """Add to the counts of a fault; ends are those of the disturbed processes."""
        found = self.counts.setdefault((fault, command), Counter())
        found.update(numbers)
        found["told"] += sum(end.told for end in ends)
        for end in ends:
            if end.traceback:
                found["tracebacks"] += 1
                print(f"-- {fault}, {command}:\n{end.text}", file=sys.stderr)

    def conclude(self, fault: str, command: str, folder: Path) -> None:
        """Run the command to its end, compare its files, and delete the case if all is well."""
        ended = finish(start(self.arguments(command), folder))
        # what creates a folder, and has created it, refuses to do so again
        done = ended.status == 0 or (command in ("export", "merge") and "is not empty" in ended.text)
        now = files(folder / "out")
        wanted = self.whole[command]
        other = sorted(name for name in {**wanted, **now} if wanted.get(name) != now.get(name))
        same = done and not other
        self.count(fault, command, same=same, lost=not same, tracebacks=ended.traceback)
        if same:
            shutil.rmtree(folder)
        else:
            why = f"other bytes: {other[:5]}" if done else ended.text.strip().splitlines()[-1:]
            print(f"-- {fault}, {command}, {folder}: {why}", file=sys.stderr)

    def table(self) -> str:
        """The counts as Markdown."""
        columns = ("tried", "told", "same", "lost", "tracebacks")
        lines = [f"| fault | command | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
        rows = list(self.counts.items())
        for fault in dict.fromkeys(fault for (fault, _), _ in rows):
            total = Counter[str]()
            for (other, command), found in rows:
                if other == fault:
                    cells = " | ".join(str(found[column]) for column in columns)
                    lines.append(f"| {fault} | {command} | {cells} |")
                    total.update(found)
            lines.append(f"| **{fault}** | | {' | '.join(str(total[column]) for column in columns)} |")
        return "\n".join(lines)


# -- processes and files ---------------------------------------------------------------------------


def start(
    words: list[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    launcher: list[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command of fastdd in a folder, in a session of its own, with one thread."""
    return subprocess.Popen(
        [sys.executable, *(launcher or []), "-m", "fastdd", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process; one that hangs is killed."""
    try:
        _, text = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        kill(process)
        return Ended(-1, "hangs: Traceback (most recent call last)")
    return Ended(process.returncode, text)


def kill(process: subprocess.Popen[str]) -> Ended:
    """kill -9 a process and what it started."""
    with suppress(ProcessLookupError):  # it was done
        os.killpg(process.pid, signal.SIGKILL)
    _, text = process.communicate()
    return Ended(process.returncode, text)


def files(folder: Path) -> dict[str, str]:
    """Digests of the files of a result, by name."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in TIMES
    }


# -- faults ----------------------------------------------------------------------------------------


def kills(bench: Bench, commands: list[str], count: int, in_a_row: int) -> None:
    """kill -9 at random moments, some in a row in one folder, then once to the end."""
    for number in range(0, count, in_a_row):
        command = commands[number // in_a_row % len(commands)]
        bench.undisturbed(command)
        folder = bench.new(f"{command}-killed-{number}")
        row = min(in_a_row, count - number)
        for _ in range(row):
            process = start(bench.arguments(command), folder)
            time.sleep(bench.random.uniform(0, bench.seconds[command]))
            bench.count("kill -9", command, kill(process), tried=1)
        bench.conclude("kill -9", command, folder)


def disk(bench: Bench, commands: list[str], count: int) -> None:
    """A disk that is too small, has no inodes, is read-only, or fails; or a limit on the size of a file."""
    for command in commands:
        bench.undisturbed(command)
        kinds = DISKS if can_mount(bench.new("mount")) else DISKS[3:]
        for kind, number in ((kind, number) for kind in kinds for number in range(count)):
            folder = bench.new(f"{command}-{kind.replace(' ', '-')}-{number}")
            if kind in DISKS[:3]:
                small_disk(bench, command, kind, folder)
                continue
            if kind == "EFBIG":
                limit = bench.random.randint(1, 400) * 1000
                before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
                process = start(bench.arguments(command), folder, before=before)
            else:
                (bench.folder / "failing").mkdir(exist_ok=True)
                (bench.folder / "failing" / "sitecustomize.py").write_text(FAILING_DISK)
                paths = [str(bench.folder / "failing"), *filter(None, [os.environ.get("PYTHONPATH")])]
                at = bench.random.randint(1, max(1, len(bench.whole[command])))
                process = start(
                    bench.arguments(command),
                    folder,
                    environment={"PYTHONPATH": os.pathsep.join(paths), "FAILS_AT": str(at)},
                )
            bench.count(kind, command, finish(process), tried=1)
            bench.conclude(kind, command, folder)


def small_disk(bench: Bench, command: str, kind: str, folder: Path) -> None:
    """Run a command on a tmpfs that is too small, and then again on one that is not."""
    share = bench.random.uniform(0.05, 0.9)
    size = sum(file.stat().st_size for file in (bench.folder / "cases" / f"{command}-whole/out").rglob("*"))
    options = {
        "disk full": f"size={max(4, int(share * size / 1024))}k",
        "no inodes": f"nr_inodes={2 + int(share * len(bench.whole[command]))}",
        "read-only": "ro",
    }[kind]
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        bench.count(kind, command, finish(start(bench.arguments(command), folder)), tried=1)
        subprocess.run(["mount", "-o", "remount,rw,size=1g,nr_inodes=100000", "tmpfs", folder], check=True)
        inside = folder / "out"
        kept = bench.new(f"{folder.name}-kept")
        if inside.is_dir():
            shutil.copytree(inside, kept / "out")
    finally:
        subprocess.run(["umount", folder], check=True)
    bench.conclude(kind, command, kept)


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


def pairs(bench: Bench, commands: list[str], count: int) -> None:
    """Two processes of one command at once in one folder: one does the work, the other is told."""
    for number in range(count):
        for command in commands:
            bench.undisturbed(command)
            folder = bench.new(f"{command}-pair-{number}")
            both = [start(bench.arguments(command), folder) for _ in range(2)]
            ends = [finish(process) for process in both]
            bench.count("two at once", command, *ends, tried=1)
            bench.conclude("two at once", command, folder)


def ranks(bench: Bench, commands: list[str], count: int) -> None:
    """One of torchrun's two processes is killed, and torchrun starts both again."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3"]
    for number in range(count):
        for command in (name for name in commands if name in ("run", "bank", "recover")):
            bench.undisturbed(command)
            folder = bench.new(f"{command}-rank-{number}")
            process = start(bench.arguments(command), folder, launcher=launcher)
            time.sleep(bench.random.uniform(0.3, 1.2) * bench.seconds[command])
            if workers := children(process.pid):
                os.kill(bench.random.choice(workers), signal.SIGKILL)
            ended = finish(process)
            # torchrun prints a traceback of its own where a process fails for good
            bench.count("a rank killed", command, tried=1, tracebacks=ended.status != 0)
            bench.conclude("a rank killed", command, folder)


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def data(bench: Bench, commands: list[str], count: int) -> None:
    """An image changes, or goes, under a run, which ends in a result or one line; the next run is told."""
    for number in range(count):
        folder = bench.new(f"data-{number}")
        write_images(folder / "pets")
        (folder / "recipe.yaml").write_text(FOLDER_OF_IMAGES)
        words = ["run", "recipe.yaml", "--out", "out"]
        bench.undisturbed("run")
        process = start(words, folder)
        time.sleep(bench.random.uniform(0.2, 1) * bench.seconds["run"])
        victim = bench.random.choice(sorted((folder / "pets/train").rglob("*.png")))
        if bench.random.random() < 0.5:
            victim.unlink()
        else:
            victim.write_bytes(victim.read_bytes()[:40])
        first, second = finish(process), finish(start(words, folder))
        bench.count("data changed", "run", first, second, tried=1, lost=not second.told)
        if second.told and not first.traceback:
            shutil.rmtree(folder)


def write_images(root: Path) -> None:
    """A folder of two classes with 12 training and 4 test images each."""
    from PIL import Image

    shades = random.Random(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = bytes(shades.randrange(256) for _ in range(64))
                Image.frombytes("L", (8, 8), pixels).save(root / split / name / f"{i}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--count", type=int, help="kills in all (default: one a command), or times each")
    parser.add_argument("--in-a-row", type=int, default=1, help="kills of a folder before it is finished")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"unknown fault {min(unknown)}; there are {', '.join(FAULTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that disks are unmounted
    with tempfile.TemporaryDirectory(prefix="fastdd-faults-") as folder:
        bench = Bench(Path(folder), random.Random(arguments.seed))
        bench.prepare()
        commands: list[str] = arguments.commands
        for fault in arguments.faults or FAULTS:
            if fault == "kills":
                kills(bench, commands, arguments.count or len(commands), arguments.in_a_row)
            else:
                {"disk": disk, "pairs": pairs, "ranks": ranks, "data": data}[fault](
                    bench, commands, arguments.count or 1
                )
            print(bench.table(), flush=True)
        if arguments.json:
            rows = [{"fault": f, "command": c, **found} for (f, c), found in bench.counts.items()]
            arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
