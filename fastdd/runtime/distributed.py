"""The thin layer on torchrun: which process of how many this is, and a barrier.

    torchrun --nproc-per-node 2 -m fastdd bank cifar10-deda

Without torchrun's environment there is one process and nothing to wait for. Processes share work through
files in the run folder and a counter in torchrun's store, never through collectives: what one finished, the
others find there.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ..errors import InputError

PATIENCE = timedelta(days=7)  # a barrier may have to wait for a whole teacher
DELAY = 10.0  # seconds until a network file system shows a file to other machines
_uses: Counter[str] = Counter()
"""How often this process came to a queue of a name; the runs of a sweep use the same names in turn."""


def rank() -> int:
    """0 to world_size() - 1."""
    return _environment("RANK", 0)


def world_size() -> int:
    """Number of processes that torchrun started."""
    return _environment("WORLD_SIZE", 1)


def local_rank() -> int:
    """Number of this process on its machine: which of its GPUs to take."""
    return _environment("LOCAL_RANK", 0)


def is_main() -> bool:
    """Whether this process writes what the run has only one of, such as its manifest."""
    return rank() == 0


def say_once(text: str) -> None:
    """Print a line on stderr in the main process alone; an empty text is not printed."""
    if text and is_main():
        print(text, file=sys.stderr)


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() == 1:
        return
    import torch.distributed as dist

    if not dist.is_initialized():
        store, number, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        # The launcher's store may outlive its processes; those started again must not find the old addresses.
        life = dist.PrefixStore(f"life_{_environment('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group("gloo", store=life, rank=number, world_size=size, timeout=PATIENCE)
        # Left to the interpreter's end, gloo's threads may still run then, which aborts the process.
        atexit.register(dist.destroy_process_group)
    dist.barrier()


def require_shared(path: Path) -> None:
    """Refuse a folder that is not the same one for all processes; all come together.

    Args:
        path: a file in it that the main process has just written. File systems of a network may show it to
            other machines some seconds later.

    Raises:
        InputError: a process cannot read it, or reads another; every process raises it.
    """
    if world_size() == 1:
        return
    import torch.distributed as dist

    barrier()
    written: list[bytes | None] = [path.read_bytes() if is_main() else None]
    dist.broadcast_object_list(written, 0)
    end = time.monotonic() + DELAY
    while not (sees := _content(path) == written[0]) and time.monotonic() < end:
        time.sleep(0.1)
    hosts: list[tuple[str, bool]] = [("", False)] * world_size()
    dist.all_gather_object(hosts, (socket.gethostname(), sees))
    if blind := [f"process {number} on {host}" for number, (host, seen) in enumerate(hosts) if not seen]:
        raise InputError(
            f"{blind[0]} does not see what process 0 on {hosts[0][0]} wrote into {path.parent}; the "
            "processes of torchrun share their work through this folder: choose one with --out on a file "
            "system that all hosts share"
        )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def claims(queue: str, count: int) -> Iterator[int]:
    """Numbers 0 to count - 1, each given to the one process that comes for it first.

    All processes come to the same queues in the same order. A queue of a name is new each time, and when
    torchrun starts the processes again.
    """
    if world_size() == 1:
        yield from range(count)
        return
    import torch.distributed as dist

    _uses[queue] += 1
    barrier()
    store = dist.distributed_c10d._get_default_store()
    while (number := store.add(f"queue/{queue}/{_uses[queue]}", 1) - 1) < count:
        yield number


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise InputError(f"environment variable {name} is {text!r}, expected a number as torchrun sets it")
    return int(text)
