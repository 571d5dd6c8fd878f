"""`recover.unit_images: auto`: units as large as a GPU's memory allows, decided once for a run folder."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_recovery import CLASSES, IPC, SHAPE, Lab, make_lab, method

from fastdd.config import BatchSize, Method, Recover
from fastdd.distilled.images import load_images
from fastdd.recover import Recovery, recover, resources, unfinished
from fastdd.recover.resources import GPU_SHARE, STATE_BYTES, bytes_per_image, images_that_fit
from fastdd.run_folder import RunFolder, UnitPlan, read
from fastdd.runtime import memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
TOTAL = CLASSES * IPC


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def chosen() -> Method:
    return method("sre2l", batch=BatchSize(classes=2, slots=1), steps=2)


def fake_gpu(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    """A plan is made for a GPU with so many free bytes."""
    monkeypatch.setattr(Recovery, "device", CUDA)
    monkeypatch.setattr(resources, "free_device_memory", lambda device: free)


def bytes_of_images(lab: Lab, count: int) -> float:
    """Free bytes of a GPU on which a step of ``count`` images just fits."""
    kept = bytes_per_image(lab.taps(chosen().terms), SHAPE, Recover().precision)
    return count * (2 * kept + STATE_BYTES * math.prod(SHAPE)) / GPU_SHARE + 1


def test_a_gpu_gets_what_fits_a_cpu_a_hundred_and_every_process_a_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "free_device_memory", lambda device: 139 * 2**30)
    monkeypatch.setattr(resources, "memory_budget", lambda: 2**33)
    assert images_that_fit(CUDA, 50_000_000, 50_000) == 1000
    assert images_that_fit(CUDA, 500_000_000, 50_000) == int(GPU_SHARE * 139 * 2**30 / 500e6)
    assert images_that_fit(CUDA, 10**12, 50_000) == 1
    assert images_that_fit(CUDA, 50_000_000, 500) == 500
    assert [images_that_fit(CPU, each, 50_000) for each in (1, 2**28)] == [100, 32]
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert images_that_fit(CUDA, 50_000_000, 500) == 63
    assert images_that_fit(CPU, 1, 500) == 100


def test_memory_that_torch_keeps_for_reuse_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("memory_reserved", 70), ("memory_allocated", 30)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60, 1000))
    assert memory.free_device_memory(CUDA) == 100
    assert memory.device_budget(CUDA) == 60


def test_a_run_folder_keeps_its_units_on_a_gpu_with_less_memory_and_on_a_cpu(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")

    def left(config: Recover | None = None, folder: RunFolder = run) -> list[list[tuple[int, int]]]:
        recovery = lab.recovery(chosen(), config or Recover())
        units = unfinished("arm", recovery, folder, num_classes=CLASSES, ipc=IPC)
        return [unit.rows for unit in units]

    with monkeypatch.context() as patch:
        fake_gpu(patch, bytes_of_images(lab, 9))
        planned = left()
        assert [len(rows) for rows in planned] == [8, 8, 8]  # whole batches of 2
        assert read(run.plan("arm"), UnitPlan).unit_images == 9
        assert left() == planned
        assert capsys.readouterr().err == ""
        fake_gpu(patch, bytes_of_images(lab, 3))
        assert left() == planned
        told = capsys.readouterr().err
        assert "recover arm: its units hold up to 9 images" in told
        assert f"free here is for 3; if it does not suffice, delete {run.recovery('arm')}" in told
        assert {len(rows) for rows in left(folder=RunFolder(tmp_path / "small"))} == {2}
    assert left() == planned
    assert capsys.readouterr().err == ""
    found = []
    for folder, config in ((run, Recover()), (RunFolder(tmp_path / "given"), Recover(unit_images=9))):
        recovery = lab.recovery(chosen(), config)
        units = unfinished("arm", recovery, folder, num_classes=CLASSES, ipc=IPC)
        recover("arm", units, recovery, classes=lab.bank.classes, run=folder)
        images = folder.images("arm")
        found.append(load_images(images, lab.bank.classes, IPC, channels=3, config=chosen().save)[0])
    assert torch.equal(*found)
    assert len(found[0]) == TOTAL


def test_on_a_cpu_the_default_is_units_of_a_hundred(lab: Lab, tmp_path: Path) -> None:
    sizes = []
    for name, config in (("auto", Recover()), ("given", Recover(unit_images=100))):
        recovery = lab.recovery(chosen(), config)
        units = unfinished("arm", recovery, RunFolder(tmp_path / name), num_classes=CLASSES, ipc=60)
        sizes.append([len(unit.rows) for unit in units])
    assert sizes[0] == sizes[1] == [100, 100, 40]
