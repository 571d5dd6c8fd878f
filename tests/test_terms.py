"""Terms: against the published formulas, and grouped in a unit against one batch at a time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from tiny_recovery import CLASSES, IPC, METHODS, SEED, SHAPE, Lab, make_lab, method
from torch import Tensor, nn

import fastdd
from fastdd.config import Bank as BankConfig
from fastdd.config import BatchSize, Config, LayerKind, Recover, Terms, as_plain
from fastdd.config.terms import TERMS, term_labels
from fastdd.errors import InputError
from fastdd.recover import Needs, Term, Unit, needs, plan
from fastdd.recover.objective import draws
from fastdd.recover.terms.base import AnyTerm, Values
from fastdd.recover.terms.batch_norm import BatchNorm
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.recover.terms.dire import DiRe
from fastdd.recover.terms.gaussian import Gaussian, GaussianTerm
from fastdd.teachers import Features, layer_names
from fastdd_kernels import resample


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


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


def test_batch_norm_term_is_the_released_loss_of_each_batch(lab: Lab) -> None:
    sre2l = method(
        "sre2l", batch=BatchSize(classes=2, slots=3), terms=Terms(bn=BatchNorm(weight=0.3, first=10.0))
    )
    units = plan(CLASSES, IPC, sre2l.batch, 12)
    assert [unit.shape for unit in units] == [(2, 2, 3)] * 2
    network = lab.double()
    for unit in units:
        images = lab.start(sre2l, unit).requires_grad_()
        got = lab.values(sre2l, unit, images)["bn"]
        augmented = lab.start(sre2l, unit).double().requires_grad_()
        parameters = draws(sre2l.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        assert parameters is not None
        parts = resample(augmented, parameters[0]).chunk(2)
        wanted = 0.3 * torch.stack([released_batch_norm_loss(network, part, 10.0) for part in parts]).sum()
        # sums over a few thousand float32 numbers, each good to 1e-6
        assert got.item() == pytest.approx(wanted.item(), rel=1e-5)
        (grad,) = torch.autograd.grad(got, images)
        (grad_wanted,) = torch.autograd.grad(wanted, augmented)
        assert float((grad - grad_wanted).abs().max()) <= 1e-4 * float(grad_wanted.abs().max())


def test_cross_entropy_is_a_mean_over_each_batch(lab: Lab) -> None:
    sre2l = method("sre2l", batch=BatchSize(classes=2, slots=1), terms=Terms(ce=CrossEntropy(weight=2.0)))
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
def test_gaussian_term_is_equation_6_of_each_class(
    lab: Lab, layers: LayerKind, norm: Literal["none", "dim"], unbiased: bool
) -> None:
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


def test_layers_aligned_together_have_the_value_and_the_gradient_of_each_alone(lab: Lab) -> None:
    """On a GPU layers of one width share launches."""
    deda = method(
        "deda", batch=BatchSize(classes=2, slots=3), terms=Terms(gaussian=Gaussian(layers="bn_inputs"))
    )
    unit = plan(CLASSES, IPC, deda.batch, 12)[0]
    taps = lab.taps(deda.terms)
    found = []
    for together in (False, True):
        term = GaussianTerm(deda.terms["gaussian"], lab.context(unit.shape, taps))
        term.together = together
        targets = term.targets(unit)
        assert sorted(layer for layers, _ in targets for layer in layers) == sorted(term.layers)
        images = lab.start(deda, unit).requires_grad_()
        value = term(taps(images), images, targets)["gaussian"]
        found.append((len(targets), value, torch.autograd.grad(value, images)[0]))
    (alone, value, gradient), (joined, same, again) = found
    assert (alone, joined) == (len(term.layers), 3)
    torch.testing.assert_close(same, value, rtol=1e-5, atol=0)
    torch.testing.assert_close(again, gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


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
def test_dire_terms_are_the_formula_of_each_class(
    lab: Lab, reading: Literal["paper", "code", "clean"]
) -> None:
    terms = Terms(dire=DiRe(r_cd=0.3, r_cdm=0.2, r_edm=0.02, reading=reading))
    sre2l = method("sre2l", batch=BatchSize(classes=2, slots=3), terms=terms)
    unit = plan(CLASSES, IPC, sre2l.batch, 12)[1]
    assert unit.groups == [0, 1, 2, 3]
    assert unit.rows[0] == (0, 3)
    images = lab.start(sre2l, unit)
    wanted = torch.zeros(3, dtype=torch.float64)
    for c, rows in zip(
        unit.groups, lab.features(sre2l, unit, images).embedding.double().split(3), strict=True
    ):
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
    for name, weight, value in zip(("cd", "cdm", "edm"), (0.3, 0.2, 0.02), wanted, strict=True):
        assert got[name].item() == pytest.approx(weight * value.item(), rel=1e-4), name


def test_real_per_class_is_a_seeded_choice(lab: Lab) -> None:
    (unit,) = plan(CLASSES, IPC, BatchSize(slots="all"), 1000)
    chosen = method("sre2l", terms=Terms(dire=DiRe(real_per_class=3)))
    images = lab.start(chosen, unit)
    values = lab.values(chosen, unit, images)
    assert values == lab.values(chosen, unit, images)
    everything = [method("sre2l", terms=Terms(dire=DiRe(real_per_class=n))) for n in ("all", 12, 100)]
    full = [lab.values(m, unit, images)["edm"] for m in everything]
    assert full[0] == full[1] == full[2] != values["edm"]


# -- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_gradient_of_a_unit_is_that_of_one_batch_at_a_time(lab: Lab, name: str) -> None:
    chosen = METHODS[name]()
    alone, together = lab.gradients(chosen, 1), lab.gradients(chosen, 1000)
    assert len(plan(CLASSES, IPC, chosen.batch, 1)) >= CLASSES
    assert len(plan(CLASSES, IPC, chosen.batch, 1000)) == 1
    for row, grad in alone.items():
        # the same sums in float32, in another order
        assert float((together[row] - grad).abs().max()) <= 1e-4 * float(grad.abs().max()), row
    mixed = lab.gradients(chosen.model_copy(update={"batch": BatchSize(classes="all", slots="all")}), 1000)
    assert any(
        float((mixed[row] - grad).abs().max()) > 0.01 * float(grad.abs().max()) for row, grad in alone.items()
    )


@pytest.mark.parametrize("name", METHODS)
def test_initial_images_and_draws_do_not_depend_on_the_unit_size(lab: Lab, name: str) -> None:
    chosen = METHODS[name]()
    augment = chosen.augment.model_copy(update={"scale": (0.2, 1.0), "flip": 0.5})
    seen: list[dict[object, Tensor]] = []
    for size in (1, 12, 1000):
        found: dict[object, Tensor] = {}
        for unit in plan(CLASSES, IPC, chosen.batch, size):
            found.update(dict(zip(unit.rows, lab.start(chosen, unit), strict=True)))
            parameters = draws(augment, unit, 7, size=(8, 8), seed=SEED)
            assert parameters is not None
            found.update(dict(zip(unit.batches, parameters.unbind(1), strict=True)))
        seen.append(found)
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        assert all(torch.equal(other[key], value) for key, value in seen[0].items())
    noise = torch.stack([value for key, value in seen[0].items() if isinstance(key, tuple)])
    assert len(noise.flatten(1).unique(dim=0)) == CLASSES * IPC


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_final_images_do_not_depend_on_the_unit_size(lab: Lab, name: str) -> None:
    chosen = METHODS[name]().model_copy(update={"steps": 8, "lr": 0.02})
    alone, together = (lab.optimized(chosen, Recover(unit_images=size)) for size in (1, 1000))
    difference = torch.stack([(together[row] - image).abs() for row, image in alone.items()])
    moved = torch.stack(
        [
            image - lab.start(chosen, unit)[i]
            for unit in plan(CLASSES, IPC, chosen.batch, 1)
            for i, row in enumerate(unit.rows)
            for image in (alone[row],)
        ]
    ).abs()
    # Adam divides by the gradient's size, so where that is near zero its rounding error moves the image up to
    # lr.
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


# -- the registry ----------------------------------------------------------------------------------


def test_every_value_of_every_method_has_a_label(lab: Lab) -> None:
    labels = term_labels()
    for name in METHODS:
        chosen = METHODS[name]()
        (unit,) = plan(CLASSES, IPC, chosen.batch, 1000)
        assert labels.keys() >= lab.values(chosen, unit, lab.start(chosen, unit)).keys(), name
    assert labels["conv"] == "convolution statistics"
    assert labels["nuc"] == "diversity of the spectrum"


def test_terms_are_added_up_in_one_order_however_they_are_written() -> None:
    names = ["dire", "gaussian", "ce"]
    assert list(Terms(**{name: {} for name in names})) == list(
        Terms(**{name: {} for name in reversed(names)})
    )
    assert list(Terms(**{name: {} for name in names})) == ["ce", "gaussian", "dire"]
    assert Terms() == Terms(ce=CrossEntropy(), bn=None)
    assert list(Terms.none()) == list(Terms(ce=None)) == []


class Brightness(Config):
    """Squared distance of each image's mean from a value."""

    weight: float = 1.0
    level: float = 0.0


class BrightnessTerm(Term[Brightness, None]):
    """A term of a user's own."""

    configuration = Brightness
    labels: ClassVar = {"brightness": "brightness of the images"}

    def targets(self, unit: Unit) -> None:
        return None

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        return {
            "brightness": self.config.weight * (images.mean((1, 2, 3)) - self.config.level).square().sum()
        }


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The term above, until the test ends."""
    TERMS.in_order()
    monkeypatch.setattr(TERMS, "_things", dict(TERMS._things))
    fastdd.register_term("brightness", BrightnessTerm)


@pytest.mark.usefixtures("registered")
def test_a_term_of_ones_own_is_a_key_of_recipes_and_is_optimized(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("arms: {a: {method: sre2l, terms: {brightness: {weight: 2}}}}")
    recipe = fastdd.resolve(str(file), ["brightness.level=0.5"])
    assert recipe.arms["a"].terms["brightness"] == Brightness(weight=2, level=0.5)
    assert as_plain(recipe)["arms"]["a"]["terms"]["brightness"] == {"weight": 2, "level": 0.5}
    assert "brightness" not in as_plain(fastdd.resolve("digits"))["arms"]["deda"]["terms"]
    assert list(recipe.arms["a"].terms) == ["ce", "bn", "brightness"]
    assert term_labels()["brightness"] == "brightness of the images"
    chosen = method("sre2l", terms=Terms(ce=None, brightness=Brightness(level=0.5)), steps=20, lr=0.1)
    (unit,) = plan(CLASSES, IPC, BatchSize(slots="all"), 1000)
    _, losses = lab.optimize(chosen, Recover(), unit)
    assert losses[-1]["brightness"] < 0.1 * losses[0]["brightness"]
    with pytest.raises(
        InputError, match=r"unknown key .*brightnes\.level.*did you mean '.*brightness\.level'"
    ):
        fastdd.resolve(str(file), ["method.terms.brightnes.level=1"])


class Unfinished(Term[Brightness, None]):
    configuration = Brightness
    labels: ClassVar = {"x": "x"}

    def __call__(self, features: Features, images: Tensor, targets: None) -> Values:
        return {}


class Unconfigured(BrightnessTerm):
    configuration = dict  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "term", "expected"),
    [
        ("own", Unfinished, r"term 'own': the class Unfinished has no `targets`"),
        (
            "own",
            Unconfigured,
            r"Unconfigured\.configuration must be a class derived from fastdd\.config\.Config",
        ),
        ("own", object(), r"term 'own' must be a class derived from fastdd\.recover\.Term"),
        ("bn", BrightnessTerm, r"there is a term 'bn' already"),
        ("my-own", BrightnessTerm, r"'my-own' cannot name a term"),
    ],
)
def test_a_class_that_is_no_term_is_refused_when_it_is_registered(
    name: str, term: type[AnyTerm], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        fastdd.register_term(name, term)
    assert "own" not in TERMS


def test_a_bank_without_embeddings_is_refused_before_any_work(lab: Lab) -> None:
    needed = needs(Terms(dire=DiRe()), lab.teacher.network)
    with pytest.raises(InputError, match=r"bank\.embeddings is 0; set it to all"):
        needed.of_bank(BankConfig(embeddings=0))
    needed = needs(Terms(bn=BatchNorm(target="class")), lab.teacher.network)
    assert needed.of_bank(BankConfig()).class_bn == "true"


def test_lplds_class_statistics_are_those_of_the_bank_that_their_kind_needs(lab: Lab) -> None:
    def needed(*targets: str) -> Needs:
        terms = [Terms(bn=BatchNorm(target=target)) for target in targets]  # type: ignore[arg-type]
        return Needs.together(needs(each, lab.teacher.network) for each in terms)

    assert needed("global").of_bank(BankConfig()).class_bn == "none"
    assert needed("class", "global").of_bank(BankConfig()).class_bn == "true"
    assert needed("class_running").of_bank(BankConfig(class_bn="running")).class_bn == "running"
    assert needed("class_running").of_bank(BankConfig()).class_bn == "running"
    assert needed("global").of_bank(BankConfig(class_bn="running")).class_bn == "running"
    with pytest.raises(
        InputError, match=r"terms\.bn\.target is class in one arm and class_running in another"
    ):
        needed("class", "class_running")
    expected = r"bank\.class_bn is running, but the arms' terms\.bn\.target takes true; .* to class_running"
    with pytest.raises(InputError, match=expected):
        needed("class").of_bank(BankConfig(class_bn="running"))
