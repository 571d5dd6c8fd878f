"""CDA, DWA and LPLD: what each adds to SRe2L, against its definition written out."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, Silent, make_lab, method
from torch import Tensor, nn

from fastdd.config import Augment, BatchSize, Method, Perturb, Recover, Terms
from fastdd.recover import plan, units_of
from fastdd.recover.objective import draws, smallest_scale
from fastdd.recover.perturb import climb, perturbed
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.run_folder import RunFolder
from fastdd.teachers import layer_names
from fastdd_kernels import resample


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


# -- CDA -------------------------------------------------------------------------------------------


def test_the_curriculum_at_the_golden_points() -> None:
    augment = Augment(scale=(0.08, 1.0), curriculum="cosine")
    scale = smallest_scale(augment, 4000)
    for step, value in ((0, 1.0), (1000, 0.8652691), (2000, 0.54), (3000, 0.2147309), (3999, 0.0800001)):
        assert scale[step].item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("curriculum", "expected"),
    [("none", [0.2] * 4), ("step", [0.6, 0.6, 0.2, 0.2]), ("linear", [0.6, 0.4, 0.2, 0.2])],
)
def test_other_curricula_end_at_the_milestone(curriculum: str, expected: list[float]) -> None:
    augment = Augment(scale=(0.2, 0.6), curriculum=curriculum, milestone=0.5)  # type: ignore[arg-type]
    assert smallest_scale(augment, 4).tolist() == pytest.approx(expected)


def test_crops_follow_the_curriculum() -> None:
    augment = Augment(scale=(0.05, 1.0), curriculum="linear", roll=(0, 0))
    (unit,) = plan(1, 1, BatchSize(), 1)
    drawn = draws(augment, unit, 400, size=(64, 64), seed=SEED)
    assert drawn is not None
    area = drawn[:, 0, 5].double() * drawn[:, 0, 6] / 64**2
    lowest = smallest_scale(augment, 400)
    assert bool((area > lowest - 0.04).all())
    assert float(area[:20].min()) > 0.9
    assert float(area[-100:].min()) < 0.3


# -- augmentation of each image --------------------------------------------------------------------


def test_images_of_a_batch_share_a_draw_or_have_their_own() -> None:
    batch = BatchSize(classes=2, slots=3)
    augment = Augment(scale=(0.2, 1.0), flip=0.5)
    (unit,) = plan(2, 6, batch, 100)
    shared = draws(augment, unit, 9, size=(8, 8), seed=SEED)
    own = draws(augment.model_copy(update={"per_image": True}), unit, 9, size=(8, 8), seed=SEED)
    assert shared is not None
    assert own is not None
    assert shared.shape == (9, 2, 7)
    assert own.shape == (9, 12, 7)
    assert len(own[4].unique(dim=0)) > 6
    again = plan(2, 6, batch, 1)
    alone = [
        draws(augment.model_copy(update={"per_image": True}), one, 9, size=(8, 8), seed=SEED) for one in again
    ]
    assert torch.equal(torch.cat(alone, dim=1), own)  # type: ignore[arg-type]


def test_an_image_of_its_own_is_the_image_alone(lab: Lab) -> None:
    augment = Augment(scale=(0.3, 1.0), flip=0.5, roll=(-1, 1), per_image=True)
    chosen = method("sre2l", batch=BatchSize(classes=2), augment=augment, terms=Terms(ce=CrossEntropy()))
    (unit,) = plan(2, 1, chosen.batch, 10)
    images = lab.start(chosen, unit)
    drawn = draws(augment, unit, 1, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    logits = [
        lab.teacher.network(resample(image[None], row[None]))
        for image, row in zip(images, drawn[0], strict=True)
    ]
    loss = F.cross_entropy(torch.cat(logits), torch.tensor([0, 1]))
    torch.testing.assert_close(lab.values(chosen, unit, images)["ce"], loss, rtol=1e-5, atol=1e-6)


# -- DWA -------------------------------------------------------------------------------------------


def climbed(
    network: nn.Module, images: Tensor, labels: Tensor, steps: int, rho: float, *, done: int | None = None
) -> dict[str, Tensor]:
    """Definition, in float64: normalized ascent of all weights, all steps or as many as are done."""
    network = copy.deepcopy(network).double().eval().requires_grad_(True)
    for _ in range(steps if done is None else done):
        loss = F.cross_entropy(network(images.double()), labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        norm = sum(g.square().sum() for g in gradients) ** 0.5
        with torch.no_grad():
            for weight, gradient in zip(network.parameters(), gradients, strict=True):
                weight += rho / steps * gradient / norm
    return {name: weight.detach() for name, weight in network.named_parameters()}


def test_the_teacher_climbs_and_comes_back(lab: Lab) -> None:
    config = Perturb(steps=5, rho=0.03)
    dwa = method("dwa", batch=BatchSize(classes=2), perturb=config)
    images, labels = torch.randn(2, *SHAPE), torch.tensor([0, 3])
    network = lab.teacher.network
    wanted = climbed(network, images, labels, 5, 0.03)
    taps = lab.taps(dwa.terms)
    before = [weight.clone() for weight in taps.network.parameters()]
    with perturbed(taps, network, [(images, None, labels)], config):
        inside = [weight.clone() for weight in taps.network.parameters()]
        distance = torch.cat([(a - b).flatten() for a, b in zip(inside, before, strict=True)]).norm()
        assert 0.02 < float(distance) <= 0.03 + 1e-6
        for weight, exact in zip(inside, wanted.values(), strict=True):
            torch.testing.assert_close(weight.double(), exact, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(taps.network.parameters(), before, strict=True))
    assert not any(weight.requires_grad for weight in taps.network.parameters())


def test_a_batch_climbs_on_from_the_batches_before_it_as_released(lab: Lab) -> None:
    augment = Augment(roll=(0, 2))
    released = method("dwa", batch=BatchSize(classes=2), steps=2, lr=0.02, init="real").model_copy(
        update={"augment": augment, "perturb": Perturb(steps=3, rho=0.05, restore=False)}
    )
    units = plan(CLASSES, IPC, released.batch, 1)
    second = next(unit for unit in units if unit.rows == [(2, 1), (3, 1)])
    recovery = lab.recovery(released)
    network = copy.deepcopy(lab.teacher.network).requires_grad_(True)
    for classes in ((0, 1), (2, 3)):
        unit = next(unit for unit in units if unit.rows == [(c, 1) for c in classes])
        drawn = draws(augment, unit, 2, size=SHAPE[1:], seed=SEED)
        assert drawn is not None
        assert released.perturb is not None
        climb(network, (lab.start(released, unit), drawn[0], torch.tensor(classes)), released.perturb)
    with recovery._perturbed(second):
        for own, exact in zip(recovery.taps[0].network.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(own, exact.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("accumulate", [False, True])
def test_the_released_first_step_gathers_the_gradients_of_the_ascents(lab: Lab, accumulate: bool) -> None:
    """One step of gradient descent, in float64: nobody clears the images' gradient between the ascents."""
    config = Perturb(steps=4, rho=0.05, accumulate=accumulate)
    augment = Augment(scale=(0.5, 1.0), roll=(0, 2))
    dwa = method("dwa", batch=BatchSize(classes=2), steps=1, init="real", perturb=config).model_copy(
        update={"optimizer": "sgd", "momentum": 0.0, "lr": 0.01, "clip": False, "augment": augment}
    )
    unit = plan(CLASSES, IPC, dwa.batch, 1)[0]
    got, _ = lab.recovery(dwa).optimize(unit, Silent())  # type: ignore[arg-type]
    images = lab.start(dwa, unit).double().requires_grad_()
    drawn = draws(augment, unit, 1, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    labels = torch.tensor([c for c, _ in unit.rows])
    gathered = torch.zeros_like(images)
    for done in range(4):
        network = lab.double()
        weights = climbed(
            lab.teacher.network, resample(images.detach(), drawn[0]), labels, 4, 0.05, done=done
        )
        network.load_state_dict(weights, strict=False)
        loss = F.cross_entropy(network(resample(images, drawn[0])), labels)
        gathered = gathered + torch.autograd.grad(loss, images)[0]
    weights = climbed(lab.teacher.network, resample(images.detach(), drawn[0]), labels, 4, 0.05)
    network.load_state_dict(weights, strict=False)
    shown = resample(images, drawn[0])
    loss = F.cross_entropy(network(shown), labels) + 0.01 * released_statistics(network, shown, variance=11.0)
    (own,) = torch.autograd.grad(loss, images)
    wanted = images - 0.01 * (own + (gathered if accumulate else 0))
    exact = lab.teacher.denormalize(wanted.detach().float().clamp(*lab.teacher.bounds(torch.device("cpu"))))
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-6)
    assert float(gathered.norm() / own.norm()) > 0.1  # enough for the two to differ


def released_statistics(network: nn.Module, images: Tensor, variance: float) -> Tensor:
    """SRe2L's loss with DWA's factor of the variances, by hooks on all BatchNorms, the first times 10."""
    found: list[Tensor] = []

    def hook(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
        assert module.running_mean is not None
        assert module.running_var is not None
        found.append(variance * (module.running_var - var).norm() + (module.running_mean - mean).norm())

    bns = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [bn.register_forward_pre_hook(hook) for bn in bns]  # type: ignore[arg-type]
    network(images)
    for handle in handles:
        handle.remove()
    return 10 * found[0] + torch.stack(found[1:]).sum()


def test_a_perturbed_teacher_belongs_to_one_batch(lab: Lab, tmp_path: Path) -> None:
    dwa = method("dwa", batch=BatchSize(classes=2), steps=3, lr=0.02)
    for size in (1, 1000):
        recovery = lab.recovery(dwa, Recover(unit_images=size))
        units = units_of("arm", recovery, RunFolder(tmp_path), num_classes=CLASSES, ipc=IPC)
        assert all(len(unit.batches) == 1 for unit in units)


def test_variance_factor(lab: Lab) -> None:
    sre2l = method("sre2l", batch=BatchSize(classes=2))
    unit = plan(CLASSES, IPC, sre2l.batch, 2)[0]
    images = lab.start(sre2l, unit)
    values = {}
    for factor in (0.0, 1.0, 11.0):
        terms = Terms(ce=None, bn=BatchNorm(variance=factor))
        values[factor] = lab.values(sre2l.model_copy(update={"terms": terms}), unit, images)["bn"].item()
    assert values[11.0] == pytest.approx(values[0.0] + 11 * (values[1.0] - values[0.0]), rel=1e-5)
    assert values[1.0] > 1.05 * values[0.0]


# -- LPLD ------------------------------------------------------------------------------------------


def test_class_statistics_are_matched_class_by_class(lab: Lab) -> None:
    lpld = method("lpld")
    lpld = lpld.model_copy(
        update={"augment": Augment(roll=(0, 0)), "terms": Terms(ce=None, bn=lpld.terms.bn)}
    )
    unit = plan(CLASSES, IPC, lpld.batch, 2 * IPC)[1]
    assert unit.groups == [2, 3]
    images = lab.start(lpld, unit)
    inputs: dict[str, Tensor] = {}
    network = lab.double()
    for name, path in layer_names(network, "bn_inputs").items():
        network.get_submodule(path).register_forward_hook(
            lambda m, x, y, name=name: inputs.update({name: x[0]})
        )
    network(images.double())
    total = 0.0
    for (i, name), (group, c) in itertools.product(enumerate(inputs), enumerate(unit.groups)):
        pixels = inputs[name][group * IPC : (group + 1) * IPC].transpose(0, 1).flatten(1)
        mean, var = (target[0].double() for target in lab.bank.class_batch_norm(name, [c]))
        norms = (pixels.var(1, unbiased=False) - var).norm() + (pixels.mean(1) - mean).norm()
        total += 0.05 * (10 if i == 0 else 1) * norms.item()
    assert lab.values(lpld, unit, images)["bn"].item() == pytest.approx(total, rel=1e-4)


def test_declared_values() -> None:
    cda, dwa, lpld = (method(name) for name in ("cda", "dwa", "lpld"))
    assert isinstance(cda, Method)
    assert (cda.augment.curriculum, cda.terms.bn and cda.terms.bn.weight, cda.lr) == ("cosine", 0.05, 0.4)
    assert dwa.perturb == Perturb(steps=12, rho=0.015, restore=True, accumulate=False)
    assert dwa.terms.bn is not None
    assert (dwa.init, dwa.terms.bn.variance, dwa.terms.bn.weight) == ("real", 11.0, 0.01)
    assert lpld.terms.bn is not None
    assert (lpld.batch, lpld.terms.bn.target, lpld.lr) == (BatchSize(classes=1, slots="all"), "class", 0.1)
