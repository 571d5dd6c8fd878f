"""Squeeze: steps against torch and float64, passes, fine-tuning, training that is killed and continued."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Program
from galleries import pixels
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import fastdd
from fastdd.config import Data
from fastdd.config import Teacher as TeacherConfig
from fastdd.data import Crop, Resident, open_dataset
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.run_folder import RunFolder
from fastdd.teachers import (
    Card,
    Squeezed,
    Teacher,
    accuracy,
    initial_network,
    load_teacher,
    open_passes,
    passes,
    save_squeezed,
    save_teacher,
    squeeze,
)
from fastdd.teachers.epochs import learning_rate, sgd
from fastdd.teachers.training import WeightAverage

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")
CONFIG = TeacherConfig(
    network="resnet8", mean=(0.305,), std=(0.376,), epochs=4, batch=50, lr=0.1, pad=1, flip=0.0
)
EXPECTED = Card("resnet8", CLASSES, 1, (0.305,), (0.376,), size=(8, 8))


def digits(count: int) -> tuple[Tensor, Tensor]:
    data = open_dataset("digits", "train")
    chosen = torch.arange(0, len(data), len(data) // count)[:count]
    return pixels(data, None, 1, chosen), data.labels[chosen]


def held(count: int, seed: int | None = 0, batch: int = 50) -> passes.ResidentPasses:
    images, labels = digits(count)
    return passes.ResidentPasses(Resident(images, labels, torch.arange(count), {}), batch, seed)


def train(config: TeacherConfig, count: int, seed: int = 3, checkpoint: Path | None = None) -> Squeezed:
    test = held(count, None)
    return squeeze(
        config,
        CLASSES,
        held(count, batch=config.batch),
        test,
        seed=seed,
        device=CPU,
        checkpoint=checkpoint,
        scored=count,
    )


def changed(**values: object) -> TeacherConfig:
    return CONFIG.model_copy(update=values)


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


# -- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [7, 10, 137])
def test_onecycle_is_torchs(steps: int) -> None:
    weights = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        weights, 0.3, total_steps=steps, pct_start=0.3, cycle_momentum=False
    )
    for step in range(steps):
        assert learning_rate(changed(lr=0.3, warmup=0.3), step, steps) == pytest.approx(
            theirs.get_last_lr()[0]
        )
        weights.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.99])
@pytest.mark.parametrize("steps", range(1, 8))
def test_learning_rates_of_few_steps(schedule: str, warmup: float, steps: int) -> None:
    config = changed(schedule=schedule, warmup=warmup)
    assert all(0 < learning_rate(config, step, steps) <= config.lr for step in range(steps - 1))
    assert 0 <= learning_rate(config, steps - 1, steps) <= config.lr


def test_cosine() -> None:
    config = changed(schedule="cosine", warmup=0.2, lr=1.0)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([(step + 1) / 21 for step in range(20)])
    assert rates[20:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 80)) for k in range(80)])


def test_a_constant_learning_rate_may_rise_first() -> None:
    config = changed(schedule="constant", warmup=0.2, lr=1.0)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *[1.0] * 8])


def test_what_decays() -> None:
    network = build("resnet8", 10, 1)
    norms = [p for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    norms.append(network.linear.bias)
    for every, expected in ((False, 0.0), (True, CONFIG.weight_decay)):
        groups = sgd(changed(decay_norms=every), network).param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert len(decay) == len(list(network.parameters()))
        assert {decay[id(p)] for p in norms} == {expected}
        others = [p for p in network.parameters() if not any(p is n for n in norms)]
        assert {decay[id(p)] for p in others} == {CONFIG.weight_decay}
        assert all(group["nesterov"] and group["momentum"] == 0.9 for group in groups)


def test_the_average_is_that_of_weights_and_statistics() -> None:
    torch.manual_seed(0)
    network = build("resnet8", 10, 1)
    average = WeightAverage(network, 0.4)
    expected = {name: value.double() for name, value in network.state_dict().items()}
    for step in range(12):
        for value in network.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else torch.tensor(step))
        average.update(network, step)
        decay = min(0.4, (1 + step) / (10 + step))
        expected = {
            k: decay * v + (1 - decay) * network.state_dict()[k].double() for k, v in expected.items()
        }
    found = average.network.state_dict()
    assert "bn1.running_var" in found
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        else:
            assert value == 11
    assert not average.network.training


# -- training -------------------------------------------------------------------------------------


def test_squeeze_learns_and_depends_on_its_seed_alone() -> None:
    one = train(CONFIG, 700)
    torch.manual_seed(99)
    two = train(CONFIG, 700)
    other = train(changed(epochs=1), 700, seed=4)
    network, card = one.teacher.network, one.teacher.card
    assert same(network, two.teacher.network)
    assert not torch.equal(network.conv1.weight, other.teacher.network.conv1.weight)
    assert card.accuracy == accuracy(network, one.teacher.normalize, *digits(700))
    assert card.accuracy is not None
    assert card.accuracy > 0.8
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert [entry["epoch"] for entry in one.curve] == [1, 2, 3, 4]
    assert one.curve[-1]["accuracy"] == card.accuracy
    assert one.curve[-1]["loss"] < one.curve[0]["loss"] / 2
    assert (one.images, card.size, card.training["epochs"]) == (2800, (8, 8), 4)  # type: ignore[index]


def test_the_average_is_the_teacher() -> None:
    config = changed(ema=0.9, label_smoothing=0.1, schedule="cosine")
    averaged, last = train(config, 700), train(config.model_copy(update={"ema": 0.0}), 700)
    assert averaged.curve[-1]["loss"] == last.curve[-1]["loss"]
    assert averaged.teacher.card.accuracy == accuracy(
        averaged.teacher.network, averaged.teacher.normalize, *digits(700)
    )
    assert averaged.curve[-1]["accuracy"] > 0.8
    assert not same(averaged.teacher.network, last.teacher.network)


@pytest.mark.parametrize("epochs", [1, 2, 5, 6])
def test_squeeze_of_fewer_images_than_a_batch(epochs: int) -> None:
    trained = train(changed(epochs=epochs), 8)
    assert all(value.isfinite().all() for value in trained.teacher.network.state_dict().values())


def test_divergence_is_named() -> None:
    with pytest.raises(
        InputError,
        match=r"diverged in epoch \d: (the mean loss is|its logits are) .*; lower teacher\.lr = 1e",
    ):
        train(changed(lr=1e20, warmup=0.0), 200)


def test_a_bad_teacher_is_refused_and_kept(tmp_path: Path) -> None:
    squeezed = train(changed(epochs=1), 20)
    with pytest.raises(
        InputError, match=r"squeeze reached .*%.*minimum_accuracy = 100\.0%.*teacher-rejected\.safeten"
    ):
        save_squeezed(RunFolder(tmp_path), squeezed, 1.0)
    assert not (tmp_path / "teacher.safetensors").exists()
    again = load_teacher(tmp_path / "teacher-rejected.safetensors", CONFIG, CLASSES, 1, device=CPU)
    assert same(again.network, squeezed.teacher.network)
    assert save_squeezed(RunFolder(tmp_path), squeezed, 0.0) == tmp_path / "teacher.safetensors"
    assert json.loads((tmp_path / "squeeze.json").read_text())["epochs"] == squeezed.curve


# -- passes ---------------------------------------------------------------------------------------


def both(
    monkeypatch: pytest.MonkeyPatch, pets: Path, **options: Any
) -> list[list[tuple[Tensor, Tensor, Tensor]]]:
    """Two epochs from memory, and decoded."""
    found = []
    for budget, kind in ((10**9, passes.ResidentPasses), (0, passes.DecodedPasses)):
        monkeypatch.setattr(passes, "device_budget", lambda device, budget=budget: budget)
        opened = open_passes(open_dataset(str(pets), "train"), Data(size=6, resize=7), 5, CPU, **options)
        assert isinstance(opened, kind)
        assert (opened.shape, opened.batch) == ((3, 6, 6), 5)
        found.append([batch for epoch in (1, 0) for batch in opened.epoch(epoch)])
        assert len(found[-1]) == 2 * len(opened)
    return found


@pytest.mark.parametrize("seed", [None, 7])
def test_memory_does_not_change_the_batches(
    pets: Path, monkeypatch: pytest.MonkeyPatch, seed: int | None
) -> None:
    one, two = both(monkeypatch, pets, seed=seed)
    for a, b in zip(one, two, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    count = 16 if seed is None else 15  # full batches only, where they are shuffled
    whole = pixels(open_dataset(str(pets), "train"), (6, 6))
    seen = torch.cat([labels for _, labels, _ in two])
    assert len(seen) == 2 * count
    if seed is None:
        assert seen.tolist() == 2 * (8 * [0] + 8 * [1])
        assert two[0][0].shape == whole[:5].shape
    else:
        assert not torch.equal(seen[:count], seen[count:])


def test_windows_are_cut_anew_each_epoch(pets: Path) -> None:
    data, size = open_dataset(str(pets), "train"), Data()
    opened = open_passes(data, size, 4, CPU, seed=1, crop=Crop((0.2, 0.5)))
    assert isinstance(opened, passes.DecodedPasses)
    first, second, again = (torch.cat([x.flatten(1) for x, *_ in opened.epoch(e)]) for e in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0)[0], second.sort(0)[0])


# -- weights to start from ------------------------------------------------------------------------


def given(path: Path, classes: tuple[str, ...] = CLASSES, **card: Any) -> tuple[Path, nn.Module]:
    torch.manual_seed(1)
    network = build("resnet8", len(classes), 1)
    save_teacher(path, Teacher(network, Card(**{**EXPECTED.__dict__, "classes": classes, **card})))
    return path, network


def test_training_starts_with_the_given_weights(tmp_path: Path) -> None:
    path, network = given(tmp_path / "t.safetensors", size=(16, 16))
    begun, notes = initial_network(changed(init=str(path)), EXPECTED, 0)
    assert same(begun, network)
    assert notes == ["t.safetensors: made for size (16, 16), used with (8, 8)"]
    trained = train(CONFIG, 700).teacher
    save_teacher(path, trained)
    further = train(changed(init=str(path), epochs=1, lr=1e-6), 700)
    assert further.curve[0]["accuracy"] == pytest.approx(trained.card.accuracy, abs=0.02)
    assert further.teacher.card.training["init"]["file"] == "t.safetensors"  # type: ignore[index]
    assert str(tmp_path) not in json.dumps(further.teacher.card.training)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (tuple("abc"), "made for 3 classes, but the data has 10"),
        (tuple("012345678x"), "class 9 is 'x' there and '9'"),
    ],
)
def test_a_new_head_where_classes_differ(tmp_path: Path, classes: tuple[str, ...], expected: str) -> None:
    path, network = given(tmp_path / "t.safetensors", classes)
    with pytest.raises(InputError, match=rf"teacher\.init: .*{expected}.*teacher\.new_head=true"):
        initial_network(changed(init=str(path)), EXPECTED, 0)
    begun, notes = initial_network(changed(init=str(path), new_head=True), EXPECTED, 0)
    assert notes == ["t.safetensors knows other classes: linear.weight, linear.bias start anew"]
    assert torch.equal(begun.layer3[0].conv1.weight, network.layer3[0].conv1.weight)
    assert torch.equal(begun.linear.weight, initial_network(CONFIG, EXPECTED, 0)[0].linear.weight)


def test_new_head_keeps_a_head_that_fits(tmp_path: Path) -> None:
    path, network = given(tmp_path / "t.safetensors")
    begun, notes = initial_network(changed(init=str(path), new_head=True), EXPECTED, 0)
    assert same(begun, network)
    assert not notes


def test_weights_that_cannot_be_a_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"teacher\.init: .*nowhere.* does not exist"):
        initial_network(changed(init=str(tmp_path / "nowhere.safetensors")), EXPECTED, 0)
    path, _ = given(tmp_path / "t.safetensors", network="resnet20")
    with pytest.raises(
        InputError, match=r"teacher\.init: .* was made for network resnet20, but this run has resnet8"
    ):
        initial_network(changed(init=str(path), new_head=True), EXPECTED, 0)
    with pytest.raises(ValueError, match="set one of the two to null"):
        TeacherConfig(weights="a.safetensors", init="b.safetensors")
    with pytest.raises(ValueError, match="scale must be"):
        TeacherConfig(scale=(0.0, 1.0))


# -- killed and continued -------------------------------------------------------------------------


class Stopped(Exception):  # noqa: N818
    pass


class Stopping(passes.ResidentPasses):
    """Passes that end the training in the middle of an epoch."""

    last = 0

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for index, batch in enumerate(super().epoch(epoch)):
            if (epoch, index) == (self.last, 2):
                raise Stopped
            yield batch


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_stopped_training_ends_the_same(tmp_path: Path, ema: float) -> None:
    config, path = changed(ema=ema), tmp_path / "squeeze.safetensors"
    expected = train(config, 300)
    stopping, test = Stopping(held(300).images, 50, 0), held(300, None)
    for stopping.last in (0, 1, 3):
        with pytest.raises(Stopped):
            squeeze(config, CLASSES, stopping, test, seed=3, device=CPU, checkpoint=path, scored=300)
        assert path.is_file() == (stopping.last > 0)
    found = train(config, 300, checkpoint=path)
    assert found.images == 300
    assert found.curve == expected.curve
    assert same(found.teacher.network, expected.teacher.network)
    assert found.scores is not None
    assert expected.scores is not None
    for name, noted in expected.scores.fields.items():
        assert torch.equal(found.scores.fields[name], noted), name
    finished = train(config, 300, checkpoint=path)
    assert finished.images == 0
    assert same(finished.teacher.network, expected.teacher.network)
    assert finished.teacher.card == expected.teacher.card


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "squeeze.safetensors"
    train(changed(epochs=1), 50, checkpoint=path)
    for config, seed in ((changed(epochs=2), 3), (changed(epochs=1), 4)):
        with pytest.raises(InputError, match=r"squeeze\.safetensors is of another training; delete it"):
            train(config, 50, seed, path)
    given(path)
    with pytest.raises(InputError, match=r"squeeze\.safetensors is damaged.*delete it"):
        train(changed(epochs=1), 50, checkpoint=path)
    path.write_bytes(b"half")
    with pytest.raises(InputError, match=r"squeeze\.safetensors is damaged.*delete it"):
        train(changed(epochs=1), 50, checkpoint=path)


SQUEEZE = """\
data: {root: digits, channels: 1}
teacher: {network: resnet8, mean: [0.305], std: [0.376], epochs: 6, batch: 128, pad: 1, flip: 0.0, ema: 0.9}
student: {network: resnet8}
arms: {}
"""


def epochs_done(path: Path) -> int:
    """Epochs in a checkpoint; 0 where there is none yet."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return len(json.loads(file.metadata()["fastdd"])["curve"])
    except FileNotFoundError:
        return 0


def test_killed_again_and_again_the_teacher_has_the_same_bytes(
    tmp_path: Path, fastdd_process: Callable[..., Program], one_thread: None
) -> None:
    (tmp_path / "s.yaml").write_text(SQUEEZE)
    fastdd.run(tmp_path / "s.yaml", tmp_path / "whole", until="squeeze")
    out = tmp_path / "out"
    for epochs in (1, 3):
        process, end = fastdd_process("squeeze", tmp_path / "s.yaml", "--out", out), time.monotonic() + 120
        while epochs_done(out / "squeeze.safetensors") < epochs:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (out / "teacher.safetensors").exists(), "squeeze ended before it could be killed"
    done = epochs_done(out / "squeeze.safetensors")
    process = fastdd_process("squeeze", tmp_path / "s.yaml", "--out", out)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"continues after epoch {done}" in err
    assert re.search(r"epoch 6/6: lr \S+, loss \S+, test \d\d\.\d\d%", err)
    for name in ("teacher.safetensors", "squeeze.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (out / "squeeze.safetensors").exists()


# -- the stage ------------------------------------------------------------------------------------


def test_fine_tuning_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SQUEEZE)
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(InputError, match=r"minimum_accuracy = 100\.0%"):
        fastdd.run(
            tmp_path / "s.yaml", first, ["teacher.epochs=3", "teacher.minimum_accuracy=1"], until="squeeze"
        )
    rejected = first / "teacher-rejected.safetensors"
    overrides = [f"teacher.init={rejected}", "teacher.epochs=1", "teacher.lr=0.01"]
    fastdd.run(tmp_path / "s.yaml", second, overrides, until="squeeze")
    curves = [json.loads((folder / "squeeze.json").read_text())["epochs"] for folder in (first, second)]
    assert curves[1][0]["loss"] < curves[0][0]["loss"] / 2
    rejected.unlink()  # not needed any more
    fastdd.run(tmp_path / "s.yaml", second, overrides, until="squeeze")
    assert load_file(second / "teacher.safetensors").keys() == build("resnet8", 10, 1).state_dict().keys()
    with pytest.raises(InputError, match=r"teacher\.init: .* does not exist"):
        fastdd.run(tmp_path / "s.yaml", tmp_path / "third", overrides, until="squeeze")
    assert not (tmp_path / "third").exists()


def test_a_teacher_that_guesses_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text(SQUEEZE)
    fastdd.run(tmp_path / "s.yaml", tmp_path / "learned", ["teacher.epochs=2"], until="squeeze")
    assert "guess" not in capsys.readouterr().err
    fastdd.run(
        tmp_path / "s.yaml", tmp_path / "guesses", ["teacher.epochs=1", "teacher.lr=1e-9"], until="squeeze"
    )
    assert "accuracy is no better than a guess (10." in capsys.readouterr().err


def test_fresh_does_not_delete_the_start(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SQUEEZE)
    out = tmp_path / "out"
    fastdd.run(tmp_path / "s.yaml", out, ["teacher.epochs=1"], until="squeeze")
    with pytest.raises(InputError, match=r"teacher\.init .* lies in .*which --fresh would delete"):
        fastdd.run(tmp_path / "s.yaml", out, [f"teacher.init={out / 'teacher.safetensors'}"], fresh=True)
    assert (out / "teacher.safetensors").is_file()


def test_the_curve_is_in_order(finished: Path) -> None:
    curve = json.loads((finished / "squeeze.json").read_text())["epochs"]
    assert [entry["epoch"] for entry in curve] == [1, 2]
    assert all(a["loss"] > b["loss"] for a, b in pairwise(curve))
