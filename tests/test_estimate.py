"""``fastdd estimate``: what a run costs, counted on devices that are not there."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fastdd
from fastdd.bank.store import shards
from fastdd.cli import main
from fastdd.cost import GPUS, estimate, trial
from fastdd.cost.counting import Launch
from fastdd.cost.devices import GPU
from fastdd.cost.estimate import decoded_images
from fastdd.cost.expert_works import expert_works
from fastdd.cost.fake_device import fake_device
from fastdd.cost.processor import Processor
from fastdd.cost.storage import storage
from fastdd.cost.subject import Subject
from fastdd.cost.work import Work
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.runs.pipeline import run

TINY = ["teacher.network=resnet8", "student.network=resnet8", "student.steps=20", "teacher.epochs=2", "ipc=2"]


def test_memory_is_that_of_the_tensors_that_are_alive() -> None:
    with fake_device("cpu") as counts:
        kept = torch.zeros(1000)
        for _ in range(3):
            torch.zeros(500) + 1
        view = kept[:10]
        assert (counts.held, counts.peak) == (4000, 4000 + 2 * 2000)
        del kept
        assert counts.held == 4000  # the view keeps it
        del view
        assert counts.held == 0


def test_operations_and_bytes_are_those_of_the_operators() -> None:
    with fake_device("cpu") as counts:
        nn.functional.conv2d(torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3), padding=1)
    (launch,) = (each for each in counts.launches if each.name == "convolution")
    assert launch.flops == 2 * 2 * 4 * 8 * 8 * 3 * 3 * 3
    assert launch.bytes == 4 * (2 * 3 * 64 + 4 * 27 + 2 * 4 * 64)


def test_groups_of_a_convolution_are_counted_once() -> None:
    """Four groups take what the four convolutions take one by one, forward and backward."""

    def flops(groups: int, width: int) -> int:
        with fake_device("cpu") as counts:
            weights = torch.zeros(4 * groups, 3, 3, 3, requires_grad=True)
            images = torch.zeros(2, width, 8, 8, requires_grad=True)
            nn.functional.conv2d(images, weights, groups=groups).sum().backward()
        return sum(launch.flops for launch in counts.launches)

    assert flops(4, 12) == 4 * flops(1, 3)


def test_an_operator_costs_what_was_measured_of_it() -> None:
    processor = Processor(budget=1.0)
    with fake_device("cpu") as counts:
        torch.zeros(256, 256) @ torch.zeros(256, 256)
    processor.learn(counts.launches)
    (known,) = (seconds for seconds in processor.measured.values() if seconds is not None)
    assert 1e-6 < known < 0.1
    assert processor.seconds(counts.launches).arithmetic == known


def test_a_kernel_is_bound_by_the_larger_of_bytes_and_operations() -> None:
    gpu = GPU.of("h200")
    moved = Launch("forward", "", "add", bytes=4 * 10**9, flops=0, dtype="float32")
    product = Launch("forward", "", "mm", bytes=10**6, flops=10**13, dtype="bfloat16")
    seconds = gpu.seconds([moved, product])
    assert seconds.traffic == pytest.approx(4 / (0.83 * 4800))
    assert seconds.arithmetic == pytest.approx(10**13 / (0.66 * 989e12))
    assert gpu.total(seconds) == pytest.approx(seconds.traffic + seconds.arithmetic)


def test_every_stage_of_a_run_has_a_time_and_memory() -> None:
    found = estimate(resolve("digits", TINY, arms=["sre2l", "deda"]).recipe)
    stages = {stage.stage: stage for stage in found.stages}
    wanted = {"squeeze", "bank", "recover sre2l", "recover deda", "students random", "students full"}
    assert wanted <= stages.keys()
    for stage in stages.values():
        assert stage.seconds > 0, stage
        assert stage.memory > 0, stage
        assert not stage.why
    assert found.seconds == pytest.approx(sum(stage.seconds for stage in stages.values()))


MATCHING = """
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.3], std: [0.4], minimum_accuracy: 0}
committee: {other: {network: resnet8, mean: [0.3], std: [0.4], minimum_accuracy: 0}}
ipc: 2
experts: {count: 2, images_per_class: 20, batch: 64}
arms:
  dm: {method: dm, match: {networks: {network: convnet1, real: 8}}}
  cafe: {method: cafe, match: {networks: {network: convnet1, real: 8}}}
  dsa: {method: dsa, match: {networks: {network: convnet1, real: 8}}}
  mtt:
    method: mtt
    match: {networks: {network: convnet1}, trajectory: {steps: 2, latest_start: 1, epochs: 1}}
  tesla:
    method: tesla
    match: {networks: {network: convnet1}, trajectory: {steps: 2, latest_start: 1, epochs: 1}}
  kip: {method: kip, match: {kernel: {depth: 1, target: 50}}}
  cim: {method: cim}
  cvdd: {method: cvdd}
  gvbsm: {method: gvbsm}
  formation: {method: deda, init: kmeans, formation: {images: 4, luma: 0.25, chroma: 0.0}}
labels: {form: int4}
student: {protocol: house, network: convnet1, steps: 10, seeds: 1, labels: stored}
metrics: {full_set: false}
"""
"""an arm of each kind of signal, start and committee, and stored labels"""


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "h200"])
def test_every_kind_of_arm_is_counted(device: str, tmp_path: Path) -> None:
    """In a process without Triton's interpreter, which replaces its kernels."""
    (tmp_path / "matching.yaml").write_text(MATCHING)
    found = _estimated("matching.yaml", "--gpu", device, folder=tmp_path)
    assert not {stage["stage"]: stage["why"] for stage in found["stages"] if stage["why"]}
    names = {stage["stage"] for stage in found["stages"]}
    arms = ("dm", "cafe", "dsa", "mtt", "tesla", "kip", "cim", "cvdd", "gvbsm", "formation")
    assert names >= {"experts", *(f"recover {arm}" for arm in arms), *(f"label {arm}" for arm in arms)}
    assert all(stage["seconds"] > 0 for stage in found["stages"])


def test_experts_are_as_many_and_as_large_as_estimated(tmp_path: Path) -> None:
    (tmp_path / "matching.yaml").write_text(MATCHING)
    recipe = resolve(str(tmp_path / "matching.yaml"), arms=["mtt", "tesla"]).recipe
    subject = Subject.of(recipe)
    works = {work.part: work for work in expert_works(subject, torch.device("cpu"))}
    # Two experts, an epoch of 200 images in batches of 64 each; they are tested before and after it.
    assert (works["training"].times, works["tests"].times) == (2 * 4, 2 * 2)
    run(recipe, tmp_path / "run", until="experts")
    written = sum(file.stat().st_size for file in (tmp_path / "run" / "experts").glob("*.safetensors"))
    assert storage(subject)["experts"] == pytest.approx(written, rel=0.01)


def test_the_bank_is_as_large_as_estimated(tmp_path: Path) -> None:
    recipe = resolve("digits", [*TINY, "teacher.minimum_accuracy=0"], arms=["deda"]).recipe
    estimated = estimate(recipe, stages=["none"]).storage["bank"]
    run(recipe, tmp_path / "run", until="bank")
    written = sum(shard.path.stat().st_size for shard in shards(tmp_path / "run" / "bank"))
    assert estimated == pytest.approx(written, rel=0.05)


@pytest.mark.parametrize("memory", [1e12, 1e3])
def test_processes_share_the_images_that_squeeze_and_bank_decode(memory: float) -> None:
    """Whether the images stay in memory, or are decoded again in each epoch."""
    subject = Subject.of(resolve("digits", TINY, arms=["sre2l"]).recipe)
    for stage in ("squeeze", "bank"):
        one, four = (decoded_images(subject, stage, count, memory=memory)[0] for count in (1, 4))
        assert four == -(-one // 4)


@pytest.mark.slow
def test_processes_share_what_they_can() -> None:
    recipe = resolve("digits", [*TINY, "recover.unit_images=2", "student.seeds=3"], arms=["sre2l"]).recipe
    one, many = (estimate(recipe, count=count) for count in (1, 4))
    for a, b in zip(one.stages, many.stages, strict=True):
        if a.stage.startswith("students"):  # three students
            assert b.seconds < 0.7 * a.seconds
        if a.stage == "squeeze":
            assert b.seconds < 0.5 * a.seconds
    exchange = "the time in which devices exchange the gradients of a teacher is not counted"
    assert [exchange in found.notes for found in (one, many)] == [False, True]


def test_sizes_need_no_data_where_they_are_known_or_given() -> None:
    recipe = resolve("imagenet1k-deda", ["data.root=absent"]).recipe
    assert Subject.of(recipe).sizes.train == 1_281_167
    given = Subject.of(recipe, {"classes": 10_450, "train": 11_060_223, "test": 522_500}).sizes
    assert (given.classes, given.shape) == (10_450, (3, 224, 224))


def test_data_that_is_not_here_and_not_known_is_one_error() -> None:
    recipe = resolve("digits", ["data.root=absent"]).recipe
    with pytest.raises(InputError, match=r"data\.root absent is not here.*--classes, --images"):
        Subject.of(recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h2000"], "no figures of the device 'h2000'; known: cpu, h200"),
        (["--count", "0"], "no positive number"),
    ],
)
def test_bad_input_is_one_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(["estimate", "digits", *arguments])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_every_gpu_has_a_source() -> None:
    for name, sheet in GPUS.items():
        assert sheet.source, name
        assert sheet.bf16 > sheet.fp32 > 1e12 > sheet.bandwidth / 10


def _estimated(*arguments: str, folder: Path) -> dict[str, Any]:
    """What ``fastdd estimate`` finds in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "fastdd", "estimate", *arguments, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_priced(tmp_path: Path) -> None:
    """In a process without Triton's interpreter, which replaces its kernels."""
    found = _estimated("digits", "--arms", "deda", *TINY, "--gpu", "h200", "--count", "2", folder=tmp_path)
    assert (found["device"], found["count"]) == ("h200", 2)
    assert all(stage["how"] == "computed" for stage in found["stages"])
    assert math.isclose(found["seconds"], sum(stage["seconds"] for stage in found["stages"]))
    assert not any(stage["why"] for stage in found["stages"])


# -- what a run that begins says ------------------------------------------------------------------

OUTLOOK = r"tiny takes about [\d.]+ s: squeeze [\d.]+ s, bank [\d.]+ s, recover [\d.]+ s, students [\d.]+ s"


def test_a_run_that_begins_tells_what_it_takes_and_one_that_goes_on_does_not(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for begins in (True, False):
        fastdd.run(tiny, tmp_path / "told", until="recover", outlook=True)
        assert bool(re.search(OUTLOOK, capsys.readouterr().err)) == begins
    fastdd.run(tiny, tmp_path / "untold", until="recover")
    assert "takes about" not in capsys.readouterr().err
    files = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / name / "images").rglob("*.png"))
        for name in ("told", "untold")
    ]
    assert files[0]
    assert files[0] == files[1]


def test_what_cannot_be_tried_is_named_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject.of(resolve("digits", TINY, arms=["sre2l", "deda"]).recipe)
    timed = trial._timed

    def refused(work: Work, images: int, device: torch.device) -> tuple[float, float]:
        if work.stage == "recover deda":
            raise MemoryError
        return timed(work, images, device)

    monkeypatch.setattr(trial, "_timed", refused)
    before = torch.get_rng_state()
    text = trial.outlook_text(subject, torch.device("cpu"))
    assert ", without recover deda: squeeze " in text
    assert torch.equal(before, torch.get_rng_state())
    monkeypatch.setattr(trial, "works_of", lambda *_: 1 / 0)
    assert "not known beforehand: ZeroDivisionError" in trial.outlook_text(subject, torch.device("cpu"))


def test_of_compiled_steps_less_is_told_and_the_compilers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is compiled for this, whether the recipe or ``auto`` asks for it."""
    monkeypatch.setattr(trial, "_timed", lambda work, images, device: (images / 1000, 0.0))
    monkeypatch.setattr(trial, "seconds_to_decode", lambda sizes, seconds: 1e-3)
    monkeypatch.setattr(torch, "compile", lambda *_, **named: 1 / 0)
    told = {}
    for answer in ("true", "false"):
        overrides = [*TINY, f"recover.compile={answer}"]
        subject = Subject.of(resolve("digits", overrides, arms=["sre2l"]).recipe)
        told[answer] = trial.outlook(subject, torch.device("cpu"))
    graphs = told["true"].pop(trial.COMPILING) / trial.COMPILER_SECONDS
    assert graphs == 1
    assert trial.COMPILING not in told["false"]
    for stage, seconds in told["false"].items():
        share = trial.COMPILED_SHARE if stage == "recover sre2l" else 1
        assert told["true"][stage] == pytest.approx(share * seconds, rel=0.02), stage
    compiled = Subject.of(resolve("digits", [*TINY, "recover.compile=true"], arms=["sre2l"]).recipe)
    text = trial.outlook_text(compiled, torch.device("cpu"))
    assert "compiling 50 s (a step of each was tried, and 0.7 of its time is told where steps are" in text


def test_a_few_images_tell_what_many_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 3 s, of which the optimizer has 1, and the rest goes with the images."""
    monkeypatch.setattr(trial, "_timed", lambda work, images, device: (1 + 2 * images / 8, 1.0))
    subject = Subject.of(resolve("digits", [*TINY, "teacher.batch=64"], arms=["sre2l"]).recipe)
    monkeypatch.setattr(trial, "PIXELS", 8 * 64)
    found = trial.outlook(subject, torch.device("cpu"))
    steps, tests = 2 * (1437 // 64), 2
    assert found["squeeze"] == pytest.approx(steps * (1 + 2 * 64 / 8) + tests * (1 + 2 * 360 / 8), rel=0.05)
