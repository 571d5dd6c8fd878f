"""Commands of fastdd to which something is done: tiny recipes, processes, and counts of how they ended.

A server imports torch once and forks a process for each command, so that a command takes its own time and not
that of an import, and a kill hits work. What such a process runs is the command's own ``main``.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

DATA_AND_TEACHER = """\
data: {root: ROOT, channels: 1, size: 8}
teacher: {network: resnet8, mean: [0.5], std: [0.3], epochs: 2, batch: 16, pad: 1, minimum_accuracy: 0}
"""
RECIPE = f"""\
ipc: 2
{DATA_AND_TEACHER}
method: {{steps: 3}}
arms: {{deda: {{method: deda}}}}
bank: {{shard_mb: 0.2}}
recover: {{unit_images: 2}}
student: {{network: resnet8, steps: 3, batch: 8, pad: 1, seeds: 1, evaluations: 1, labels: stored}}
metrics: {{nearest_k: 3}}
"""
COUPLED = f"""\
ipc: 2
{DATA_AND_TEACHER}
arms:
  mtt:
    method: mtt
    match: {{trajectory: {{steps: 4, epochs: 1, latest_start: 3, lr: 0.03}}, networks: {{network: convnet1}}}}
    steps: 12
    lr: 3
experts: {{count: 3, lr: 0.05, batch: 16}}
recover: {{log_every: 2, checkpoint_every: 1}}
student: {{network: convnet1, steps: 3, batch: 8, pad: 1, flip: 0.0, seeds: 1, labels: hard}}
"""
"""MTT: all images are one unit, with a checkpoint inside, and experts before it"""
CLASSES = ("cat", "dog", "owl", "pig")
IMAGES = {"train": 12, "test": 4}
"""images of a class, by split"""
COMMANDS = (
    *("run", "squeeze", "bank", "recover", "label", "evaluate", "sweep", "export", "merge", "experts"),
    "coupled",
)
"""commands of fastdd; coupled: recover, of a recipe whose images are one unit"""
CREATES = ("export", "merge")
"""commands that make a new folder, and refuse one that is there"""
TIMES = ("manifest.json", "log.jsonl", "report.html")
"""files of a run that hold times of day, or seconds"""
COLUMNS = ("tried", "told", "same", "lost", "tracebacks")
PATIENCE = 300.0
"""seconds after which a command counts as one that hangs"""
PRELOADED = (
    "torch",
    "torchvision.io",
    "sklearn.datasets",
    "rich.progress",
    "rich.table",
    "safetensors.torch",
)
STAGES = ("fastdd.cli", "fastdd.runs.pipeline", "fastdd.runs.sweep", "fastdd.report", "fastdd.export")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, negative for a signal, and what it printed to stderr."""

    status: int
    text: str

    @property
    def told(self) -> bool:
        """Whether it ended in one line that says what is wrong."""
        return self.status == 2 and "error: " in (self.text.strip().splitlines() or [""])[-1]

    @property
    def traceback(self) -> bool:
        """Whether it printed a traceback, or did not end."""
        return "Traceback (most recent call last)" in self.text or self.text.startswith("hangs")

    @property
    def last_line(self) -> str:
        """What it said at last."""
        return (self.text.strip().splitlines() or [""])[-1]


# -- processes -------------------------------------------------------------------------------------

_SERVER = multiprocessing.get_context("forkserver")
_NUMBERS = count()
Disturbance = Callable[[], None]
"""what is done to a process before its command begins; a function of a module, or a partial of one"""


@dataclass(frozen=True)
class Running:
    """A command at work in a process of its own."""

    process: ForkServerProcess
    said: Path

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended; it may be halted."""
        return self.process.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def finish(self) -> Ended:
        """Wait for the end; one that hangs is killed."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.kill()
            return Ended(-1, "hangs")
        return self._ended()

    def kill(self) -> Ended:
        """kill -9 it, and what it started."""
        assert self.process.pid is not None
        with suppress(ProcessLookupError):  # it is over, or has no group of its own yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        return self._ended()

    def _ended(self) -> Ended:
        assert self.process.exitcode is not None
        text = self.said.read_text(errors="replace") if self.said.exists() else ""
        self.said.unlink(missing_ok=True)
        return Ended(self.process.exitcode, text)


def start(words: list[str], folder: Path, disturbance: Disturbance | None = None) -> Running:
    """Start a command of fastdd in a folder."""
    said = folder.parent / f"{folder.name}-stderr-{next(_NUMBERS)}"  # not on the folder's disk
    process = _SERVER.Process(target=_work, args=(words, str(folder), str(said), disturbance))
    process.start()
    return Running(process, said)


def _work(words: list[str], folder: str, said: str, disturbance: Disturbance | None) -> None:
    """What a forked process does."""
    os.setsid()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    from fastdd.cli import main

    if disturbance is not None:
        disturbance()
    sys.exit(main(words))


def serve() -> None:
    """Tell the server, before it starts, what to import once for all."""
    os.environ["OMP_NUM_THREADS"] = "1"  # bytes are compared, and forks have no threads
    _SERVER.set_forkserver_preload([*PRELOADED, *STAGES])


# -- cases and counts ------------------------------------------------------------------------------


@dataclass
class Bench:
    """A folder for all cases, with what the commands start from, and the counts.

    Attributes:
        json: where the counts are written after each case; None: nowhere. What stands there is continued.
        seed: what is drawn for a case is a function of the seed and of the case alone.
        whole: the files of each command that nothing happened to, by command.
        seconds: how long each took.
        counts: by fault and command.
        findings: what was lost, and the tracebacks.
    """

    folder: Path
    json: Path | None
    seed: int
    whole: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.json is not None and self.json.exists():
            written = json.loads(self.json.read_text())
            self.findings = written["findings"]
            for row in written["counts"]:
                found = Counter({column: row[column] for column in COLUMNS})
                self.counts[row["fault"], row["command"]] = found

    def draw(self, *case: object) -> random.Random:
        """The random numbers of a case."""
        return random.Random(f"{self.seed} {case}")

    def tried(self, fault: str, command: str) -> int:
        """How often a fault was tried, by this process or those before it."""
        return self.counts.get((fault, command), Counter())["tried"]

    def arguments(self, command: str) -> list[str]:
        """The command line; its results are in ``out`` below the current folder."""
        made = str(self.folder / "made")
        if command == "merge":
            return ["merge", str(self.folder / "a/bank"), str(self.folder / "b/bank"), "--out", "out"]
        if command == "export":
            return ["export", made, "--arm", "deda", "--to", "imagefolder", "--out", "out"]
        recipe = "coupled.yaml" if command in ("experts", "coupled") else "recipe.yaml"
        stage = "recover" if command == "coupled" else command
        words = [stage, str(self.folder / recipe), "--out", "out"]
        if command == "sweep":
            words += ["--grid", "method.gamma=1,2"]
        if command not in ("run", "squeeze"):
            words.append(f"teacher.weights={made}/teacher.safetensors")
        if command == "coupled":
            words.append(f"experts.path={made}-experts/experts")
        return words

    def prepare(self) -> None:
        """Make the finished run, the experts and the banks that commands start from."""
        recipe, coupled = (str(self.folder / name) for name in ("recipe.yaml", "coupled.yaml"))
        write_images(self.folder, root=str(self.folder / "pets"))
        teacher = "teacher.weights=made/teacher.safetensors"
        for words in (
            ["run", recipe, "--out", "made"],
            ["experts", coupled, "--out", "made-experts", teacher],
            ["bank", recipe, "--out", "a", "--classes", "0:2", teacher],
            ["bank", recipe, "--out", "b", "--classes", "2:4", teacher],
        ):
            ended = start(words, self.folder).finish()
            if ended.status:
                sys.exit(f"{' '.join(words)} failed:\n{ended.text}")

    def undisturbed(self, command: str) -> None:
        """Run a command to which nothing happens, once."""
        if command not in self.whole:
            folder = self.new(f"{command}-whole")
            began = time.monotonic()
            ended = start(self.arguments(command), folder).finish()
            if ended.status:
                sys.exit(f"{command} failed with nothing done to it:\n{ended.text}")
            self.seconds[command], self.whole[command] = time.monotonic() - began, files(folder / "out")

    def new(self, name: str) -> Path:
        """An empty folder for a case."""
        folder = self.folder / "cases" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def conclude(self, fault: str, command: str, folder: Path, *ends: Ended) -> None:
        """Run a disturbed command to its end, compare its files, count, and delete the case if all is well.

        Args:
            folder: where it worked.
            ends: how the disturbed processes ended.
        """
        ended = start(self.arguments(command), folder).finish()
        done = ended.status == 0 or (command in CREATES and "is not empty" in ended.text)
        now, wanted = files(folder / "out"), self.whole[command]
        other = sorted(name for name in {**wanted, **now} if wanted.get(name) != now.get(name))
        same = done and not other
        if not same:
            self.finding(fault, command, f"other files: {other[:5]}" if done else ended.text)
        self.count(fault, command, *ends, same=same, lost=not same, tracebacks=ended.traceback)
        if same:
            shutil.rmtree(folder)

    def count(self, fault: str, command: str, *ends: Ended, **numbers: int) -> None:
        """Count a case; ends are those of its processes."""
        found = self.counts.setdefault((fault, command), Counter())
        found.update({"tried": 1} | {name: int(number) for name, number in numbers.items()})
        for end in ends:
            found.update(told=int(end.told), tracebacks=int(end.traceback))
            if end.traceback:
                self.finding(fault, command, end.text)
        if self.json is not None:
            rows = [
                {"fault": f, "command": c} | {column: counts[column] for column in COLUMNS}
                for (f, c), counts in self.counts.items()
            ]
            unfinished = self.json.with_name(f"{self.json.name}.part")
            unfinished.write_text(json.dumps({"counts": rows, "findings": self.findings}, indent=2) + "\n")
            unfinished.replace(self.json)

    def finding(self, fault: str, command: str, text: str) -> None:
        """Note, and print, what should not be."""
        self.findings.append(f"{fault}, {command}: {text[-3000:]}")
        print(f"-- {self.findings[-1]}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """The counts as Markdown."""
        lines = [f"| fault | command | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
        rows = list(self.counts.items())
        for fault in dict.fromkeys(fault for (fault, _), _ in rows):
            total = Counter[str]()
            for (other, command), found in rows:
                if other == fault:
                    cells = " | ".join(str(found[column]) for column in COLUMNS)
                    lines.append(f"| {fault} | {command} | {cells} |")
                    total.update(found)
            lines.append(f"| **{fault}** | | {' | '.join(str(total[column]) for column in COLUMNS)} |")
        return "\n".join(lines)


def files(folder: Path) -> dict[str, str]:
    """Digests of the files of a result, by name."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in TIMES
    }


def write_images(folder: Path, root: str = "pets") -> None:
    """Write a folder of small gray images of each class, and recipes whose data are at ``root``."""
    from PIL import Image

    shades = random.Random(0)
    for split, number in IMAGES.items():
        for place, name in enumerate(CLASSES):
            (folder / "pets" / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = bytes(shades.randrange(128) + 40 * place for _ in range(64))
                Image.frombytes("L", (8, 8), pixels).save(folder / "pets" / split / name / f"{i}.png")
    for file, recipe in {"recipe.yaml": RECIPE, "coupled.yaml": COUPLED}.items():
        (folder / file).write_text(recipe.replace("ROOT", root))
