"""INFER: how slots are counted, whose offset a unit holds, and the offset itself in float64."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_recovery import CLASSES, SEED, SHAPE, Lab, Silent, make_lab, method
from torch import Tensor

from fastdd.config import Augment, BatchSize, EarlyLate, Method, Offset, Recover, Terms
from fastdd.distilled.images import load_images
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, all_units, real_slots, recover, repeated, seen_slots, unfinished
from fastdd.recover.objective import draws
from fastdd.recover.plan import first_slots
from fastdd.recover.steps import iterations
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.run_folder import RunFolder
from fastdd.runtime.progress import Bar
from fastdd.teachers import Teacher
from fastdd_kernels import resample

IPC = 3  # of 4 classes and 2 teachers: 2 untouched images, 6 in all
BAR: Bar = Silent()  # type: ignore[assignment]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def committee(lab: Lab) -> list[Teacher]:
    """The tiny recovery's teacher and one of other weights."""
    other = lab.double().float()
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return [lab.teacher, Teacher(other.requires_grad_(False), lab.teacher.card)]


def infer(**changes: Any) -> Method:
    return method("infer", **{"steps": 4, "lr": 0.1, **changes})


def recovery(lab: Lab, committee: list[Teacher], chosen: Method) -> Recovery:
    rows = repeated(lab.real, real_slots(chosen, IPC, CLASSES, len(committee)))
    return Recovery(
        chosen,
        Recover(log_every=1),
        committee,
        [lab.bank] * len(committee),
        real_images=rows,
        shape=SHAPE,
        seed=SEED,
    )


# -- slots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "classes", "teachers", "untouched", "stored"),
    [(10, 100, 4, 9, 45), (50, 100, 4, 48, 240), (10, 10, 4, 7, 35), (50, 1000, 3, 49, 196)],
)
def test_stored_images_a_class(ipc: int, classes: int, teachers: int, untouched: int, stored: int) -> None:
    chosen = infer()
    assert first_slots(ipc, classes, teachers) == real_slots(chosen, ipc, classes, teachers) == untouched
    assert seen_slots(chosen, ipc, classes, teachers) == stored
    plain = Method()
    assert real_slots(plain, ipc, classes, teachers) == seen_slots(plain, ipc, classes, teachers) == ipc


def test_the_count_is_that_of_the_released_code_or_of_exact_division() -> None:
    for ipc, classes, teachers in itertools.product(range(2, 120), (10, 100, 200, 1000), (1, 2, 3, 4)):
        released = int(ipc / (teachers / classes + 1))
        exact = ipc * classes % (classes + teachers) == 0  # where the quotient may fall below a whole number
        assert first_slots(ipc, classes, teachers) in ((released, released + 1) if exact else (released,))


def test_an_offset_is_too_dear_for_one_image() -> None:
    with pytest.raises(
        InputError, match=r"ipc 1 leaves no image.*4 teachers over 100 classes.*ipc of at least 2"
    ):
        seen_slots(infer(), 1, 100, 4)


def test_no_unit_holds_the_offsets_of_two_teachers() -> None:
    chosen = infer()
    units = all_units(chosen, 10, classes=4, teachers=2, unit_images=12)  # 6 untouched, 3 slots a unit
    assert [unit.index for unit in units] == list(range(6))
    assert [unit.part for unit in units] == [0, 0, 1, 1, 2, 2]
    assert [row for unit in units for row in unit.rows] == [(c, slot) for slot in range(18) for c in range(4)]
    for unit in units:
        assert {slot // 6 for _, slot in unit.rows} == {unit.part}
        assert iterations(chosen, unit) == (0 if unit.part == 0 else chosen.steps * 12)


# -- the offset ------------------------------------------------------------------------------------


def written_out(
    lab: Lab, committee: list[Teacher], chosen: Method, unit: Unit, real: Tensor
) -> tuple[Tensor, list[float]]:
    """The released loop of a batch in float64: real images, one offset, Adam, and what is kept of it."""
    network = lab.double()
    network.load_state_dict(committee[unit.part - 1].network.state_dict())
    network.double()
    parameters = draws(chosen.augment, unit, chosen.steps, size=SHAPE[1:], seed=SEED)
    assert parameters is not None
    real, labels = real.double(), torch.tensor([c for c, _ in unit.rows])
    u = torch.zeros(1, *SHAPE, dtype=torch.float64)
    first, second, values, inputs = torch.zeros_like(u), torch.zeros_like(u), [], real
    for t in range(chosen.steps):
        u.requires_grad_()
        inputs = real + u
        loss = F.cross_entropy(network(resample(inputs, parameters[t])), labels)
        (grad,) = torch.autograd.grad(loss, u)
        values.append(loss.item())
        first, second = 0.5 * first + 0.5 * grad, 0.9 * second + 0.1 * grad.square()
        rate = chosen.lr * (1 + math.cos(math.pi * t / chosen.steps)) / 2
        u = u.detach() - rate * first / (1 - 0.5 ** (t + 1)) / ((second / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
    low, high = (v.double() for v in lab.teacher.bounds(torch.device("cpu")))
    assert chosen.offset is not None
    kept = inputs.detach() if chosen.offset.before_last_step else real + u
    return kept.clamp(low, high), values


@pytest.mark.parametrize("before", [True, False])
def test_an_offset_against_the_released_loop(lab: Lab, committee: list[Teacher], before: bool) -> None:
    chosen = infer(terms=Terms(), offset=Offset(before_last_step=before))
    own = recovery(lab, committee, chosen)
    # A unit of one batch, and one of two batches with an offset each.
    for size, index in ((4, 5), (8, 1)):
        unit = all_units(chosen, IPC, CLASSES, teachers=2, unit_images=size)[index]
        images, losses = own.optimize(unit, BAR)
        found, logged = [], []
        for batch in unit.batches:
            alone = Unit(0, (batch,), unit.part)
            real = lab.teacher.normalize(lab.real([(c, slot % 2) for c, slot in alone.rows]))
            wanted, values = written_out(lab, committee, chosen, alone, real)
            found.append(lab.teacher.denormalize(wanted))
            logged.append(values)
        torch.testing.assert_close(images.double(), torch.cat(found), rtol=0, atol=1e-4)
        assert [entry["ce"] for entry in losses] == pytest.approx(
            torch.tensor(logged).mean(0).tolist(), rel=1e-4
        )


def test_images_of_a_batch_share_their_offset(lab: Lab, committee: list[Teacher]) -> None:
    chosen = infer(
        terms=Terms(bn=BatchNorm()), lr=0.02
    )  # too little for the box of colors to matter everywhere
    own = recovery(lab, committee, chosen)
    unit = all_units(chosen, IPC, CLASSES, teachers=2, unit_images=8)[2]
    images, _ = own.optimize(unit, BAR)
    start = lab.teacher.denormalize(own.initial(unit.rows))
    moved = (images - start).view(2, CLASSES, *SHAPE)
    inside = ((images > 0) & (images < 1)).view_as(moved)
    both = inside[:, 0] & inside[:, 1]
    assert float(both.float().mean()) > 0.5
    assert float((moved[:, 0] - moved[:, 1])[both].abs().max()) < 1e-5
    assert float((moved[0] - moved[1]).abs().max()) > 1e-3  # another batch, another offset


def test_each_slot_of_a_batch_has_its_own_offset(lab: Lab, committee: list[Teacher]) -> None:
    alone = infer(terms=Terms(), augment=Augment(scale=None, flip=0.0, roll=(0, 0)))
    together = alone.model_copy(update={"batch": BatchSize(classes="all", slots=2)})
    found: dict[tuple[int, int], list[Tensor]] = {}
    for chosen in (alone, together):  # without statistics and crops of the batch its slots do not matter
        own = recovery(lab, committee, chosen)
        for unit in all_units(chosen, IPC, CLASSES, teachers=2, unit_images=8):
            images, _ = own.optimize(unit, BAR)
            for row, image in zip(unit.rows, images, strict=True):
                found.setdefault(row, []).append(image)
    for both in found.values():
        torch.testing.assert_close(*both, rtol=0, atol=1e-4)


def test_the_additions_batch_does_not_merge_offsets() -> None:
    arms = resolve("cifar100-infer", add=["dire"]).recipe.arms
    assert arms["infer+dire"].batch == arms["infer-as-dire"].batch == BatchSize(classes="all", slots=10)


def test_a_run_stores_untouched_images_and_one_copy_a_teacher(
    lab: Lab, committee: list[Teacher], tmp_path: Path
) -> None:
    chosen = infer()
    own = recovery(lab, committee, chosen)
    units = unfinished("arm", own, RunFolder(tmp_path), num_classes=CLASSES, ipc=IPC)
    assert (
        recover("arm", units, own, classes=lab.bank.classes, run=RunFolder(tmp_path))
        == chosen.steps * CLASSES * 2 * 2
    )
    images, _ = load_images(tmp_path / "images" / "arm", lab.bank.classes, 6, channels=3, config=chosen.save)
    images = images.view(CLASSES, 3, 2, *SHAPE)
    real = lab.real([(c, slot) for c in range(CLASSES) for slot in range(2)]).view(CLASSES, 2, *SHAPE)
    assert torch.equal(images[:, 0], real)
    for part in (1, 2):
        assert not torch.equal(images[:, part], real)
    assert not torch.equal(images[:, 1], images[:, 2])  # each teacher its own
    assert unfinished("arm", own, RunFolder(tmp_path), num_classes=CLASSES, ipc=IPC) == []


# -- declarations ----------------------------------------------------------------------------------


def test_declared_values(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("arms: {a: {method: infer}}")
    resolved = resolve(str(tmp_path / "own.yaml"))
    arm = resolved.recipe.arms["a"]
    assert (arm.init, arm.steps, arm.lr, arm.batch) == ("real", 1000, 0.25, BatchSize(classes="all", slots=1))
    assert arm.terms == Terms(bn=BatchNorm(weight=1.0, first=10.0))
    assert arm.augment == Augment(roll=(0, 4))
    assert arm.offset == Offset(before_last_step=True)
    assert all(leaf.source for path, leaf in resolved.leaves.items() if path.startswith("arms"))


def test_what_offsets_do_not_go_with() -> None:
    with pytest.raises(ValueError, match="init is noise"):
        Method(offset=Offset())
    with pytest.raises(ValueError, match="offset does not go with early_late or perturb"):
        Method(init="real", offset=Offset(), early_late=EarlyLate(), batch=BatchSize(slots="all"))
