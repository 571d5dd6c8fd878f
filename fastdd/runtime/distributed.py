"""The thin layer on torchrun: which process of how many this is, and a barrier.

    torchrun --nproc-per-node 2 -m fastdd bank cifar10-deda
    torchrun --nnodes 1:4 --nproc-per-node 8 --max-restarts 10 --rdzv-backend c10d --rdzv-id NAME
        --rdzv-endpoint HOST:PORT -m fastdd run RECIPE                 on each of up to four machines

Without torchrun's environment there is one process and nothing to wait for. Processes share work through
files in the run folder and a counter in torchrun's store: what one finished, the others find there. Squeeze
alone sends tensors (teachers/parallel.py). Where a process or machine is lost, torchrun starts those that are
left again, and they continue with what is on the disk: what the lost one had in hand is done again.
"""

from __future__ import annotations

import atexit
import gc
import os
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from ..errors import InputError
from .heartbeat import beat

if TYPE_CHECKING:
    from torch.distributed import Store

PATIENCE = timedelta(days=7)  # a barrier may have to wait for a whole teacher
DELAY = 10.0  # seconds until a network file system shows a file to other machines
POLL = 0.02  # seconds between two looks at what another process has done
T = TypeVar("T")
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


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_size() -> int:
    """Number of processes that torchrun started on this machine."""
    return _environment("LOCAL_WORLD_SIZE", 1)


class Share(NamedTuple):
    """What one of several processes takes of each batch.

    Attributes:
        number: number of the process, 0 to processes - 1.
    """

    number: int = 0
    processes: int = 1

    def rows(self, total: int) -> slice:
        """The rows of this share of ``total``: as many as in the others, or one more in the first ones."""
        each, more = divmod(total, self.processes)
        first = self.number * each + min(self.number, more)
        return slice(first, first + each + (self.number < more))


WHOLE = Share()
"""the share of a process that is alone"""


def own_share() -> Share:
    """The share of this process among all."""
    return Share(rank(), world_size())


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
        store = dist.PrefixStore(_name_of_life(store, number, size), store)
        dist.init_process_group("gloo", store=store, rank=number, world_size=size, timeout=PATIENCE)
        beat(store.clone(), number, size)
        atexit.register(_leave)
    dist.barrier()


def _leave() -> None:
    """Leave the other processes.

    Left to the interpreter's end, gloo's threads may still run then, which aborts the process. A module for
    several processes that is in a cycle of references holds them, too.
    """
    import torch.distributed as dist

    gc.collect()
    dist.destroy_process_group()


def _name_of_life(store: Store, number: int, size: int) -> str:
    """A name that the processes of this start have in common, and those of no other.

    torchrun's store outlives its processes, and those that are started again must not find the addresses and
    counts of earlier ones there. Machines count restarts each for itself, so the main process makes the name.
    It tells it to whoever asks under the number of a process, of which only the living hear.
    """
    own = uuid.uuid4().hex
    if number:
        store.set(f"asks/{number}", own)
        name = store.get(f"name/{own}").decode()
        store.set(f"heard/{name}/{number}", "")
        return name
    told, left = set[str](), set(range(1, size))
    while left:
        for other in sorted(left):
            if store.check([f"heard/{own}/{other}"]):
                left.remove(other)
            elif store.check([f"asks/{other}"]) and (asks := store.get(f"asks/{other}").decode()) not in told:
                store.set(f"name/{asks}", own)
                told.add(asks)
        time.sleep(POLL)
    return own


def from_main(find: Callable[[], T]) -> T:
    """What the main process finds, in all processes; they come together.

    A list of what is left to do is the main one's, since a file system of a network may show others an older
    state, and processes with unlike lists would do work twice or not at all.
    """
    if world_size() == 1:
        return find()
    import torch.distributed as dist

    barrier()
    found = [find() if is_main() else None]
    dist.broadcast_object_list(found, 0)
    return cast(T, found[0])


def everywhere(value: bool) -> bool:
    """Whether a value is true in all processes; they come together."""
    if world_size() == 1:
        return value
    import torch.distributed as dist

    barrier()
    values = [False] * world_size()
    dist.all_gather_object(values, value)
    return all(values)


def require_shared(path: Path, look: Callable[[Path], T]) -> T:
    """What the main process sees in a file, once all see the same; all come together.

    File systems of a network may show it to other machines some seconds later.

    Args:
        path: the file, in the folder through which processes share their work.
        look: reads what is compared of it.

    Raises:
        InputError: a process cannot read it, or reads something else; every process raises it.
    """
    seen = from_main(lambda: look(path))
    if world_size() == 1:
        return seen
    import torch.distributed as dist

    end = time.monotonic() + DELAY
    while not (sees := _sees(path, look, seen)) and time.monotonic() < end:
        time.sleep(0.1)
    hosts: list[tuple[str, bool]] = [("", False)] * world_size()
    dist.all_gather_object(hosts, (socket.gethostname(), sees))
    if blind := [f"process {number} on {host}" for number, (host, seen) in enumerate(hosts) if not seen]:
        raise InputError(
            f"{blind[0]} does not see what process 0 on {hosts[0][0]} wrote into {path.parent.resolve()}; "
            "the processes of torchrun share their work through this folder: choose one with --out on a file "
            "system that all hosts share"
        )
    return seen


def _sees(path: Path, look: Callable[[Path], T], expected: T) -> bool:
    try:
        return look(path) == expected
    except OSError:
        return False


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
