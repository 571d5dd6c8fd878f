"""Files that may not be opened, and class folders whose names are no text: one line that names them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastdd
from fastdd.cli import main
from fastdd.errors import InputError

READS_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of capabilities(7)


class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Take all permissions from a path, and from the superuser the right to read it nevertheless."""
    library, header, sets = ctypes.CDLL(None), Header(0x20080522, 0), (Capabilities * 2)()
    assert library.capget(ctypes.byref(header), sets) == 0
    before, mode = sets[0].effective, path.stat().st_mode
    sets[0].effective = before & ~READS_ALL
    assert library.capset(ctypes.byref(header), sets) == 0
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)
        sets[0].effective = before
        library.capset(ctypes.byref(header), sets)


# -- permissions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "pets.yaml",
        "pets",
        "pets/train",
        "pets/test/dog",
        "pets/train/cat/3.png",
        "given",
        "given/t.safetensors",
        "given/t.pth",
    ],
)
def test_what_may_not_be_read_is_named(
    pets: Path, pets_recipe: Callable[[Path], Path], finished: Path, tmp_path: Path, name: str
) -> None:
    recipe, given = pets_recipe(pets), tmp_path / "given"
    given.mkdir()
    for weights in ("t.safetensors", "t.pth"):
        shutil.copy(finished / "teacher.safetensors", given / weights)
    weights = given / ("t.pth" if name.endswith("pth") else "t.safetensors")
    overrides = [f"teacher.weights={weights}"] if name.startswith("given") else []
    with closed(tmp_path / name), pytest.raises(InputError) as caught:
        fastdd.run(recipe, tmp_path / "out", overrides)
    assert name.removeprefix("pets/") in str(caught.value)
    assert "Permission denied" in str(caught.value)
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


def test_an_image_of_a_run_that_may_not_be_read_needs_its_permissions_alone(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    export = ("export", str(run), "--arm", "deda", "--to", "imagefolder", "--out", str(tmp_path / "set"))
    again = ("run", str(finished.parent / "tiny.yaml"), "--out", str(run))
    with closed(run / "images/deda/3/00001.png"):
        for command in (("report", str(run)), export, again):
            assert main(list(command)) == 2
            line = capsys.readouterr().err.strip().splitlines()[-1]
            assert "images/deda/3/00001.png exists and cannot be read (Permission denied); change its" in line
            assert "delete" not in line


# -- names of classes --------------------------------------------------------------------------------


def renamed(pets: Path, name: bytes) -> Path:
    """The pets, whose cats have another name."""
    for split in ("train", "test"):
        os.rename(pets / split / "cat", os.path.join(os.fsencode(pets / split), name))
    return pets


def test_a_class_whose_name_is_no_text_is_a_problem(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = pets_recipe(renamed(pets, b"caf\xe9"))
    assert main(["data", "check", str(pets)]) == 1
    assert capsys.readouterr().out.count("is a class whose name is not UTF-8; rename the folder") == 2
    assert main(["run", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert "is a class whose name is not UTF-8; rename the folder" in capsys.readouterr().err
    assert not (tmp_path / "out" / "teacher.safetensors").exists()


SAID = """
import json, sys
from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.report import report

for words in json.loads(sys.argv[1]):
    print("status", main(words))
    print("--", file=sys.stderr)
try:
    report(sys.argv[2])
except InputError as error:
    print(error, file=sys.stderr)
"""
"""commands one after another in a process, with their exit statuses, and what a function raises"""


def test_names_in_utf8_where_the_locale_has_none(
    pets: Path, pets_recipe: Callable[[Path], Path], tmp_path: Path
) -> None:
    recipe, out = pets_recipe(renamed(pets, "café".encode())), tmp_path / "out"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    fastdd.run(recipe, out)
    commands = [
        ["run", recipe, "--out", tmp_path / "other"],
        ["status", out],
        ["data", "check", pets],
        ["report", out],
        ["export", out, "--to", "imagefolder", "--out", tmp_path / "set"],
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    process = subprocess.run(
        [sys.executable, "-c", SAID, words, str(out)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert "Traceback" not in process.stderr
    assert process.returncode == 0, process.stderr
    *errors, raised = process.stderr.split("--\n")
    outputs = re.split(r"status (\d)\n", process.stdout)
    assert outputs[1::2] == ["2", "0", "1", "2", "2"]
    for number, (out, err) in enumerate(zip(outputs[::2], errors, strict=False)):
        assert ("done" if number == 1 else "start with PYTHONUTF8=1") in out + err
    assert not (tmp_path / "other").exists()
    assert raised.startswith("names of files are in ascii")
