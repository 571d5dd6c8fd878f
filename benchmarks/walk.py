"""How far a reader walks to understand one stage: the files and functions whose code runs for it.

    python benchmarks/walk.py              # a line for each stage
    python benchmarks/walk.py --files      # and the functions of each file

A small run on the built-in digits is traced with ``sys.setprofile``, background threads included. What is
counted are the functions (code objects) that execute between the call of a stage's work and its return, by
the file that defines them:

    one SRe2L unit    Recovery.optimize    all steps of one unit's images, from their initial values
    one bank pass     build                from a teacher and real images to the files of a bank
    one student       train_student        a network trained on labels of the teacher, and tested

Files below fastdd/ and below fastdd_kernels/ are counted apart. Where the run calls the same work several
times, the call that runs the most functions is reported. Lambdas and comprehensions are not counted: they
belong to the function that holds them."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

import fastdd
import fastdd_kernels
from fastdd.bank.build import build
from fastdd.evaluate.student import train_student
from fastdd.recover.stage import Recovery

WORK = {
    Recovery.optimize.__code__: "one SRe2L unit",
    build.__code__: "one bank pass",
    train_student.__code__: "one student",
}
PACKAGES = {module.__name__: Path(str(module.__file__)).parent for module in (fastdd, fastdd_kernels)}
RECIPE = """
ipc: 1
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 1, minimum_accuracy: 0.0}
bank: {layers: [blocks]}
method: {steps: 3, augment: {roll: [-1, 1]}}
arms: {sre2l: {method: sre2l, lr: 0.1}}
recover: {compile: false}
student: {network: resnet8, pad: 1, flip: 0.0, seeds: 1, steps: 4}
metrics: {full_set: false}
"""


class Walk:
    """Notes what runs within calls of a stage's work; to be given to ``sys.setprofile``.

    Attributes:
        functions: stage -> code objects of the call that ran the most of them.
    """

    def __init__(self) -> None:
        self.functions: dict[str, set[CodeType]] = {stage: set() for stage in WORK.values()}
        self._open: dict[FrameType, set[CodeType]] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call":
            if code in WORK:
                self._open[frame] = set()
            for ran in list(self._open.values()):
                ran.add(code)
        elif event == "return" and frame in self._open:
            ran = self._open.pop(frame)
            stage = WORK[code]
            self.functions[stage] = max(self.functions[stage], ran, key=len)


def walk() -> dict[str, set[CodeType]]:
    """Stage -> the code objects that one call of its work ran, of whatever package."""
    note = Walk()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        recipe = Path(folder) / "walk.yaml"
        recipe.write_text(RECIPE)
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            fastdd.run(recipe, Path(folder) / "run", until="evaluate")
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return note.functions


def by_file(codes: set[CodeType], package: Path) -> Counter[str]:
    """File of a package -> number of its functions among the code objects."""
    counts: Counter[str] = Counter()
    for code in codes:
        path = Path(code.co_filename)
        if path.is_relative_to(package):
            counts[str(path.relative_to(package))] += not code.co_name.startswith("<")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Count the files and functions that run for one piece of work."
    )
    parser.add_argument("--files", action="store_true", help="also print the functions of each file")
    options = parser.parse_args()
    for stage, codes in walk().items():
        found = {name: by_file(codes, folder) for name, folder in PACKAGES.items()}
        text = [f"{len(files)} files, {files.total()} functions of {name}" for name, files in found.items()]
        print(f"{stage}: {'; '.join(text)}")
        for name, files in found.items() if options.files else ():
            for file, number in sorted(files.items()):
                print(f"    {name}/{file}: {number}")


if __name__ == "__main__":
    main()
