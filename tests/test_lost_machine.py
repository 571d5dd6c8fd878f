"""A machine is lost: two network namespaces are two machines with one folder, and the one left goes on.

What a stage continues with is tested elsewhere: here it is that the processes find one another again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from fastdd.runtime.heartbeat import watch

UNITS = 12
WORK = f"""
import os, sys, time
from pathlib import Path
from fastdd.runtime.distributed import barrier, claims, from_main
units = [Path(sys.argv[1], f"unit-{{number}}") for number in range({UNITS})]
left = from_main(lambda: [number for number in range({UNITS}) if not units[number].exists()])
for place in claims("units", len(left)):
    time.sleep(0.5)
    units[left[place]].write_text("by one of " + os.environ["WORLD_SIZE"])
barrier()
"""
"""what a stage does with its units"""
QUICK = "is_host={host},last_call_timeout=10,keep_alive_interval=1,keep_alive_max_attempt=2"
"""who is host of the rendezvous; seconds until a machine that is silent is left out"""


def ip(*words: str) -> bool:
    """Whether ``ip`` did something."""
    done = subprocess.run(["ip", *words], capture_output=True, check=False)
    return done.returncode == 0


class Machine:
    """A network namespace with an address, in which commands run."""

    def __init__(self, name: str, address: str, device: str) -> None:
        self.name, self.address, self.device = name, address, device

    def torchrun(self, first: str, host: bool, *words: str | Path) -> subprocess.Popen[str]:
        """Start this machine's part of a command that up to two machines share."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1"]
        launcher += ["--max-restarts=3", "--monitor-interval=0.2", f"--local-addr={self.address}"]
        launcher += ["--rdzv-backend=c10d", "--rdzv-id=lost", f"--rdzv-endpoint={first}:29400"]
        launcher += [f"--rdzv-conf={QUICK.format(host=str(host).lower())}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.device}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *launcher, *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def kill(self) -> None:
        """End all that runs here at once."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        for pid in map(int, listed.stdout.split()):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines that a cable joins."""
    own = os.getpid()
    if not shutil.which("ip") or not ip("netns", "add", f"fastdd-a-{own}"):
        pytest.skip("network namespaces take root and iproute2")
    found = [Machine(f"fastdd-{x}-{own}", f"10.77.0.{n}", f"fd{x}{own}") for n, x in enumerate("ab", 1)]
    try:
        assert ip("netns", "add", found[1].name)
        ends = [each.device for each in found]
        if not ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1]):
            pytest.skip("this kernel has no veth")
        for each in found:
            assert ip("link", "set", each.device, "netns", each.name)
            assert ip("-n", each.name, "addr", "add", f"{each.address}/24", "dev", each.device)
            assert ip("-n", each.name, "link", "set", each.device, "up")
            assert ip("-n", each.name, "link", "set", "lo", "up")
        yield found[0], found[1]
    finally:
        for each in found:
            ip("netns", "del", each.name)


@pytest.mark.slow
def test_the_machine_that_is_left_does_what_the_lost_one_had_in_hand(
    tmp_path: Path, machines: tuple[Machine, Machine]
) -> None:
    first, second = machines
    (tmp_path / "work.py").write_text(WORK)
    command = (tmp_path / "work.py", tmp_path)
    mine = first.torchrun(first.address, True, *command)
    theirs = second.torchrun(first.address, False, *command)
    end = time.monotonic() + 300
    while "by one of 2" not in [unit.read_text() for unit in tmp_path.glob("unit-*")]:
        assert mine.poll() is None, mine.communicate()[1]
        assert theirs.poll() is None, theirs.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    second.kill()
    theirs.communicate()
    _, errors = mine.communicate(timeout=300)
    assert mine.returncode == 0, errors
    done = [(tmp_path / f"unit-{number}").read_text() for number in range(UNITS)]
    assert set(done) == {"by one of 1", "by one of 2"}


def test_a_process_that_is_silent_is_told_of_and_one_that_beats_is_not() -> None:
    store, lost = dist.HashStore(), list[int]()
    began = time.monotonic()
    watch(store, 0, 1, lost.append, patience=0.2)
    assert lost == [1]
    assert time.monotonic() - began > 0.2
    assert store.add("beat/0", 0) > 2

    class Ends(dist.Store):
        """A store that is gone after a while, in which the other process beats."""

        beats = 0

        def add(self, key: str, amount: int) -> int:
            self.beats += 1
            if self.beats == 20:
                raise RuntimeError("connection lost")
            return self.beats

    watch(Ends(), 0, 1, lost.append, patience=0.2)
    assert lost == [1]
