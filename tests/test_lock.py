"""Locks on folders: a second process is told who is at work there, and death frees the folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastdd
from fastdd.cli import main
from fastdd.errors import InputError
from fastdd.run_folder import RunFolder
from fastdd.runtime import lock
from fastdd.runtime.lock import at_work, await_gone, refuse_busy
from fastdd.runtime.new_folders import new_folder

HOLD = """
import sys, time
from pathlib import Path
from fastdd.runtime.lock import at_work
with at_work(Path(sys.argv[1]), "run", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""
Holder = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def holder() -> Holder:
    """Start a process that holds a folder, which has it when this returns."""

    def start(folder: Path, shared: str = "alone") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder), shared]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return start


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_told_who_is_at_work(holder: Holder, tmp_path: Path) -> None:
    process = holder(tmp_path)
    told = (
        rf"^a run \(pid {process.pid} on {socket.gethostname()}, since 20\d\d-.*\) is at work in {tmp_path}"
    )
    for command in ("run", "report"):
        with pytest.raises(InputError, match=told), at_work(tmp_path, command):
            pass
    with pytest.raises(InputError, match=told):
        refuse_busy(tmp_path, shared=True)
    kill(process)


def test_kill_9_frees_the_folder_at_once(holder: Holder, tmp_path: Path) -> None:
    kill(holder(tmp_path))
    assert len(list(tmp_path.glob(".lock-*"))) == 1
    refuse_busy(tmp_path)
    with at_work(tmp_path, "run"):
        (path,) = tmp_path.iterdir()
        assert path.name.startswith(f".lock-{socket.gethostname()}-{os.getpid()}-")
    assert not list(tmp_path.iterdir())


def test_those_that_share_work_together_and_nobody_else(holder: Holder, tmp_path: Path) -> None:
    first, second = holder(tmp_path, "shared"), holder(tmp_path, "shared")
    with at_work(tmp_path, "bank", shared=True):
        pass
    kill(first)
    with pytest.raises(InputError, match=rf"pid {second.pid} "), at_work(tmp_path, "run"):
        pass
    kill(second)
    with at_work(tmp_path, "run"):
        pass


def test_other_hosts_are_known_by_the_age_of_their_lock(tmp_path: Path) -> None:
    theirs = tmp_path / ".lock-elsewhere-7"
    worker = {"command": "recover", "pid": 7, "host": "elsewhere", "since": "2026-01-01 00:00:00"}
    theirs.write_text(json.dumps(worker | {"shared": False, "locked": True}))
    with pytest.raises(InputError, match=r"^a recover \(pid 7 on elsewhere, since 2026-01-01 00:00:00\)"):
        refuse_busy(tmp_path)
    old = time.time() - lock.PATIENCE - 1
    os.utime(theirs, (old, old))
    with at_work(tmp_path, "run"):
        assert not theirs.exists()


def test_processes_of_torchrun_wait_whether_the_machine_that_held_a_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no longer touched is of a lost machine; what is touched meanwhile lives, and is refused."""
    path = tmp_path / f"{lock.LOCK}elsewhere-7-0"
    worker = {"command": "run", "pid": 7, "host": "elsewhere", "since": "now", "shared": False}
    path.write_text(json.dumps({**worker, "locked": True}))
    slept: list[float] = []

    def touched(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            os.utime(path, (time.time() + 1, time.time() + 1))

    await_gone(tmp_path, touched)
    assert len(slept) == 3
    with pytest.raises(InputError, match=r"a run \(pid 7 on elsewhere, since now\) is at work"):
        refuse_busy(tmp_path)
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    os.utime(path)
    await_gone(tmp_path, lambda _: time.sleep(0.1))
    refuse_busy(tmp_path)
    await_gone(tmp_path / "absent")


def test_a_lock_is_touched_while_its_process_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with at_work(tmp_path, "run"):
        (path,) = tmp_path.iterdir()
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_file_systems_without_locks_go_by_age_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int, kind: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fastdd.runtime.lock.fcntl.flock", refuse)
    with at_work(tmp_path, "run"):
        (path,) = tmp_path.iterdir()
        with pytest.raises(InputError, match="is at work in"):
            refuse_busy(tmp_path)
        os.utime(path, (0, 0))
        refuse_busy(tmp_path)


def test_two_that_come_at_once_to_a_folder_without_locks_see_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's lock appears after this process looked and before it has its own."""

    def lock_both(folder: Path, command: str, shared: bool) -> tuple[Path, int]:
        theirs = {"command": "recover", "pid": 7, "host": "elsewhere", "since": "now"}
        content = json.dumps(theirs | {"shared": False, "locked": False})
        (folder / ".lock-elsewhere-7").write_text(content)
        return ours(folder, command, shared)

    ours = lock._lock
    monkeypatch.setattr(lock, "_lock", lock_both)
    with pytest.raises(InputError, match=r"^a recover \(pid 7 on elsewhere"), at_work(tmp_path, "run"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock-elsewhere-7"]


def test_a_damaged_lock_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".lock-x-1").write_text("{half")
    with pytest.raises(InputError, match=r"^a process \(pid 0 on x-1, since unknown\) is at work"):
        refuse_busy(tmp_path)


def test_of_many_at_once_one_works(tmp_path: Path) -> None:
    """Threads of one process have locks of their own, so they exclude each other as processes do."""
    inside, most = 0, 0

    def work(_: int) -> bool:
        nonlocal inside, most
        try:
            with at_work(tmp_path, "run"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(100)))
    assert most == 1
    assert any(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        *(["run", "tiny.yaml", "--out", "F"], ["run", "tiny.yaml", "--out", "F", "--fresh"]),
        *(["squeeze", "tiny.yaml", "--out", "F"], ["bank", "tiny.yaml", "--out", "F"]),
        *(["recover", "tiny.yaml", "--out", "F", "--units", "0:1"], ["label", "tiny.yaml", "--out", "F"]),
        *(["evaluate", "tiny.yaml", "--out", "F"], ["report", "F"], ["evaluate", "F", "--arm", "deda"]),
        *(
            ["robust", "F", "--arm", "deda"],
            ["sweep", "tiny.yaml", "--grid", "method.steps=1,2", "--out", "F"],
        ),
        ["labels", "import-fkd", "F", "F", "--arm", "deda", "--out", "F"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_that_writes_respects_it(
    finished: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The finished run lies in a folder that other tests read, so only the lock is put there."""
    copy = tmp_path / "out"
    copy.mkdir()
    for path in finished.iterdir():
        (copy / path.name).symlink_to(path)
    places = {"F": str(copy), "tiny.yaml": str(finished.parent / "tiny.yaml")}
    with at_work(copy, "run"):
        before = sorted(path.name for path in copy.iterdir())
        assert main([places.get(word, word) for word in command]) == 2
        assert "is at work in" in capsys.readouterr().err
        assert sorted(path.name for path in copy.iterdir()) == before


def test_array_jobs_share_a_folder(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fastdd.run(tiny, out, until="squeeze")
    with at_work(out, "bank", shared=True):
        fastdd.run(tiny, out, until="bank", part=range(5))
        for more in ({}, {"part": range(5), "fresh": True}):
            with pytest.raises(InputError, match=r"^a bank \(pid \d+ .* is at work in"):
                fastdd.run(tiny, out, until="bank", **more)
    assert list(RunFolder(out).bank().glob("classes-0*"))


def test_temporary_names_of_others_are_no_leftovers(tiny: Path, tmp_path: Path) -> None:
    thesis, out = tmp_path / "notes" / ".tmp-thesis", tmp_path / "out"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(InputError, match=r"notes exists and is no run folder"):
        fastdd.run(tiny, thesis.parent, until="squeeze")
    fastdd.run(tiny, out, until="squeeze")
    theirs = [out / ".tmp-thesis", out / ".tmp-7-thesis", out / "mine" / ".tmp-7-metrics.json"]
    ours = [out / ".tmp-7-metrics.json", out / "students" / "deda" / ".tmp-7-seed_0.json"]
    folder = out / ".tmp-7-teacher.safetensors.folder"
    for path in (*theirs, *ours, folder / ".tmpEsivZC"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    fastdd.run(tiny, out, until="squeeze")
    fastdd.run(tiny, out, until="squeeze", fresh=True)
    assert all(path.read_text() == "half" for path in theirs)
    assert not any(path.exists() for path in (*ours, folder))
    assert thesis.read_text() == "years of work"


def test_what_a_killed_export_left_goes_with_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom fastdd.runtime.new_folders import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / '0.png').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(out)], timeout=60)
    (left,) = tmp_path.iterdir()
    theirs = [tmp_path / ".tmp-7-out", tmp_path / ".tmp-7-other" / ".lock-host-7-0"]  # of no process of ours
    for path in (theirs[0] / "thesis.txt", theirs[1]):
        path.parent.mkdir()
        path.write_text("years of work")
    with new_folder(out) as folder:
        assert not left.exists()
        (folder / "1.png").write_bytes(b"whole")
        with pytest.raises(InputError, match=r"a writer .* is at work in"), new_folder(out):
            pass
    assert [path.name for path in out.iterdir()] == ["1.png"]
    assert all(path.exists() for path in theirs)


def test_fresh_leaves_what_a_link_points_to(tiny: Path, tmp_path: Path) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    fastdd.run(tiny, out, until="squeeze")
    scratch.mkdir()
    (scratch / "precious.txt").write_text("years of work")
    (out / "images").symlink_to(scratch)
    fastdd.run(tiny, out, until="squeeze", fresh=True)
    assert not (out / "images").is_symlink()
    assert (scratch / "precious.txt").read_text() == "years of work"


def test_metrics_write_over_nothing_but_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("years of work", "[1]", '{"set": 3}'):
        (tmp_path / "precious.txt").write_text(text)
        assert main(["metrics", str(tmp_path), "--json", str(tmp_path / "precious.txt")]) == 2
        assert "precious.txt exists and holds no metrics of fastdd" in capsys.readouterr().err
        assert (tmp_path / "precious.txt").read_text() == text


def test_a_set_that_cannot_be_written_is_refused_before_the_work(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    command = ["evaluate", str(finished), "--arm", "deda"]
    with monkeypatch.context() as patch:
        patch.setattr("fastdd.runtime.lock._lock", refuse)
        assert main(command) == 2
    error = capsys.readouterr().err
    assert f"cannot write {finished}: Read-only file system; name a file elsewhere with --json" in error
    (tmp_path / "file").write_text("")
    assert main([*command, "--json", str(tmp_path / "file" / "x.json")]) == 2
    assert "name another file with --json" in capsys.readouterr().err


def test_a_folder_that_was_made_for_work_that_failed_goes_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no"), at_work(tmp_path / "new", "run"):
        raise InputError("no")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with at_work(tmp_path / "old", "run"):
        pass
    assert (tmp_path / "old").is_dir()
    with at_work(tmp_path / "full", "run"):
        (tmp_path / "full" / "result").write_text("x")
    assert (tmp_path / "full" / "result").exists()
