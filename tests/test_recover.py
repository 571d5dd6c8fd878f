"""Recover: the plan, the loop, and images on disk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tiny_recovery import CLASSES, CPU, IPC, METHODS, SEED, SHAPE, Lab, make_lab, method
from torch import Tensor
from torchvision.datasets import ImageFolder

from fastdd.config import All, Augment, BatchSize, Method, Recover, Save, Terms
from fastdd.distilled.images import load_images, save_images, to_levels
from fastdd.errors import InputError
from fastdd.recover import Unit, plan, recover, unfinished
from fastdd.recover.loop import cosine
from fastdd.recover.objective import draws
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.run_folder import RunFolder
from fastdd.teachers import Features


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


# -- plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3, "all"])
@pytest.mark.parametrize("slots", [1, 4, "all"])
@pytest.mark.parametrize("unit_images", [1, 10, 64])
@pytest.mark.parametrize(("num_classes", "ipc"), [(1, 1), (7, 5), (4, 8)])
def test_every_row_is_in_one_unit(
    classes: int | All, slots: int | All, unit_images: int, num_classes: int, ipc: int
) -> None:
    batch = BatchSize(classes=classes, slots=slots)
    units = plan(num_classes, ipc, batch, unit_images)
    rows = [row for unit in units for row in unit.rows]
    assert sorted(rows) == list(itertools.product(range(num_classes), range(ipc)))
    assert [unit.index for unit in units] == list(range(len(units)))
    for unit in units:
        assert len({b.shape for b in unit.batches}) == 1
        assert len(unit.batches) == 1 or len(unit.rows) <= unit_images
        assert unit.shape[0] * unit.shape[1] * unit.shape[2] == len(unit.rows)
        assert unit.groups == [c for c, _ in unit.rows[:: unit.shape[2]]]
    assert plan(num_classes, ipc, batch, unit_images) == units


def test_batches_do_not_depend_on_the_unit_size() -> None:
    batch = BatchSize(classes=3, slots=2)
    cut = [{b for unit in plan(7, 5, batch, size) for b in unit.batches} for size in (1, 7, 1000)]
    assert cut[0] == cut[1] == cut[2]


def test_order_of_rows() -> None:
    (unit,) = plan(2, 4, BatchSize(classes=2, slots=2), 100)
    assert unit.rows == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert unit.groups == [0, 1, 0, 1]


# -- schedule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.25), (1000, 0.2133883), (2000, 0.125), (3000, 0.0366117), (3999, 3.8553e-8)]
)
def test_cosine_learning_rate(step: int, expected: float) -> None:
    assert cosine(0.25, step, 4000) == pytest.approx(expected, rel=2e-5)


def test_crops_of_oblong_images_lie_inside() -> None:
    augment = Augment(scale=(0.3, 1.0), flip=0.5, roll=(0, 0))
    (unit,) = plan(1, 1, BatchSize(), 1)
    parameters = draws(augment, unit, 200, size=(6, 24), seed=SEED)
    assert parameters is not None
    top, left, height, width = parameters[:, 0, 3:].T
    assert int((top + height).max()) <= 6
    assert int((left + width).max()) > 6
    assert int((left + width).max()) <= 24


# -- the loop -------------------------------------------------------------------------------------


def test_the_last_iterate_of_plain_adam(lab: Lab) -> None:
    """Against Adam, cosine and clipping written out, in float64, without augmentation."""
    steps, lr = 6, 0.25
    plain = method("sre2l", terms=Terms(), steps=steps, lr=lr, batch=BatchSize(classes="all", slots=1))
    plain = plain.model_copy(update={"augment": plain.augment.model_copy(update={"roll": (0, 0)})})
    unit = plan(CLASSES, IPC, plain.batch, 1)[0]
    assert draws(plain.augment, unit, steps, size=(8, 8), seed=SEED) is None
    got, losses = lab.optimize(plain, Recover(log_every=4), unit)
    network, labels = lab.double(), torch.tensor([c for c, _ in unit.rows])
    x = lab.start(plain, unit).double()
    low, high = ((v - torch.tensor([0.5, 0.4, 0.3])).div(torch.tensor([0.25, 0.2, 0.3])) for v in (0.0, 1.0))
    first, second, values = torch.zeros_like(x), torch.zeros_like(x), []
    for t in range(steps):
        x.requires_grad_()
        loss = F.cross_entropy(network(x), labels)
        (grad,) = torch.autograd.grad(loss, x)
        values.append(loss.item())
        first, second = 0.5 * first + 0.5 * grad, 0.9 * second + 0.1 * grad.square()
        rate = lr * (1 + math.cos(math.pi * t / steps)) / 2
        update = first / (1 - 0.5 ** (t + 1)) / ((second / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
        x = (x.detach() - rate * update).clamp(low[:, None, None], high[:, None, None])
    assert [entry["step"] for entry in losses] == [0, 4, 5]
    assert [entry["ce"] for entry in losses] == pytest.approx([values[0], values[4], values[5]], rel=1e-4)
    difference = (got.double() - x).abs()
    assert float(difference.mean()) < 1e-4
    assert float((difference > 1e-3).float().mean()) < 0.005


def test_images_stay_inside_the_box(lab: Lab) -> None:
    deda = method("deda", steps=3, lr=50.0)
    unit = plan(CLASSES, IPC, deda.batch, 12)[0]
    images, _ = lab.optimize(deda, Recover(), unit)
    low, high = lab.teacher.bounds(CPU)
    assert bool((images >= low).all() and (images <= high).all())
    assert bool((images == low).any() and (images == high).any())
    assert not images.requires_grad


def test_logged_losses_are_a_mean_over_batches(lab: Lab) -> None:
    sre2l = method("sre2l", batch=BatchSize(classes=2, slots=1), steps=1)
    logs = [
        [lab.optimize(sre2l, Recover(unit_images=size), unit)[1][0] for unit in plan(4, 6, sre2l.batch, size)]
        for size in (1, 1000)
    ]
    (together,) = logs[1]
    assert together["step"] == 0
    for name in ("ce", "bn"):
        assert together[name] == pytest.approx(sum(entry[name] for entry in logs[0]) / len(logs[0]), rel=1e-5)


class OwnTerm(NamedTuple):
    """A term of the logits alone."""

    paired = False

    name: str
    value: Callable[[Tensor], Tensor]

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> dict[str, Tensor]:
        return {self.name: self.value(features.logits)}


def test_a_term_that_is_not_finite_stops_the_loop(lab: Lab) -> None:
    wild = method("sre2l", terms=Terms(ce=CrossEntropy(weight=1e300)), batch=BatchSize(classes=2), steps=4)
    unit = plan(CLASSES, IPC, wild.batch, 2)[3]
    with pytest.raises(InputError, match=r"term 'ce' is inf at step 0 of unit 3; lower method\.lr"):
        lab.optimize(wild, Recover(), unit)
    calls = itertools.count()
    broken = OwnTerm("broken", lambda logits: logits.sum() * (math.nan if next(calls) >= 3 else 1.0))
    with pytest.raises(InputError, match=r"term 'broken' is nan at step 4 of unit 3"):
        lab.optimize(wild.model_copy(update={"steps": 20}), Recover(log_every=2), unit, [broken])


def test_a_gradient_that_is_not_finite_in_the_last_step_is_seen(lab: Lab) -> None:
    plain = method("sre2l", steps=1, batch=BatchSize(classes=2))
    unit = plan(CLASSES, IPC, plain.batch, 2)[0]
    corner = OwnTerm("corner", lambda logits: (logits * 0).sqrt().sum())  # 0, with an infinite slope
    with pytest.raises(InputError, match=r"images of unit 0 are not finite after step 0"):
        lab.optimize(plain, Recover(), unit, [corner])


# -- images on disk -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_survive_the_disk(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, channels, 5, 7), generator=generator, dtype=torch.uint8)
    rows = [(1, 0), (1, 1), (1, 2), (0, 2), (0, 0), (0, 1)]
    classes = ("ant", "bee")
    save_images(tmp_path, classes, rows, images.contiguous(memory_format=torch.channels_last), config=Save())
    loaded, labels = load_images(tmp_path, classes, 3, channels=channels, config=Save())
    assert torch.equal(loaded, images[[4, 5, 3, 0, 1, 2]])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    folder = ImageFolder(str(tmp_path))
    assert folder.classes == list(classes)
    assert [label for _, label in folder] == labels.tolist()
    (tmp_path / "bee" / "00001.png").unlink()
    with pytest.raises(InputError, match=r"bee/00001\.png is missing"):
        load_images(tmp_path, classes, 3, channels=channels, config=Save())


def test_jpeg_and_truncation_are_switches(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    exact = torch.rand(3, 3, 32, 32, generator=random)
    images, lower = (to_levels(exact, Save(rounding=how)) for how in ("round", "truncate"))
    assert torch.equal(images, (exact * 255).round().to(torch.uint8))
    assert torch.equal(lower, (exact * 255).floor().to(torch.uint8))
    assert to_levels(torch.tensor([-1.0, 2.0]), Save()).tolist() == [0, 255]
    rows, errors = [(0, slot) for slot in range(3)], {}
    for save in (Save(), Save(format="jpeg"), Save(format="jpeg", quality=95)):
        save_images(tmp_path / str(save.quality), ("ant",), rows, images, config=save)
        loaded, _ = load_images(tmp_path / str(save.quality), ("ant",), 3, channels=3, config=save)
        errors[save.format, save.quality] = float((loaded.float() - images.float()).square().mean().sqrt())
    assert errors["png", 75] == 0
    assert 40 < errors["jpeg", 75] < 80  # white noise at 4:2:0: about 61 grey levels
    assert 0 < errors["jpeg", 95] < errors["jpeg", 75]


def run(lab: Lab, chosen: Method, out: Path, ipc: int = IPC, unit_images: int = 12) -> Tensor:
    config = Recover(unit_images=unit_images)
    recovery = lab.recovery(chosen, config)
    left = unfinished("arm", recovery, RunFolder(out), num_classes=CLASSES, ipc=ipc)
    recover("arm", left, recovery, classes=lab.bank.classes, run=RunFolder(out))
    return load_images(out / "images" / "arm", lab.bank.classes, ipc, channels=3, config=chosen.save)[0]


def test_no_steps_keep_the_images(lab: Lab, tmp_path: Path) -> None:
    control = Method(init="real", steps=0, terms=Terms(ce=None))
    wanted = lab.real(list(itertools.product(range(CLASSES), range(IPC))))
    assert torch.equal(run(lab, control, tmp_path), wanted)


@pytest.mark.parametrize("name", METHODS)
def test_one_image_a_class(lab: Lab, tmp_path: Path, name: str) -> None:
    images = run(lab, METHODS[name]().model_copy(update={"steps": 3}), tmp_path, ipc=1)
    assert images.shape == (CLASSES, *SHAPE)
    noise = method(name.partition("+")[0].partition("-")[0], steps=0)
    assert not torch.equal(images, run(lab, noise, tmp_path / "noise", ipc=1))


def test_finished_units_are_kept_and_missing_ones_redone(lab: Lab, tmp_path: Path) -> None:
    deda = method("deda", steps=3)
    first = run(lab, deda, tmp_path)
    units = sorted((tmp_path / "recover" / "arm").iterdir())
    assert len(units) == 2
    units[1].unlink()
    kept = tmp_path / "images" / "arm" / "ant" / "00000.png"
    lost = tmp_path / "images" / "arm" / "doe" / "00003.png"
    kept.write_bytes(lost.read_bytes())
    lost.write_bytes(b"")
    again = run(lab, deda, tmp_path)
    assert torch.equal(again[1:], first[1:])  # the lost one is back
    assert torch.equal(again[0], first[3 * IPC + 3])  # and a finished unit is not looked at
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    run(lab, deda, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
