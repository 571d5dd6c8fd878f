"""Units that are written behind the loop: the same files in the same order, and errors that are not lost."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import forked
import pytest
import torch
from tiny_recovery import CLASSES, Lab, make_lab, method

from fastdd.config import Method, Recover
from fastdd.distilled import images as image_files
from fastdd.errors import InputError
from fastdd.recover import Recovery, Unit, recover, stage, unfinished
from fastdd.recover.loop import Losses
from fastdd.recover.saving import encoding_threads
from fastdd.run_folder import RunFolder

IPC = 3


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def recovered(lab: Lab, chosen: Method, out: Path) -> None:
    """Recover what a folder lacks, in units of one slot of all classes."""
    recovery, run = lab.recovery(chosen, Recover(unit_images=CLASSES)), RunFolder(out)
    left = unfinished("arm", recovery, run, num_classes=CLASSES, ipc=IPC)
    recover("arm", left, recovery, classes=lab.bank.classes, run=run)


def with_threads(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(stage, "encoding_threads", lambda device: threads)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def chosen(**changes: object) -> Method:
    return method("sre2l", steps=2, **changes)


def test_only_a_gpu_has_its_units_written_behind_the_loop() -> None:
    assert encoding_threads(torch.device("cpu")) == 0
    assert 1 <= encoding_threads(torch.device("cuda", 0)) <= 8


def test_threads_write_the_same_bytes_and_a_units_log_after_its_images(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovered(lab, chosen(), tmp_path / "loop")
    moved: list[str] = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        replace(source, target)
        moved.append(target.name)

    monkeypatch.setattr(os, "replace", noted)
    with_threads(monkeypatch, 2)
    recovered(lab, chosen(), tmp_path / "threads")
    assert files(tmp_path / "loop") == files(tmp_path / "threads")
    assert moved[CLASSES :: CLASSES + 1] == [f"unit_{index:05d}.json" for index in range(IPC)]
    assert len(moved) == IPC * (CLASSES + 1)


def test_a_unit_is_written_while_the_next_is_optimized_and_no_third_begins_to_wait(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, written = threading.Event(), list[str]()
    optimize, encode, write = Recovery.optimize, image_files.encode_png, stage.write

    def optimized(self: Recovery, unit: Unit, *more: object) -> tuple[torch.Tensor, Losses]:
        if unit.index == 1:
            assert not written
            begun.set()
        if unit.index == 2:
            assert written == ["unit_00000.json"]
        return optimize(self, unit, *more)  # type: ignore[arg-type]

    def encoded(image: torch.Tensor) -> torch.Tensor:
        assert begun.wait(60)
        return encode(image)

    def marked(path: Path, log: object) -> None:
        write(path, log)
        written.append(path.name)

    monkeypatch.setattr(Recovery, "optimize", optimized)
    monkeypatch.setattr(image_files, "encode_png", encoded)
    monkeypatch.setattr(stage, "write", marked)
    with_threads(monkeypatch, 2)
    recovered(lab, chosen(), tmp_path)
    assert len(written) == IPC


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("index", [1, IPC - 1])
def test_a_full_disk_is_the_same_error_and_its_unit_is_done_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, index: int
) -> None:
    with_threads(monkeypatch, threads)
    with monkeypatch.context() as patch:
        replace = os.replace

        def full(source: Path, target: Path) -> None:
            if target.stem == f"{index:05d}" and target.parent.name == "cow":
                raise OSError(errno.ENOSPC, "No space left on device")
            replace(source, target)

        patch.setattr(os, "replace", full)
        with pytest.raises(InputError, match=rf"no space left for .*cow/{index:05d}\.png"):
            recovered(lab, chosen(), tmp_path / "full")
    run = RunFolder(tmp_path / "full")
    assert run.units("arm") == [run.unit("arm", done) for done in range(index)]
    assert not list(run.path.rglob(".tmp-*"))
    recovered(lab, chosen(), run.path)
    recovered(lab, chosen(), tmp_path / "whole")
    assert files(run.path) == files(tmp_path / "whole")


KILLED = """
import os, sys
from pathlib import Path
from test_saving import chosen, make_lab, recovered, stage

replace = os.replace

def killing(source, target):
    if target == Path(sys.argv[2]):
        os.kill(os.getpid(), 9)
    replace(source, target)

lab = make_lab(Path(sys.argv[1]) / "bank")
stage.encoding_threads = lambda device: 2
os.replace = killing
recovered(lab, chosen(), Path(sys.argv[1]) / "killed")
"""


@pytest.mark.parametrize("last", ["images/arm/doe/00001.png", "recover/arm/unit_00001.json"])
def test_killed_while_a_unit_is_written_it_ends_with_the_same_bytes(
    tmp_path: Path, one_thread: None, last: str
) -> None:
    out = tmp_path / "killed"
    killed = forked.start("-c", KILLED, tmp_path, out / last, path=Path(__file__).parent)
    _, errors = killed.communicate()
    assert killed.returncode == -9, errors
    run, again = RunFolder(out), make_lab(tmp_path / "again")
    assert run.units("arm") == [run.unit("arm", 0)]
    for leftover in out.rglob(".tmp-*"):
        leftover.unlink()  # as a run does when it has the folder's lock
    recovered(again, chosen(), out)
    recovered(again, chosen(), tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")
