"""Captured steps: a stand-in replays the operators that a CUDA graph would, and the images are the same."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import Operators, Watched
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, Silent, make_lab, method
from torch import Tensor

from fastdd.config import (
    Augment,
    BatchSize,
    EarlyLate,
    Formation,
    Match,
    Method,
    Perturb,
    Recover,
    Residual,
    Terms,
)
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, loop
from fastdd.recover.capture import check_capture, forbids_capture, optimizer_for_capture
from fastdd.recover.checkpoint import Checkpoint
from fastdd.recover.plan import all_units
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.convolution import Spectrum
from fastdd.recover.terms.dire import DiRe, MeanEmbedding
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.recover.terms.pairs import Pairs
from fastdd.runs.experiment import check
from fastdd.teachers import Teacher

STEPS = 4
GPU = torch.device("cuda")
Losses = list[dict[str, float]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def tiny(
    name: str, add: tuple[str, ...] = (), *, classes: int = 2, slots: int | str = 1, **own: Any
) -> Method:
    batch = BatchSize(classes=classes, slots=slots)  # type: ignore[arg-type]
    return method(name, add, **{"batch": batch, "steps": STEPS, "init": "real", **own})


def per_image(chosen: Method) -> Method:
    return chosen.model_copy(update={"augment": Augment(scale=(0.5, 1.0), roll=(-1, 1), per_image=True)})


CASES: dict[str, Callable[[], Method]] = {
    "sre2l": lambda: tiny("sre2l", init="noise"),
    "cda": lambda: tiny("cda"),
    "sre2l++": lambda: tiny("sre2lpp"),
    "deda": lambda: tiny("deda", slots=3),
    "deda with bn and dire": lambda: tiny(
        "deda", slots=3, terms=Terms(gaussian=Gaussian(layers="bn_inputs"), bn=BatchNorm(), dire=DiRe())
    ),
    "dire": lambda: tiny("sre2l", ("dire",), slots=3),
    "dire as released": lambda: tiny("sre2l", slots=3, terms=Terms(dire=DiRe(reading="code"))),
    "mean embedding": lambda: tiny("sre2l", slots=3, terms=Terms(mean_embedding=MeanEmbedding())),
    "gvbsm": lambda: tiny("gvbsm", slots=3, ensemble="all"),
    "edc": lambda: tiny("edc", ensemble=2, steps=9),
    "lpld": lambda: tiny("lpld", classes=1, slots="all"),
    "dwa": lambda: tiny("dwa"),
    "dwa as released": lambda: tiny("dwa", perturb=Perturb(steps=3, accumulate=True)),
    "cv-dd": lambda: tiny("cvdd", steps=9, ensemble_weights=(60.0, 55.0, 50.0)),
    "turns": lambda: tiny("sre2l", ensemble="round_robin", steps=9),
    "infer": lambda: tiny("infer", classes=4),
    "delt": lambda: tiny("delt", slots="all", early_late=EarlyLate(rounds=2), steps=8),
    "delt with a draw an image": lambda: per_image(
        tiny("delt", slots="all", early_late=EarlyLate(rounds=2), steps=8)
    ),
    "sgd": lambda: tiny("sre2l", optimizer="sgd"),
    "constant rate, clipped at the end": lambda: tiny("sre2l", schedule="constant", clip=False),
    "no augmentation": lambda: tiny("sre2l", augment=Augment()),
    "zoom": lambda: tiny("sre2l", slots=4, formation=Formation(kind="zoom", images=4)),
    "residual": lambda: tiny("sre2lpp", residual=Residual(stages=2), steps=8),
    "residual on deda, without a reset": lambda: tiny("deda", residual=Residual(stages=2, reset=False)),
    "sizes": lambda: tiny("sre2lpp", residual=Residual(), sizes=(4, 8, 4, 8), steps=12),
    "fadrm+": lambda: tiny("fadrmplus", sizes=(4, 4, 8, 8), steps=24),
    "pairs": lambda: tiny(
        "sre2l",
        slots=4,
        terms=Terms(pairs=Pairs(layer="stages.1")),
        formation=Formation(kind="cells"),
        augment=Augment(flip=0.5, pad=1, cutout=0.5, roll=(0, 0)),
    ),
    "pairs with sizes": lambda: tiny(
        "sre2l", terms=Terms(pairs=Pairs()), sizes=(4, 8), augment=Augment(flip=0.5), steps=8
    ),
    "frequencies": lambda: tiny("sre2l", slots=2, formation=Formation(kind="frequencies", images=2)),
}

ON_A_FAKE_GPU = [
    "deda with bn and dire",
    "dire as released",
    "mean embedding",
    "gvbsm",
    "lpld",
    "infer",
    "sgd",
    "delt with a draw an image",
    "zoom",
    "frequencies",
    "sizes",
]
"""cases that together launch all that a step can launch"""
LOOKS = {"deda with bn and dire", "dire", "dire as released"}
"""cases that look at numbers on a CPU to choose the way to compute a distance; on a GPU there is one way"""


def recovery_of(lab: Lab, chosen: Method, config: Recover | None = None) -> Recovery:
    """Through three teachers of different weights."""
    teachers = [lab.teacher]
    for seed in (1, 2):
        network = copy.deepcopy(lab.teacher.network)
        with torch.no_grad():
            for weight in network.parameters():
                noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
                weight.mul_(1 + 0.1 * noise.to(weight.device))
        teachers.append(Teacher(network, lab.teacher.card))
    used = 1 if chosen.ensemble == "first" and chosen.offset is None else 3
    return Recovery(
        chosen,
        config or Recover(log_every=2),
        teachers[:used],
        [lab.bank] * used,
        real_images=lambda rows: lab.real([(c, slot % IPC) for c, slot in rows]),
        shape=SHAPE,
        seed=SEED,
    )


def unit_of(recovery: Recovery) -> Unit:
    """The last unit, which in INFER has an offset."""
    return all_units(recovery.method, IPC, CLASSES, len(recovery.teachers), unit_images=12)[-1]


def recovered(
    recovery: Recovery, capturer: Any = None, checkpoint: Checkpoint | None = None
) -> tuple[Tensor, Losses]:
    recovery.capturer = None if capturer is None else lambda: capturer
    return recovery.optimize(unit_of(recovery), Silent(), checkpoint)  # type: ignore[arg-type]


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncaptured steps have the optimizer of captured ones, whose rate is in float32."""
    monkeypatch.setattr(loop, "_optimizer", lambda method, free, _: optimizer_for_capture(method, free))


@pytest.mark.slow
@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("case", CASES)
def test_captured_steps_give_the_same_bytes(lab: Lab, case: str) -> None:
    """Nor has anything that a replay needs been freed or replaced, whatever other teachers and rounds did."""
    chosen, graphs, watched = CASES[case](), Operators(), Watched()
    images, losses = recovered(recovery_of(lab, chosen))
    again, same = recovered(recovery_of(lab, chosen), watched)
    assert torch.equal(images, again)
    assert losses == same
    assert watched.replays
    again, same = recovered(recovery_of(lab, chosen), graphs)
    if case not in LOOKS:
        assert torch.equal(images, again)
        assert losses == same
    assert (images - again).abs().mean() < 1e-5
    assert {"warm up", "capture", "replay"} == set(graphs.log)
    # The step that adds the gradients of DWA's ascents is run as it is.
    alone = chosen.perturb is not None and chosen.perturb.accumulate
    assert len(graphs.log) == chosen.steps - alone


@pytest.mark.parametrize("case", ["sre2l", "sgd", "deda"])
def test_they_are_the_images_of_uncaptured_steps_but_for_rounding(lab: Lab, case: str) -> None:
    chosen = CASES[case]()
    images, losses = recovered(recovery_of(lab, chosen))
    captured, others = recovered(recovery_of(lab, chosen), Operators())
    assert (images - captured).abs().mean() < 1e-4
    for one, other in zip(losses, others, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_each_round_and_each_set_of_teachers_has_a_graph(lab: Lab) -> None:
    graphs = Operators()
    recovered(recovery_of(lab, CASES["turns"]()), graphs)
    assert graphs.log == ["warm up"] * 3 + ["capture"] * 3 + ["replay"] * 3
    graphs = Operators()
    recovered(recovery_of(lab, CASES["delt"]()), graphs)
    assert graphs.log == ["warm up", "capture", "replay", "replay"] * 2


def test_stages_of_a_size_share_a_graph(lab: Lab) -> None:
    graphs = Operators()
    recovered(recovery_of(lab, CASES["residual"]()), graphs)
    assert graphs.log == ["warm up", "capture"] + ["replay"] * 6
    graphs = Operators()
    recovered(recovery_of(lab, CASES["sizes"]()), graphs)
    assert graphs.log == ["warm up", "capture", "replay"] * 2 + ["replay"] * 6


def test_the_learning_rate_falls_in_replays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rate of the capture kept, the images would be others."""
    chosen = CASES["sre2l"]()
    images, _ = recovered(recovery_of(lab, chosen), Operators())
    monkeypatch.setattr(loop, "cosine", lambda lr, step, steps: lr)
    others, _ = recovered(recovery_of(lab, chosen), Operators())
    assert not torch.equal(images, others)


@pytest.mark.slow
def test_a_capture_never_waits_for_the_gpu_and_copies_nothing_from_or_to_the_host(tmp_path: Path) -> None:
    """In a process without Triton's interpreter, on tensors without values."""
    pytest.importorskip("triton", reason="Triton is not installed")
    script = Path(__file__).with_name("captured_on_fake_gpu.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, script, tmp_path / "bank"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int | str] = json.loads(done.stdout)
    assert [wrong for wrong in found.values() if isinstance(wrong, str)] == []
    assert set(found) == set(ON_A_FAKE_GPU)
    assert all(found.values())


class KilledError(Exception):
    pass


class KilledGraphs(Operators):
    """Ends before a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def _count(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1

    def warm_up(self, work: Any) -> Any:
        self._count()
        return super().warm_up(work)

    def capture(self, work: Any) -> Any:
        self._count()
        values, replay = super().capture(work)

        def counted() -> None:
            self._count()
            replay()

        return values, counted


@pytest.mark.parametrize("case", ["sre2l", "sgd", "turns", "delt", "residual"])
def test_a_captured_unit_resumes_with_the_same_bytes(lab: Lab, tmp_path: Path, case: str) -> None:
    chosen, config = CASES[case](), Recover(log_every=1, checkpoint_every=1)
    images, losses = recovered(recovery_of(lab, chosen, config), Operators())
    for step in (1, chosen.steps - 1):
        checkpoint = Checkpoint(tmp_path / f"{step}.safetensors", "owner")
        with pytest.raises(KilledError):
            recovered(recovery_of(lab, chosen, config), KilledGraphs(step), checkpoint)
        graphs = Operators()
        again, same = recovered(recovery_of(lab, chosen, config), graphs, checkpoint)
        assert len(graphs.log) == chosen.steps - step
        assert torch.equal(images, again)
        assert losses == same


def test_the_count_of_steps_is_restored_to_where_the_optimizer_keeps_it(tmp_path: Path) -> None:
    """On a GPU a fused optimizer refuses a count on the host."""
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "owner")
    free = torch.ones(2, 3, 4, 4, requires_grad=True)
    free.grad = torch.ones_like(free)
    adam = torch.optim.Adam([free], fused=True)
    adam.step()
    signal: Any = type("Nothing", (), {"state": lambda self: {}, "restore": lambda self, state: None})()
    checkpoint.save(1, free, adam, signal, [])
    elsewhere = torch.empty_like(free, device="meta").requires_grad_()
    for fused, device in ((True, "meta"), (None, "cpu")):
        optimizer = torch.optim.Adam([elsewhere], fused=fused)
        checkpoint.restore(elsewhere, optimizer, signal, [])
        assert optimizer.state[elsewhere]["step"].device.type == device


# -- what decides ----------------------------------------------------------------------------------


def test_what_forbids_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Method()
    assert forbids_capture(plain, ["resnet18", "torchvision:vgg11", "timm:vgg11"], GPU) is None
    assert forbids_capture(method("dwa"), ["resnet18"], GPU) is None
    assert forbids_capture(plain, ["resnet18"], torch.device("cpu")) is not None
    for own in ("mine.py:build", "object:teacher.network"):
        assert f"the network {own} is your own" in str(forbids_capture(plain, ["resnet18", own], GPU))
    spectrum = plain.model_copy(update={"terms": Terms(nuc=Spectrum())})
    assert forbids_capture(spectrum, [], GPU) == "the host waits for the GPU in terms.nuc"
    matching = plain.model_copy(update={"match": Match.model_construct()})
    assert "match" in str(forbids_capture(matching, [], GPU))


def test_what_is_asked_for_and_forbidden_is_refused_in_a_sentence() -> None:
    check_capture("a", Recover(capture=True), None)
    check_capture("a", Recover(), "the device is cpu")
    with pytest.raises(InputError, match=r"recover\.capture is true, but arms\.a cannot be captured: .*auto"):
        check_capture("a", Recover(capture=True), "the device is cpu")


def test_nothing_is_captured_on_a_cpu(lab: Lab) -> None:
    assert recovery_of(lab, CASES["sre2l"]()).capturer is None


def test_a_run_whose_capture_is_forbidden_is_refused_before_any_work(tmp_path: Path) -> None:
    digits = resolve("digits", ["recover.capture=true", "device=cpu"]).recipe
    with pytest.raises(InputError, match=r"recover\.capture is true, but arms\.\w+ .* the device is cpu"):
        check(digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
