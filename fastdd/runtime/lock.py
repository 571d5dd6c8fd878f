"""Locks on folders: which processes are at work in one, freed when they end, however they end.

Each process at work keeps a file ``.lock-HOST-PID-NUMBER`` in the folder, which says who it is, and holds the
system's lock on that file, which goes with the process. Where the system's locks do not reach other hosts of
a shared file system, the age of the file does: it is touched every few seconds, and one that was not touched
for long is of a process that is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import InputError
from .distributed import say_once
from .files import LOCK, explained, temporary_name

BEAT = 10.0
"""seconds between two touches of a lock"""
PATIENCE = 90.0
"""age in seconds at which a lock of another host is that of a process that is gone"""
PAUSE = 1.0
"""seconds between two looks whether another process has ended"""
_NUMBERS = count()
"""numbers of this process's locks: its threads exclude each other too"""


@dataclass(frozen=True)
class Worker:
    """A process at work in a folder.

    Attributes:
        command: what it does, such as ``run``.
        pid, host: its number and the name of its machine.
        since: when it began, in local time.
        shared: others that share may be at work beside it.
        locked: it holds the system's lock on its file; else its file system has none.
    """

    command: str
    pid: int
    host: str
    since: str
    shared: bool
    locked: bool


_WORKER = TypeAdapter(Worker)


def refuse_busy(folder: Path, *, shared: bool = False) -> None:
    """Refuse a folder in which another process is at work; nothing is written.

    Args:
        folder: present or absent.
        shared: processes that share are no hindrance.
    """
    _refuse_living(folder, _locks(folder), shared)


def workers(folder: Path) -> list[Worker]:
    """The processes at work in a folder, present or absent; nothing is written."""
    return [worker for path in _locks(folder) if (worker := _living(path)) is not None]


def await_gone(folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait while a lock may be that of a machine that was lost; nothing is written.

    Such a lock is no longer touched, and goes stale; one that is touched is of a process that lives, and is
    left to ``refuse_busy``.

    Args:
        folder: present or absent.
        sleep: waits for seconds.
    """
    for path in _locks(folder):
        worker, touched = _living(path), _touched(path)
        if worker is None or worker.host == socket.gethostname():
            continue
        say_once(f"{folder} is held by pid {worker.pid} on {worker.host}; waiting whether that is gone")
        while _living(path) is not None and _touched(path) == touched:
            sleep(1.0)


def _touched(path: Path) -> int | None:
    """When a lock was last touched; None: it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


@contextmanager
def at_work(
    folder: Path,
    command: str,
    *,
    shared: bool = False,
    waits: bool = False,
    remedy: str = "choose another folder with --out",
) -> Iterator[None]:
    """Hold a folder for this process; one that is made for it goes again if nothing is put in.

    Args:
        command: what is done there, for the message that others get.
        shared: others that share may work there at the same time.
        waits: a process that does the same there is waited for, and stderr says so.
        remedy: what to do where the folder cannot be written, for messages.

    Raises:
        InputError: another process is at work there, or the folder cannot be written.
    """
    with explained(folder, remedy=remedy):
        while True:
            is_new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            if waits:
                _wait(folder, command)
            try:
                with _alone_in(folder):
                    if waits and _same_work(folder, command):  # another that waited was faster
                        continue
                    refuse_busy(folder, shared=shared)
                    _remove_dead(folder)
                    path, file = _lock(folder, command, shared)
                    break
            except FileNotFoundError:
                if not waits:  # else the one that was waited for left nothing in the folder, which went
                    raise
    ended = threading.Event()
    beat = threading.Thread(target=_touch, args=(file, ended), name="lock", daemon=True)
    try:
        # Where the folder cannot be locked, two may have come at once: then each sees the other's lock here.
        _refuse_living(folder, [other for other in _locks(folder) if other != path], shared)
        beat.start()
        yield
    finally:
        ended.set()
        if beat.ident is not None:
            beat.join()
        with suppress(OSError):
            path.unlink(missing_ok=True)
            if is_new:
                folder.rmdir()  # fails where something lies in it
        os.close(file)


def _same_work(folder: Path, command: str) -> Worker | None:
    """The first process that does the same in a folder; None: there is none."""
    return next((worker for worker in workers(folder) if worker.command == command), None)


def _wait(folder: Path, command: str) -> None:
    """Wait until no other process does the same in a folder; stderr says for whom."""
    first = worker = _same_work(folder, command)
    if first is not None:
        print(
            f"a {command} (pid {first.pid} on {first.host}, since {first.since}) is at work in {folder}; "
            "waiting for it",
            file=sys.stderr,
        )
    while worker is not None:
        time.sleep(PAUSE)
        worker = _same_work(folder, command)


def _remove_dead(folder: Path) -> None:
    """Delete the locks of processes that are gone, also of one that was killed while it wrote its lock."""
    for path in _locks(folder):
        if _living(path) is None:
            path.unlink(missing_ok=True)
    for path in folder.glob(f".tmp-*-{LOCK}*"):
        path.unlink(missing_ok=True)


def is_abandoned(folder: Path) -> bool:
    """Whether a process that took a folder was killed, and nobody else holds it."""
    locks = _locks(folder)
    return bool(locks) and all(_living(path) is None for path in locks)


def _locks(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{LOCK}*")) if folder.is_dir() else []


def _refuse_living(folder: Path, locks: Iterable[Path], shared: bool) -> None:
    """Refuse a folder of whose locks a living process holds one; where shared, one that does not share."""
    for path in locks:
        worker = _living(path)
        if worker is not None and not (shared and worker.shared):
            raise InputError(
                f"a {worker.command} (pid {worker.pid} on {worker.host}, since {worker.since}) is at work in "
                f"{folder}; wait for it, or choose another folder"
            )


def _lock(folder: Path, command: str, shared: bool) -> tuple[Path, int]:
    """Write the lock of this process: its path and its open file, on which the system's lock is."""
    host, since = socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")
    path = folder / f"{LOCK}{host}-{os.getpid()}-{next(_NUMBERS)}"
    unfinished = temporary_name(path)  # nobody sees a lock that does not say yet whose it is
    file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    locked = _take(file, fcntl.LOCK_EX)
    worker = Worker(command, os.getpid(), host, since, shared=shared, locked=locked)
    os.write(file, json.dumps(asdict(worker)).encode())
    os.replace(unfinished, path)
    return path, file


def _take(file: int, kind: int) -> bool:
    """Take the system's lock on an open file; False: its file system has none.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        raise
    except OSError:  # some shared file systems have no locks
        return False
    return True


def _living(path: Path) -> Worker | None:
    """Who holds a lock; None: a process that is gone, or nobody."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            is_free = _take(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others may look at the same time
        except BlockingIOError:
            return _worker(file, path)
        worker = _worker(file, path)
        if is_free and worker.locked and worker.host == socket.gethostname():
            return None
        return worker if time.time() - os.fstat(file).st_mtime < PATIENCE else None
    finally:
        os.close(file)


def _worker(file: int, path: Path) -> Worker:
    """What a lock says; one that is damaged is of somebody unknown."""
    try:
        return _WORKER.validate_json(os.pread(file, 1 << 16, 0))
    except ValidationError:
        return Worker("process", 0, path.name.removeprefix(LOCK), "unknown", shared=False, locked=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process looks who is at work here, as far as the file system can lock a folder."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _touch(file: int, ended: threading.Event) -> None:
    """Say every few seconds that this process is at work."""
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(file)
