"""Recover: plan, terms against plain formulas, grouped units against one class at a time, and the loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.datasets import ImageFolder

from fastdd import bank as banks
from fastdd.bank import Bank
from fastdd.errors import InputError
from fastdd.recipe import Batch, BatchNorm, CrossEntropy, DiRe, Gaussian, Method, Recover, Terms
from fastdd.recover import Unit, load_images, plan, recover, save_images, tapped_layers
from fastdd.recover.loop import cosine, draws, optimise
from fastdd.recover.stage import initial_images
from fastdd.recover.terms import build_terms
from fastdd.resolution import resolve
from fastdd.teachers import Card, Features, Taps, Teacher, build, layer_names
from fastdd_kernels import resample

CPU = torch.device("cpu")
CLASSES, IPC, SEED = 4, 6, 5
SHAPE = (3, 8, 8)
Rows = Sequence[tuple[int, int]]


class Silent:
    """A progress bar that shows nothing."""

    def advance(self, images: int, note: str = "") -> None:
        pass


@dataclass(frozen=True)
class Lab:
    """A random teacher, and the bank of random images of different classes."""

    teacher: Teacher
    bank: Bank
    real: Callable[[Rows], Tensor]

    def taps(self, terms: Terms) -> Taps:
        network = self.teacher.network
        return Taps(network, tapped_layers(terms, network), moments=terms.bn is not None)

    def start(self, method: Method, unit: Unit) -> Tensor:
        return initial_images(method, unit, SHAPE, self.teacher, self.real, SEED)

    def features(self, method: Method, unit: Unit, images: Tensor) -> Features:
        """After the first step's augmentation."""
        parameters = draws(method.augment, unit, 1, SHAPE[-1], SEED)
        return self.taps(method.terms)(images if parameters is None else resample(images, parameters[0]))

    def values(self, method: Method, unit: Unit, images: Tensor) -> dict[str, Tensor]:
        """The terms of the first step."""
        features = self.features(method, unit, images)
        terms = build_terms(method.terms, unit, self.taps(method.terms), self.bank, SEED, CPU)
        return {name: value for term in terms for name, value in term(features).items()}

    def gradients(self, method: Method, unit_images: int) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> gradient of the first step's loss to the initial image."""
        found = {}
        for unit in plan(CLASSES, IPC, method.batch, unit_images):
            images = self.start(method, unit).requires_grad_()
            torch.stack(list(self.values(method, unit, images).values())).sum().backward()
            assert images.grad is not None
            found.update(dict(zip(unit.rows, images.grad, strict=True)))
        return found

    def optimised(self, method: Method, config: Recover) -> dict[tuple[int, int], Tensor]:
        """(class, slot) -> final image."""
        found = {}
        for unit in plan(CLASSES, IPC, method.batch, config.unit_images):
            found.update(dict(zip(unit.rows, self.optimise(method, config, unit)[0], strict=True)))
        return found

    def optimise(
        self, method: Method, config: Recover, unit: Unit, terms: list[Any] | None = None
    ) -> tuple[Tensor, list[dict[str, float]]]:
        taps = self.taps(method.terms)
        if terms is None:
            terms = build_terms(method.terms, unit, taps, self.bank, SEED, CPU)
        start = self.start(method, unit)
        return optimise(start, unit, method, config, self.teacher, taps, terms, SEED, Silent())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    torch.manual_seed(0)
    network = build("resnet8", CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0.0, 0.3)  # type: ignore[arg-type]
    card = Card("resnet8", ("ant", "bee", "cow", "doe"), 3, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    teacher = Teacher(network.eval().requires_grad_(False), card)
    counts = (9, 12, 7, 10)
    images = torch.randint(0, 256, (sum(counts), *SHAPE), dtype=torch.uint8) // 2
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts))
    images += (labels * 40).to(torch.uint8)[:, None, None, None]
    folder = tmp_path_factory.mktemp("bank")
    layers = [*layer_names(network, "blocks"), *layer_names(network, "bn_inputs"), *layer_names(network, "stages")]
    banks.save(folder, *banks.build(teacher, [(images, labels)], len(images), layers), card.classes, "t", "d")
    first = [sum(counts[:c]) for c in range(CLASSES)]
    return Lab(teacher, Bank(folder), lambda rows: images[[first[c] + slot for c, slot in rows]])


def method(name: str, add: Sequence[str] = (), **changes: Any) -> Method:
    """A declared method with some values of its own, for 8 x 8 images."""
    declared = resolve(f"cifar10-{name}").recipe.arms[name] if not add else None
    if declared is None:
        declared = resolve(f"cifar10-{name}", add=add).recipe.arms["+".join([name, *add])]
    return declared.model_copy(update={"augment": declared.augment.model_copy(update={"roll": (-1, 1)}), **changes})


# -- plan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3, "all"])
@pytest.mark.parametrize("slots", [1, 4, "all"])
@pytest.mark.parametrize("unit_images", [1, 10, 64])
@pytest.mark.parametrize(("num_classes", "ipc"), [(1, 1), (7, 5), (4, 8)])
def test_every_row_is_in_one_unit(classes: Any, slots: Any, unit_images: int, num_classes: int, ipc: int) -> None:
    batch = Batch(classes=classes, slots=slots)
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
    batch = Batch(classes=3, slots=2)
    cut = [{b for unit in plan(7, 5, batch, size) for b in unit.batches} for size in (1, 7, 1000)]
    assert cut[0] == cut[1] == cut[2]


def test_order_of_rows() -> None:
    (unit,) = plan(2, 4, Batch(classes=2, slots=2), 100)
    assert unit.rows == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert unit.groups == [0, 1, 0, 1]


# -- schedule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.25), (1000, 0.2133883), (2000, 0.125), (3000, 0.0366117), (3999, 3.8553e-8)]
)
def test_cosine_learning_rate(step: int, expected: float) -> None:
    assert cosine(0.25, step, 4000) == pytest.approx(expected, rel=2e-5)


# -- terms against the formulas as published --------------------------------------------------------


def released_batch_norm_loss(network: nn.Module, images: Tensor, first: float) -> Tensor:
    """SRe2L's released form: hooks on every BatchNorm's input, plain norms, biased variance."""
    found: list[Tensor] = []

    def hook(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        mean, var = x.mean((0, 2, 3)), x.permute(1, 0, 2, 3).flatten(1).var(1, unbiased=False)
        assert module.running_mean is not None
        assert module.running_var is not None
        found.append((module.running_var - var).norm(2) + (module.running_mean - mean).norm(2))

    bns = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [bn.register_forward_pre_hook(hook) for bn in bns]  # type: ignore[arg-type]
    network(images)
    for handle in handles:
        handle.remove()
    return torch.stack([first * found[0], *found[1:]]).sum()


def double(lab: Lab) -> nn.Module:
    network = build("resnet8", CLASSES)
    network.load_state_dict(lab.teacher.network.state_dict())
    return network.double().eval()


def test_batch_norm_term_is_the_released_loss_of_each_batch(lab: Lab) -> None:
    sre2l = method("sre2l", batch=Batch(classes=2, slots=3), terms=Terms(bn=BatchNorm(weight=0.3, first=10.0)))
    units = plan(CLASSES, IPC, sre2l.batch, 12)
    assert [unit.shape for unit in units] == [(2, 2, 3)] * 2
    network = double(lab)
    for unit in units:
        images = lab.start(sre2l, unit).requires_grad_()
        got = lab.values(sre2l, unit, images)["bn"]
        augmented = lab.start(sre2l, unit).double().requires_grad_()
        parameters = draws(sre2l.augment, unit, 1, SHAPE[-1], SEED)
        assert parameters is not None
        parts = resample(augmented, parameters[0]).chunk(2)
        wanted = 0.3 * torch.stack([released_batch_norm_loss(network, part, 10.0) for part in parts]).sum()
        # sums over a few thousand float32 numbers, each good to 1e-6
        assert got.item() == pytest.approx(wanted.item(), rel=1e-5)
        (grad,) = torch.autograd.grad(got, images)
        (grad_wanted,) = torch.autograd.grad(wanted, augmented)
        assert float((grad - grad_wanted).abs().max()) <= 1e-4 * float(grad_wanted.abs().max())


def test_cross_entropy_is_a_mean_over_each_batch(lab: Lab) -> None:
    sre2l = method("sre2l", batch=Batch(classes=2, slots=1), terms=Terms(ce=CrossEntropy(weight=2.0)))
    unit = plan(CLASSES, IPC, sre2l.batch, 6)[0]
    images = lab.start(sre2l, unit)
    labels = torch.tensor([c for c, _ in unit.rows])
    logits = lab.features(sre2l, unit, images).logits
    wanted = sum(2 * F.cross_entropy(*pair) for pair in zip(logits.chunk(3), labels.chunk(3), strict=True))
    torch.testing.assert_close(lab.values(sre2l, unit, images)["ce"], wanted)


def covariance(rows: Tensor, unbiased: bool) -> Tensor:
    return torch.cov(rows.T, correction=int(unbiased))


@pytest.mark.parametrize("layers", ["stages", "blocks", "bn_inputs"])
@pytest.mark.parametrize(("norm", "unbiased"), [("none", False), ("dim", True)])
def test_gaussian_term_is_equation_6_of_each_class(lab: Lab, layers: Any, norm: Any, unbiased: bool) -> None:
    config = Gaussian(weight=0.7, gamma=50.0, layers=layers, cov_norm=norm, cov_unbiased=unbiased)
    deda = method("deda", terms=Terms(gaussian=config))
    (unit,) = plan(CLASSES, IPC, deda.batch, 1000)
    assert unit.shape == (CLASSES, 1, IPC)
    images = lab.start(deda, unit)
    features = lab.features(deda, unit, images)
    names = list(layer_names(lab.teacher.network, layers))[:-1]
    assert list(features.pooled) == names
    total = 0.0
    for layer, c in itertools.product(names, range(CLASSES)):
        rows = features.pooled[layer].double().chunk(CLASSES)[c]
        packed_mean, packed = lab.bank.gaussian(layer, [c])
        D = rows.shape[1]
        target = torch.zeros(D, D, dtype=torch.float64)
        low = torch.tril_indices(D, D)
        target[low[0], low[1]] = packed[0].double()
        target = target + target.tril(-1).T
        difference = (covariance(rows, unbiased) - target).square().sum() / (D if norm == "dim" else 1)
        total += 0.7 * float((rows.mean(0) - packed_mean[0].double()).square().sum() + 50 * difference)
    assert lab.values(deda, unit, images)["gaussian"].item() == pytest.approx(total, rel=1e-4)


def test_covariance_terms_are_equations_7_and_8_of_each_class(lab: Lab) -> None:
    deda = method("deda")
    unit = plan(CLASSES, IPC, deda.batch, 2 * IPC)[1]
    assert unit.groups == [2, 3]
    images = lab.start(deda, unit)
    hinge = off_diagonal = 0.0
    for rows in lab.features(deda, unit, images).embedding.double().chunk(2):
        cov = covariance(rows, unbiased=False)
        D = rows.shape[1]
        hinge += float((1 - (cov.diagonal() + 1e-4).sqrt()).clamp(min=0).mean())
        off_diagonal += float((cov.square().sum() - cov.diagonal().square().sum()) / (D * (D - 1)))
    got = lab.values(deda, unit, images)
    assert got["variance"].item() == pytest.approx(0.2 * hinge, rel=1e-5)
    assert got["covariance"].item() == pytest.approx(4 * off_diagonal, rel=1e-4)


@pytest.mark.parametrize("reading", ["paper", "code", "clean"])
def test_dire_terms_are_the_formula_of_each_class(lab: Lab, reading: Any) -> None:
    terms = Terms(dire=DiRe(r_cos=0.3, r_euc=0.02, reading=reading))
    sre2l = method("sre2l", batch=Batch(classes=2, slots=3), terms=terms)
    unit = plan(CLASSES, IPC, sre2l.batch, 12)[1]
    assert unit.groups == [0, 1, 2, 3]
    assert unit.rows[0] == (0, 3)
    images = lab.start(sre2l, unit)
    wanted = torch.zeros(3, dtype=torch.float64)
    for c, rows in zip(unit.groups, lab.features(sre2l, unit, images).embedding.double().split(3), strict=True):
        real = lab.bank.embeddings(c).double()
        n, m = len(rows), len(real)
        within = F.cosine_similarity(rows[:, None], rows[None], dim=2)
        across = F.cosine_similarity(rows[:, None], real[None], dim=2)
        distance = (rows[:, None] - real[None]).norm(dim=2)
        if reading == "paper":
            wanted += torch.stack([within.sum(), 1 - across.sum(), distance.sum()])
        elif reading == "clean":
            cd = (within.sum() - within.trace()) / (n * (n - 1))
            wanted += torch.stack([cd, 1 - across.mean(), distance.mean()])
        else:
            off, off_real = (1 - torch.eye(n, k, dtype=torch.float64) for k in (n, m))
            cdm = (1 - across * off_real).mean()
            wanted += torch.stack([(within.abs() * off).mean(), cdm, (distance * off_real).mean()])
    got = lab.values(sre2l, unit, images)
    for name, weight, value in zip(("cd", "cdm", "edm"), (0.3, 0.3, 0.02), wanted, strict=True):
        assert got[name].item() == pytest.approx(weight * value.item(), rel=1e-4), name


def test_real_per_class_is_a_seeded_choice(lab: Lab) -> None:
    (unit,) = plan(CLASSES, IPC, Batch(slots="all"), 1000)
    chosen = method("sre2l", terms=Terms(dire=DiRe(real_per_class=3)))
    images = lab.start(chosen, unit)
    values = lab.values(chosen, unit, images)
    assert values == lab.values(chosen, unit, images)
    everything = [method("sre2l", terms=Terms(dire=DiRe(real_per_class=n))) for n in ("all", 12, 100)]
    full = [lab.values(m, unit, images)["edm"] for m in everything]
    assert full[0] == full[1] == full[2] != values["edm"]


# -- units ----------------------------------------------------------------------------------------

METHODS = {
    "deda": lambda: method("deda"),
    "deda-bn": lambda: method("deda", terms=Terms(gaussian=Gaussian(layers="bn_inputs"), bn=BatchNorm())),
    "deda+dire": lambda: method("deda", ["dire"], batch=Batch(classes=1, slots=3)),
    "sre2l": lambda: method("sre2l", batch=Batch(classes=2, slots=1)),
    "sre2l+dire": lambda: method("sre2l", ["dire"], batch=Batch(classes=2, slots=3)),
}


@pytest.mark.parametrize("name", METHODS)
def test_gradient_of_a_unit_is_that_of_one_batch_at_a_time(lab: Lab, name: str) -> None:
    chosen = METHODS[name]()
    alone, together = lab.gradients(chosen, 1), lab.gradients(chosen, 1000)
    assert len(plan(CLASSES, IPC, chosen.batch, 1)) >= CLASSES
    assert len(plan(CLASSES, IPC, chosen.batch, 1000)) == 1
    for row, grad in alone.items():
        # the same sums in float32, in another order
        assert float((together[row] - grad).abs().max()) <= 1e-4 * float(grad.abs().max()), row
    mixed = lab.gradients(chosen.model_copy(update={"batch": Batch(classes="all", slots="all")}), 1000)
    assert any(float((mixed[row] - grad).abs().max()) > 0.01 * float(grad.abs().max()) for row, grad in alone.items())


@pytest.mark.parametrize("name", METHODS)
def test_initial_images_and_draws_do_not_depend_on_the_unit_size(lab: Lab, name: str) -> None:
    chosen = METHODS[name]()
    augment = chosen.augment.model_copy(update={"scale": (0.2, 1.0), "flip": 0.5})
    seen: list[dict[Any, Tensor]] = []
    for size in (1, 12, 1000):
        found: dict[Any, Tensor] = {}
        for unit in plan(CLASSES, IPC, chosen.batch, size):
            found.update(dict(zip(unit.rows, lab.start(chosen, unit), strict=True)))
            parameters = draws(augment, unit, 7, 8, SEED)
            assert parameters is not None
            found.update(dict(zip(unit.batches, parameters.unbind(1), strict=True)))
        seen.append(found)
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        assert all(torch.equal(other[key], value) for key, value in seen[0].items())
    noise = torch.stack([value for key, value in seen[0].items() if isinstance(key, tuple)])
    assert len(noise.flatten(1).unique(dim=0)) == CLASSES * IPC


@pytest.mark.parametrize("name", METHODS)
def test_final_images_do_not_depend_on_the_unit_size(lab: Lab, name: str) -> None:
    chosen = METHODS[name]().model_copy(update={"steps": 8, "lr": 0.02})
    alone, together = (lab.optimised(chosen, Recover(unit_images=size)) for size in (1, 1000))
    difference = torch.stack([(together[row] - image).abs() for row, image in alone.items()])
    moved = torch.stack([image - lab.start(chosen, unit)[i] for unit in plan(CLASSES, IPC, chosen.batch, 1)
                         for i, row in enumerate(unit.rows) for image in (alone[row],)]).abs()  # fmt: skip
    # Adam divides by the gradient's size: where that is near zero its rounding error is all there is, up to lr a step
    assert float(moved.mean()) > 0.02
    assert float(difference.mean()) < 1e-4
    assert float((difference > 1e-3).float().mean()) < 0.005


def test_methods_with_dire_have_its_terms(lab: Lab) -> None:
    for name in ("deda+dire", "sre2l+dire"):
        chosen = METHODS[name]()
        (unit,) = plan(CLASSES, IPC, chosen.batch, 1000)
        names = set(lab.values(chosen, unit, lab.start(chosen, unit)))
        assert {"ce", "cd", "cdm", "edm"} < names
        assert ("bn" in names) is ("sre2l" in name)


# -- the loop -------------------------------------------------------------------------------------


def test_the_last_iterate_of_plain_adam(lab: Lab) -> None:
    """Against Adam, cosine and clipping written out, in float64, without augmentation."""
    steps, lr = 6, 0.25
    plain = method("sre2l", terms=Terms(), steps=steps, lr=lr, batch=Batch(classes="all", slots=1))
    plain = plain.model_copy(update={"augment": plain.augment.model_copy(update={"roll": (0, 0)})})
    unit = plan(CLASSES, IPC, plain.batch, 1)[0]
    assert draws(plain.augment, unit, steps, 8, SEED) is None
    got, losses = lab.optimise(plain, Recover(log_every=4), unit)
    network, labels = double(lab), torch.tensor([c for c, _ in unit.rows])
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
    images, _ = lab.optimise(deda, Recover(), unit)
    low, high = lab.teacher.bounds(CPU)
    assert bool((images >= low).all() and (images <= high).all())
    assert bool((images == low).any() and (images == high).any())
    assert not images.requires_grad


def test_logged_losses_are_a_mean_over_batches(lab: Lab) -> None:
    sre2l = method("sre2l", batch=Batch(classes=2, slots=1), steps=1)
    logs = [[lab.optimise(sre2l, Recover(unit_images=size), unit)[1][0] for unit in plan(4, 6, sre2l.batch, size)]
            for size in (1, 1000)]  # fmt: skip
    (together,) = logs[1]
    assert together["step"] == 0
    for name in ("ce", "bn"):
        assert together[name] == pytest.approx(sum(entry[name] for entry in logs[0]) / len(logs[0]), rel=1e-5)


def test_a_term_that_is_not_finite_stops_the_loop(lab: Lab) -> None:
    wild = method("sre2l", terms=Terms(ce=CrossEntropy(weight=1e300)), batch=Batch(classes=2), steps=4)
    unit = plan(CLASSES, IPC, wild.batch, 2)[3]
    with pytest.raises(InputError, match=r"term 'ce' is inf at step 0 of unit 3; lower method\.lr"):
        lab.optimise(wild, Recover(), unit)
    calls = itertools.count()

    def broken(features: Features) -> dict[str, Tensor]:
        return {"broken": features.logits.sum() * (math.nan if next(calls) >= 3 else 1.0)}

    with pytest.raises(InputError, match=r"term 'broken' is nan at step 4 of unit 3"):
        lab.optimise(wild.model_copy(update={"steps": 20}), Recover(log_every=2), unit, [broken])


def test_a_gradient_that_is_not_finite_in_the_last_step_is_seen(lab: Lab) -> None:
    plain = method("sre2l", steps=1, batch=Batch(classes=2))
    unit = plan(CLASSES, IPC, plain.batch, 2)[0]

    def corner(features: Features) -> dict[str, Tensor]:
        return {"corner": (features.logits * 0).sqrt().sum()}  # 0, with an infinite slope

    with pytest.raises(InputError, match=r"images of unit 0 are not finite after step 0"):
        lab.optimise(plain, Recover(), unit, [corner])


# -- images on disk -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_survive_the_disk(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, channels, 5, 7), generator=generator, dtype=torch.uint8)
    rows = [(1, 0), (1, 1), (1, 2), (0, 2), (0, 0), (0, 1)]
    classes = ("ant", "bee")
    save_images(tmp_path, classes, rows, images.contiguous(memory_format=torch.channels_last))
    loaded, labels = load_images(tmp_path, classes, 3, channels)
    assert torch.equal(loaded, images[[4, 5, 3, 0, 1, 2]])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    folder = ImageFolder(str(tmp_path))
    assert folder.classes == list(classes)
    assert [label for _, label in folder] == labels.tolist()
    (tmp_path / "bee" / "00001.png").unlink()
    with pytest.raises(InputError, match=r"bee/00001\.png is missing or damaged"):
        load_images(tmp_path, classes, 3, channels)


def run(lab: Lab, chosen: Method, out: Path, ipc: int = IPC, unit_images: int = 12) -> Tensor:
    arguments = (Recover(unit_images=unit_images), lab.teacher, lab.bank, lab.real, SHAPE, ipc, out, SEED)
    recover("arm", chosen, *arguments)
    return load_images(out / "images" / "arm", lab.bank.classes, ipc, 3)[0]


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
