"""Devices by name: what each process of torchrun takes."""

from __future__ import annotations

import pytest
import torch

from fastdd.errors import InputError
from fastdd.runtime import devices


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs, as torch tells of it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


def under_torchrun(monkeypatch: pytest.MonkeyPatch, number: int, processes: int) -> None:
    """This is one of several processes, with a number on its machine."""
    for name, value in (("RANK", 4 + number), ("LOCAL_RANK", number), ("WORLD_SIZE", processes)):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_takes_the_gpu_of_its_number(gpus: pytest.MonkeyPatch, name: str) -> None:
    for number in (0, 1):
        under_torchrun(gpus, number, 8)
        assert devices._chosen(name) == torch.device("cuda", number)


def test_it_becomes_the_current_one(gpus: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    gpus.setattr(torch.cuda, "set_device", current.append)
    gpus.setattr(torch, "zeros", lambda size, device: torch.ones(size))
    under_torchrun(gpus, 1, 2)
    assert devices.device_of("auto") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1")]


def test_more_processes_than_gpus_are_refused(gpus: pytest.MonkeyPatch) -> None:
    under_torchrun(gpus, 2, 3)
    with pytest.raises(
        InputError, match=r"process 2 of this machine has no GPU .* --nproc-per-node 2, or use"
    ):
        devices.device_of("auto")
    assert devices.device_of("cpu") == torch.device("cpu")


def test_one_process_and_a_device_with_a_number_are_left_alone(gpus: pytest.MonkeyPatch) -> None:
    assert devices._chosen("auto") == torch.device("cuda")
    under_torchrun(gpus, 0, 2)
    assert devices._chosen("cuda:1") == torch.device("cuda:1")
    gpus.setattr(torch.cuda, "is_available", lambda: False)
    assert devices._chosen("auto") == torch.device("cpu")


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"device 'warp' is unknown; use auto, cpu, cuda or cuda:N"):
        devices.device_of("warp")
