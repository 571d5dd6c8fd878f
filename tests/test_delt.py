"""DELT: rounds of slots, in the plan and in the loop; and committees whose members take turns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, Silent, make_lab, method
from torch import Tensor, nn

from fastdd.config import RDED, Augment, BatchSize, EarlyLate, Method, Recover, Terms
from fastdd.errors import InputError
from fastdd.methods import METHODS
from fastdd.recipes.resolve import resolve
from fastdd.recover import Recovery, Unit, all_units, check_ensemble, plan, recover, unfinished
from fastdd.recover.objective import draws
from fastdd.recover.steps import active_slots, iterations, rounds_of, teacher_weights, teachers_of_steps
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.run_folder import RunFolder
from fastdd.teachers import Features, Teacher
from fastdd_kernels import resample


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def delt(rounds: int, steps: int, **changes: Any) -> Method:
    return method("delt", init="real", early_late=EarlyLate(rounds=rounds), steps=steps, **changes)


# -- the plan --------------------------------------------------------------------------------------


def test_active_slots_of_the_paper() -> None:
    assert active_slots(50, 8) == [7, 14, 20, 26, 32, 38, 44, 50]
    assert active_slots(10, 8) == [2, 4, 5, 6, 7, 8, 9, 10]
    assert active_slots(1, 8) == [1] * 8


def test_rounds_cover_all_steps_and_the_work_is_nine_sixteenths() -> None:
    chosen = method("delt", batch=BatchSize(classes=2, slots="all"))
    (unit,) = plan(2, 48, chosen.batch, 96)
    rounds = rounds_of(chosen, unit)
    assert [(part.steps.start, part.steps.stop) for part in rounds] == [
        (500 * r, 500 * r + 500) for r in range(8)
    ]
    assert iterations(chosen, unit) == 0.5625 * 4000 * 96
    for part in rounds:
        rows = range(96) if part.rows is None else part.rows.tolist()
        assert [unit.rows[row] for row in rows] == part.unit.rows
        assert part.unit.shape == (1, 2, part.unit.shape[2])
    assert [part.unit.shape[2] for part in rounds] == [6, 12, 18, 24, 30, 36, 42, 48]


def test_one_image_a_class_knows_no_rounds() -> None:
    chosen = method("delt", batch=BatchSize(classes=2, slots="all"))
    (unit,) = plan(2, 1, chosen.batch, 2)
    (only,) = rounds_of(chosen, unit)
    assert (only.steps, only.rows, only.unit) == (range(4000), None, unit)
    (unit,) = plan(2, 3, chosen.batch, 6)
    assert [(part.steps, part.unit.shape[2]) for part in rounds_of(chosen, unit)] == [
        (range(500), 1),
        (range(500, 1000), 2),
        (range(1000, 4000), 3),
    ]


def test_steps_that_the_rounds_do_not_divide() -> None:
    chosen = delt(3, 10)
    (unit,) = plan(1, 6, BatchSize(slots="all"), 6)
    assert [list(part.steps) for part in rounds_of(chosen, unit)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_rounds_need_all_slots_of_a_class_in_a_batch() -> None:
    with pytest.raises(ValueError, match=r"set batch\.slots to all, got 2"):
        Method(early_late=EarlyLate(), batch=BatchSize(slots=2))


# -- the loop --------------------------------------------------------------------------------------


class Seen:
    """A term that notes how many images it is asked about, and pulls every pixel down with the same force."""

    paired = False

    def __init__(self) -> None:
        self.counts: list[int] = []

    def targets(self, unit: Unit) -> None:
        return None

    def continued(self, targets: None, before: None) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> dict[str, Tensor]:
        self.counts.append(len(images))
        return {"seen": images.sum()}


def test_waiting_images_are_left_alone_and_join_with_a_longer_step(lab: Lab) -> None:
    steps, lr = 40, 1e-3
    chosen = delt(2, steps, lr=lr, augment=Augment(roll=(0, 0)), batch=BatchSize(classes=2, slots="all"))
    unit = plan(CLASSES, IPC, chosen.batch, 1)[0]
    term, start = Seen(), lab.start(chosen, unit).clone()
    ended, _ = lab.optimize(chosen, Recover(log_every=1), unit, [term])
    assert term.counts == [IPC] * (steps // 2) + [2 * IPC] * (steps // 2)  # half of the slots, two classes
    # With a gradient of 1 everywhere an early image moves by lr_t at each step; a late one by Adam's ratio.
    rates = [lr * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps)]
    late = 0.0
    for k, rate in enumerate(rates[steps // 2 :], 1):
        t = steps // 2 + k
        ratio = (1 - 0.5**k) / (1 - 0.5**t) / math.sqrt((1 - 0.9**k) / (1 - 0.9**t))
        late += rate * ratio
        if k == 1:
            assert ratio == pytest.approx(1.58, abs=0.12)  # 1.58 once 0.9^t has gone
    low, _ = lab.teacher.bounds(torch.device("cpu"))
    for row, (_, slot) in enumerate(unit.rows):
        moved = sum(rates) if slot < IPC // 2 else late
        torch.testing.assert_close(ended[row], (start[row] - moved).maximum(low), rtol=0, atol=2e-5)


def test_first_step_of_a_late_image_is_1_58_times_the_rate() -> None:
    """Adam's moments at rest and its count at 500: the golden value."""
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=1.0, betas=(0.5, 0.9))
    for gradient in [0.0] * 500 + [3.0]:
        x.grad = torch.full_like(x, gradient)
        optimizer.step()
    assert -x.item() == pytest.approx(1.5811, abs=1e-4)


def statistics_loss(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and SRe2L's loss of all BatchNorms with ten times the first, by hooks."""
    found: list[Tensor] = []

    def hook(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
        assert module.running_mean is not None
        assert module.running_var is not None
        found.append((module.running_var - var).norm() + (module.running_mean - mean).norm())

    bns = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [bn.register_forward_pre_hook(hook) for bn in bns]  # type: ignore[arg-type]
    logits = network(images)
    for handle in handles:
        handle.remove()
    return logits, 10 * found[0] + torch.stack(found[1:]).sum()


@pytest.mark.parametrize("per_image", [False, True])
def test_rounds_against_plain_adam_in_float64(lab: Lab, per_image: bool) -> None:
    """Cross-entropy and statistics of the active images alone, one Adam and one cosine."""
    steps, lr, rounds = 6, 0.05, 3
    chosen = delt(
        rounds,
        steps,
        lr=lr,
        batch=BatchSize(classes=2, slots="all"),
        terms=Terms(bn=BatchNorm(weight=0.05)),
        augment=Augment(scale=(0.5, 1.0), roll=(-1, 1), per_image=per_image),
    )
    unit = plan(CLASSES, IPC, chosen.batch, 1)[1]
    got, losses = lab.optimize(chosen, Recover(log_every=1), unit)
    network, labels = lab.double(), torch.tensor([c for c, _ in unit.rows])
    parameters = draws(chosen.augment, unit, steps, size=SHAPE[1:], seed=SEED)
    assert parameters is not None
    x = lab.start(chosen, unit).double()
    low, high = (v.double() for v in lab.teacher.bounds(torch.device("cpu")))
    first, second, values = torch.zeros_like(x), torch.zeros_like(x), []
    for t in range(steps):
        active = torch.tensor([slot < IPC * (t * rounds // steps + 1) // rounds for _, slot in unit.rows])
        x.requires_grad_()
        seen = resample(x[active], parameters[t][active] if per_image else parameters[t])
        logits, statistics = statistics_loss(network, seen)
        loss = F.cross_entropy(logits, labels[active]) + 0.05 * statistics
        (grad,) = torch.autograd.grad(loss, x)
        assert bool((grad[~active] == 0).all())
        values.append(loss.item())
        first, second = 0.5 * first + 0.5 * grad, 0.9 * second + 0.1 * grad.square()
        rate = lr * (1 + math.cos(math.pi * t / steps)) / 2
        update = first / (1 - 0.5 ** (t + 1)) / ((second / (1 - 0.9 ** (t + 1))).sqrt() + 1e-8)
        x = (x.detach() - rate * update).clamp(low, high)
    assert [entry["ce"] + entry["bn"] for entry in losses] == pytest.approx(values, rel=1e-4)
    difference = (got.double() - x).abs()
    assert float(difference.mean()) < 1e-4
    assert float((difference > 1e-3).float().mean()) < 0.005


def test_a_run_with_rounds(lab: Lab, tmp_path: Path) -> None:
    chosen = delt(4, 8, batch=BatchSize(classes=2, slots="all"))
    recovery = lab.recovery(chosen)
    units = unfinished("arm", recovery, RunFolder(tmp_path), num_classes=CLASSES, ipc=IPC)
    assert (
        recover("arm", units, recovery, classes=lab.bank.classes, run=RunFolder(tmp_path))
        == CLASSES * (2 + 4 + 5 + 6) * 2
    )
    assert len(list((tmp_path / "images").rglob("*.png"))) == CLASSES * IPC


# -- the ensemble -----------------------------------------------------------------------------------------


def test_who_speaks_at_a_step() -> None:
    unit = plan(2, 1, BatchSize(), 2)[0]
    assert teachers_of_steps(Method(steps=4), unit, 3, SEED) == [[0]] * 4
    chosen = Method(steps=600, ensemble="round_robin")
    assert teachers_of_steps(chosen, unit, 3, SEED)[:4] == [[0], [1], [2], [0]]
    assert (
        teachers_of_steps(chosen.model_copy(update={"ensemble": "all"}), unit, 3, SEED) == [[0, 1, 2]] * 600
    )
    two = chosen.model_copy(update={"ensemble": 2})
    drawn = teachers_of_steps(two, unit, 3, SEED)
    assert drawn == teachers_of_steps(two, unit, 3, SEED)
    assert drawn != teachers_of_steps(two, unit, 3, SEED + 1)
    for pair in ([0, 1], [0, 2], [1, 2]):
        assert 160 < drawn.count(pair) < 240


def test_a_slot_keeps_the_pair_of_its_number() -> None:
    """The ten pairs of five teachers, in the order of CV-DD's script for 10 images a class."""
    cvdd = method("cvdd", steps=3, batch=BatchSize(classes=2))
    units = all_units(cvdd, 12, 4, 5, unit_images=100)
    assert [unit.batches[0].slots for unit in units] == [(slot,) for slot in range(12)]
    assert all(len(unit.batches) == 2 for unit in units)  # a slot's batches share a unit, two slots do not
    pairs = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]
    for unit, pair in zip(units, [*pairs, *pairs[:2]], strict=True):
        assert teachers_of_steps(cvdd, unit, 5, SEED) == [pair] * 3
    several = cvdd.model_copy(update={"batch": BatchSize(classes=2, slots=5)})
    units = all_units(several, 12, 2, 5, unit_images=100)
    found = {unit.batches[0].slots[0]: teachers_of_steps(several, unit, 5, SEED)[0] for unit in units}
    assert found == {0: [0, 1], 5: [0, 2], 10: [0, 3]}


def test_teachers_weigh_by_their_accuracies() -> None:
    """The softmax of accuracies in percent over 5, golden values for CV-DD's numbers on CIFAR-100."""
    prior = (64.0, 60.6, 51.6, 59.4, 56.4)
    given = Method(steps=0, ensemble=2, ensemble_weights=prior)
    assert teacher_weights(given, (0, 1), []) == pytest.approx([0.6637387, 0.3362613], abs=1e-7)
    measured = given.model_copy(update={"ensemble_weights": "accuracy"})
    accuracies = [number / 100 for number in prior]
    assert teacher_weights(measured, (0, 2), accuracies) == pytest.approx([0.9227278, 0.0772722], abs=1e-7)
    assert teacher_weights(given.model_copy(update={"ensemble_weights": "equal"}), (0, 2), []) is None
    with pytest.raises(InputError, match="that of teacher 1 was not measured"):
        teacher_weights(measured, (0, 1), [0.9, None])


def test_an_ensemble_that_does_not_fit_the_teachers_is_refused() -> None:
    with pytest.raises(InputError, match=r"arms\.a\.ensemble is 2, but it uses 1 teacher; lower it"):
        check_ensemble("arms.a", Method(steps=0, ensemble=2), 1)
    chosen = Method(steps=0, ensemble="all", ensemble_weights=(1.0, 2.0))
    with pytest.raises(InputError, match=r"ensemble_weights has 2 numbers, but the arm uses 3 teachers"):
        check_ensemble("arms.a", chosen, 3)
    check_ensemble("arms.a", chosen, 2)


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_the_loss_is_the_weighted_mean_of_the_teachers_of_steps(lab: Lab, share: float) -> None:
    """With two teachers Adam's first step follows the mean gradient's sign, and the log is the mean."""
    weights = "equal" if share == 0.5 else (5 * math.log(0.7 / 0.3), 0.0)
    other = lab.double().float()
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    second = type(lab.teacher)(other, lab.teacher.card)
    batch = BatchSize(classes=2)
    chosen = method(
        "sre2l", ensemble="all", steps=1, lr=1e-3, batch=batch, init="real", ensemble_weights=weights
    )
    unit = plan(CLASSES, IPC, chosen.batch, 1)[0]

    def run(*teachers: Teacher) -> tuple[Tensor, list[dict[str, float]]]:
        own = Recovery(
            chosen,
            Recover(),
            teachers,
            [lab.bank] * len(teachers),
            real_images=lab.real,
            shape=SHAPE,
            seed=SEED,
        )
        return own.optimize(unit, Silent())  # type: ignore[arg-type]

    (both, mean), (_, one), (_, two) = run(lab.teacher, second), run(lab.teacher), run(second)
    for name in ("ce", "bn"):
        assert one[0][name] != pytest.approx(two[0][name], rel=0.01)
        together = share * one[0][name] + (1 - share) * two[0][name]
        assert mean[0][name] == pytest.approx(together, rel=1e-5)
    gradients = []
    for teacher in (lab.teacher, second):
        own = Recovery(chosen, Recover(), [teacher], [lab.bank], real_images=lab.real, shape=SHAPE, seed=SEED)
        images, (objective,) = own.initial(unit.rows).requires_grad_(), own.objective(unit.shape)
        drawn = draws(chosen.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        values = objective(images, None if drawn is None else drawn[0], objective.targets(unit))
        gradients.append(torch.autograd.grad(torch.stack(list(values.values())).sum(), images)[0])
    start = lab.teacher.denormalize(lab.start(chosen, unit))
    std = torch.tensor(lab.teacher.card.std)[:, None, None]
    wanted = (start - 1e-3 * std * (share * gradients[0] + (1 - share) * gradients[1]).sign()).clamp(0, 1)
    assert float(((both - wanted).abs() > 1e-6).float().mean()) < 0.01  # where the sum is nearly 0


# -- declarations ----------------------------------------------------------------------------------


def test_declared_values(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "arms: {delt: {method: delt}, plus: {method: sre2lpp}, cv: {method: cvdd}, rded: {method: rded}}"
    )
    resolved = resolve(str(tmp_path / "own.yaml"))
    arms = resolved.recipe.arms
    for name in ("delt", "plus", "cv"):
        arm = arms[name]
        init = "medium" if name == "delt" else "rded"
        assert (arm.init, arm.steps, arm.lr, arm.betas) == (init, 4000, 0.25, (0.5, 0.9))
        assert arm.terms.bn == BatchNorm(weight=0.01, first=10.0)
        assert (arm.augment.scale, arm.augment.flip) == ((0.08, 1.0), 0.5)
    assert arms["plus"].rded == arms["cv"].rded == RDED(images=500, rank="medium")
    assert arms["delt"].augment.roll == (0, 0)
    assert (arms["delt"].augment.curriculum, arms["delt"].augment.milestone) == ("cosine", 1.0)
    assert arms["delt"].early_late == EarlyLate(rounds=8)
    assert (arms["cv"].ensemble, arms["cv"].ensemble_per, arms["cv"].ensemble_weights) == (
        2,
        "slot",
        "accuracy",
    )
    assert (arms["rded"].init, arms["rded"].steps) == ("rded", 0)
    for name in ("delt", "infer", "rded", "sre2lpp", "cvdd"):
        assert METHODS[name].title(name) != name
    assert all(leaf.source for path, leaf in resolved.leaves.items() if path.startswith("arms"))


def test_ranks_need_all_embeddings(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("arms: {a: {method: delt}}\nbank: {embeddings: 5}")
    with pytest.raises(InputError, match=r"arms\.a\.init medium ranks all real images.*got 5"):
        resolve(str(tmp_path / "own.yaml"))


def test_wrong_ensembles_are_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("arms: {a: {method: cvdd, ensemble: some}}")
    with pytest.raises(InputError, match=r"ensemble"):
        resolve(str(tmp_path / "own.yaml"))
