"""Matching of gradients and kernels, training of the step's network, and terms through that network."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from galleries import gallery, random_teacher
from tiny_recovery import Silent
from torch import Tensor

from fastdd.config import BatchSize, Match, Method, Recover, Siamese, Terms
from fastdd.errors import InputError
from fastdd.models.pooling import PairwisePool
from fastdd.recover import RealImages, Signal, Unit, match_signal, plan
from fastdd.recover.checkpoint import Checkpoint
from fastdd.recover.loop import Losses, optimize
from fastdd.recover.matching.added import NetworkDiRe, Shared
from fastdd.recover.matching.features import FeatureSignal
from fastdd.recover.matching.gradients import GradientSignal
from fastdd.recover.matching.inner import StepNetwork
from fastdd.recover.matching.kernel import KernelSignal
from fastdd.recover.matching.networks import RandomNetworks, Recorded
from fastdd.recover.plan import UnitError
from fastdd.recover.steps import Round
from fastdd.recover.terms.dire import DiRe
from fastdd.recover.variables import Pixels
from fastdd_kernels import dire_terms, gradient_distance, siamese_augment

COUNTS, IPC, SEED = (9, 12, 7, 10), 3, 5
CPU = torch.device("cpu")
CONFIG = Recover(precision="fp32", checkpoint_every=1)
INNER = {"epochs": 2, "batch": 5, "momentum": 0.9, "weight_decay": 1e-3}
OPEN = (torch.tensor(-9.0), torch.tensor(9.0))


@pytest.fixture(scope="module")
def real() -> RealImages:
    teacher = random_teacher("resnet8", ("ant", "bee", "cow", "doe"))
    return RealImages.of(*gallery(COUNTS), teacher, SEED)


def match(**sections: Any) -> Match:
    sections["networks"] = {"network": "convnet1", **sections.get("networks", {})}
    return Match.model_validate(sections)


def method(how: Match, *, classes: Any = "all", **changes: Any) -> Method:
    settings: dict[str, Any] = {"init": "real", "terms": Terms(ce=None), "optimizer": "sgd", "lr": 0.1}
    settings |= {"batch": BatchSize(classes=classes, slots="all"), "schedule": "constant", "steps": 5}
    return Method.model_validate(settings | {"match": how} | changes)


def initial(real: RealImages, unit: Unit) -> Tensor:
    first = torch.tensor(real.counts).cumsum(0) - torch.tensor(real.counts)
    return real.take(torch.tensor([int(first[c]) + slot for c, slot in unit.rows]))


def signal_of(how: Match, real: RealImages) -> Signal:
    return match_signal(how, CONFIG, real, device=CPU)


def recovered(
    how: Method, real: RealImages, unit: Unit, *, checkpoint: Checkpoint | None = None, bar: Any = None
) -> tuple[Tensor, Losses]:
    assert how.match is not None
    signal = signal_of(how.match, real)
    images, bar = initial(real, unit), bar or Silent()
    bounds = real.teacher.bounds(CPU)
    return optimize(
        images, unit, how, config=CONFIG, bounds=bounds, signal=signal, bar=bar, checkpoint=checkpoint
    )


def first_step(signal: Signal, images: Tensor, unit: Unit, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of a step, and its values."""
    variable = Pixels(images.clone(), OPEN, clip=False)
    signal.start(unit, 9)
    values = signal(variable, Round(range(9), unit, None), step)
    assert variable.free.grad is not None
    return variable.free.grad, values


class KilledError(Exception):
    """What stands for a kill."""


class KillsAfter:
    """A bar that ends the work after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, images: int, note: str = "") -> None:
        if images and not self.left:
            raise KilledError
        self.left -= bool(images)


def test_the_gradient_of_all_classes_at_once_in_float64_is_that_of_class_after_class(
    real: RealImages,
) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    how = match(gradients={"metric": "rows"})
    signal, images = signal_of(how, real), initial(real, unit)
    found, values = first_step(signal, images, unit)

    assert isinstance(signal, GradientSignal)
    network = copy.deepcopy(signal.networks.network).double()
    weights = list(network.parameters())
    exact = images.double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for c in range(4):
        drawn, sides = real.siamese(how.siamese, c, 0), []
        for x in (exact[c * IPC : (c + 1) * IPC], real.drawn(c, 256, 0).double()):
            loss = F.cross_entropy(network(siamese_augment(x, drawn)), torch.full((len(x),), c))
            sides.append(torch.autograd.grad(loss, weights, create_graph=True))
        total = total + gradient_distance(*sides, metric="rows")
    (expected,) = torch.autograd.grad(total, exact)
    assert float(values["gradients"]) == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"metric": "rows"}, {"conv", "linear"}),
        ({"metric": "mse"}, {"conv", "linear", "vectors"}),
        ({"metric": "cosine", "matrices_only": True}, {"conv", "linear"}),
        ({"metric": "mse", "convolutions_only": True}, {"conv"}),
    ],
)
def test_which_weights_are_compared(real: RealImages, config: dict[str, Any], kinds: set[str]) -> None:
    signal = signal_of(match(gradients=config), real)
    assert isinstance(signal, GradientSignal)
    names = {1: "vectors", 2: "linear", 4: "conv"}
    assert {names[weight.ndim] for weight in signal.weights} == kinds


def test_the_real_gradient_in_chunks_is_that_of_the_mean(
    real: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    images, how = initial(real, unit), match(gradients={"metric": "mse"})
    whole, _ = first_step(signal_of(how, real), images, unit)
    monkeypatch.setattr("fastdd.recover.matching.gradients.CHUNK", {"cpu": 4})
    parts, _ = first_step(signal_of(how, real), images, unit)
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-5 * float(whole.abs().max()))


def test_memory_of_a_step_does_not_grow_with_the_classes(real: RealImages) -> None:
    def peak(classes: int) -> int:
        (unit,) = plan(classes, IPC, BatchSize(classes="all", slots="all"), 100)
        live, most = 0, 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal live, most
                self.tensor, size = tensor, tensor.nbytes
                live += size
                most = max(most, live)
                weakref.finalize(self, freed, size)

        def freed(size: int) -> None:
            nonlocal live
            live -= size

        signal, images = signal_of(match(gradients={}, networks={"real": 7}), real), initial(real, unit)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            first_step(signal, images, unit)
        return most

    assert peak(4) <= 1.1 * peak(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        match(gradients={}),
        match(gradients={"synthetic": 2}),
        match(gradients={}, networks={"steps": 3, "inner": {"on": "real", "images": 20, **INNER}}),
        match(features={}, networks={"steps": 3, "inner": {"on": "real", "mix": "cutmix", **INNER}}),
        match(gradients={}, networks={"network": "convnet1_bn", "steps": 2}),
    ],
)
def test_units_of_any_size_give_the_same_images(real: RealImages, how: Match) -> None:
    sets = []
    for size in (1, 2 * IPC, 100):
        images = {}
        for unit in plan(4, IPC, BatchSize(classes=1, slots="all"), size):
            images |= dict(zip(unit.rows, recovered(method(how, classes=1), real, unit)[0], strict=True))
        sets.append(torch.stack([images[row] for row in sorted(images)]))
    for other in sets[:-1]:
        torch.testing.assert_close(other, sets[-1], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        match(gradients={}, networks={"steps": 3, "inner": INNER}),
        match(gradients={}, networks={"network": "convnet1_bn", "steps": 3, "inner": INNER}),
        match(features={"discriminate": 0.01}, networks={"steps": 4, "inner": {"epochs": 2}}),
        match(features={"discriminate": 0.01}, networks={"steps": 2}),
        match(kernel={"target": 8}),
    ],
)
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_killed_unit_continues_with_the_same_bytes(
    real: RealImages, how: Match, steps: int, tmp_path: Path
) -> None:
    assert how.coupled
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 1)
    whole, losses = recovered(method(how), real, unit)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "owner")
    with pytest.raises(KilledError):
        recovered(method(how), real, unit, checkpoint=checkpoint, bar=KillsAfter(steps))
    again, same = recovered(method(how), real, unit, checkpoint=checkpoint)
    assert torch.equal(again, whole)
    assert same == losses


def test_a_network_trains_between_steps_and_is_new_after_them(real: RealImages) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    how = match(
        gradients={}, networks={"steps": 3, "inner": {"epochs": 40, "lr": 0.05}}, siamese={"operations": ()}
    )
    signal = signal_of(how, real)
    assert isinstance(signal, GradientSignal)
    images = initial(real, unit)
    variable, labels = Pixels(images, OPEN), torch.tensor([c for c, _ in unit.rows])
    signal.start(unit, 9)
    losses, drawn = [], []
    for step in range(4):
        drawn.append(signal.network.advance(step, variable))
        with torch.no_grad():
            losses.append(float(F.cross_entropy(signal.networks(images).logits, labels)))
    assert losses[0] > 1.5 * losses[1] > 1.5 * losses[2]
    assert losses[3] > 1.5 * losses[2]
    assert drawn == [0, 1, 2, 3]


def test_a_network_without_training_keeps_its_draws_as_long_as_it_serves(real: RealImages) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    signal = signal_of(match(gradients={}, networks={"steps": 3}), real)
    images = initial(real, unit)
    signal.start(unit, 9)
    gradients = []
    for step in (0, 1, 2, 3):
        variable = Pixels(images.clone(), OPEN)
        signal(variable, Round(range(9), unit, None), step)
        assert variable.free.grad is not None
        gradients.append(variable.free.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    assert not torch.allclose(gradients[0], gradients[3])


def test_a_class_smaller_than_the_real_batch_takes_part_with_all_its_images(real: RealImages) -> None:
    for c, count in enumerate(COUNTS):
        assert len(real.rows(c, 256, 0).unique()) == count
        assert real.labels(real.rows(c, 256, 0)).tolist() == [c] * count
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    images, (log, *_) = recovered(method(match(gradients={}), steps=1), real, unit)
    assert images.isfinite().all()
    assert log["gradients"] > 0


def test_a_value_that_is_not_finite_names_step_and_unit(real: RealImages) -> None:
    units = plan(4, IPC, BatchSize(classes=1, slots="all"), 1)
    broken = method(match(gradients={}), classes=1, lr=1e30, clip=False)
    with pytest.raises(UnitError, match=r"'gradients' is nan at step \d of unit 2"):
        recovered(broken, real, units[2])


def test_a_network_without_convolutions_cannot_match_theirs(real: RealImages) -> None:
    how = match(gradients={"convolutions_only": True}, networks={"network": "test_gradient_matching:flat"})
    with pytest.raises(InputError, match="convolutions_only"):
        signal_of(how, real)


def flat(num_classes: int, channels: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * 64, num_classes))


# -- golden values (float64) ----------------------------------------------------------------------


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).view(shape)


class FixedImages:
    """Stands for real images: two of each of ten classes, which say their number."""

    classes, seed = 10, 0

    def drawn(self, c: int, count: int, number: int) -> Tensor:
        return torch.tensor([2.0 * c, 2.0 * c + 1], dtype=torch.float64).view(2, 1, 1, 1)

    def siamese(self, config: Siamese, c: int, number: int) -> Tensor:
        return torch.empty(0, 13)


class FixedNetworks:
    """Stands for networks: the features of an image are those of its number, synthetic ones from 100 on."""

    device, normalizes, network = CPU, False, torch.nn.Linear(1, 1)

    def __init__(self) -> None:
        shapes = [(4, 4, 4)] * 3 + [(4, 2, 2), (16,)]
        self.real = [wave(20, *s, a=a) for s, a in zip(shapes, (0.47, 0.43, 0.41, 0.37, 0.31), strict=True)]
        self.mine = [wave(10, *s, a=a) for s, a in zip(shapes, (0.71, 0.67, 0.61, 0.59, 0.53), strict=True)]

    def draw(self, number: int) -> None:
        pass

    def __call__(self, images: Tensor) -> Recorded:
        numbers = images.detach().flatten().long()
        side = self.mine if int(numbers[0]) >= 100 else self.real
        *maps, last = (layer[numbers % 100] for layer in side)
        return Recorded(last, last + 0 * images.flatten(1), maps)


def test_cafe_has_the_values_of_its_released_code() -> None:
    features = {"layers": "all", "weights": (0.1, 0.1, 1, 1, 1), "discriminate": 0.01}
    how = match(features=features, siamese={"operations": ()})
    fixed = cast("Any", FixedImages())
    network = StepNetwork(how, real=fixed, networks=cast("Any", FixedNetworks()), precision="fp32")
    assert how.features is not None
    signal = FeatureSignal(how.features, how, real=fixed, network=network)
    (unit,) = plan(10, 1, BatchSize(classes="all", slots="all"), 100)
    _, values = first_step(signal, 100 + torch.arange(10.0).double().view(10, 1, 1, 1), unit)
    assert float(values["features"]) == pytest.approx(790.9676707 + 131.5311736, abs=1e-6)
    assert float(values["discrimination"]) == pytest.approx(0.01 * 103.7808249, abs=1e-8)


class FixedTargets(FixedImages):
    """Stands for real images of two classes: the targets of the golden case."""

    classes, images = 2, torch.empty(0)

    def rows(self, c: int, count: int, number: int) -> Tensor:
        return torch.arange(3 * c, 3 * c + 3)

    def take(self, rows: Tensor) -> Tensor:
        return wave(6, 1, 1, 5, a=1.3, b=0.2)

    def labels(self, rows: Tensor) -> Tensor:
        return torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("kernel", "loss", "slope"),
    [
        ({}, 0.2807815, (0.0515185, -0.0497990, -0.0253663, 0.0090707, -0.0563380)),
        ({"ridge": 1e-2}, 0.2759105, None),
        ({"depth": 3}, 0.1904491, None),
    ],
)
def test_kip_has_the_values_of_its_definition(
    kernel: dict[str, Any], loss: float, slope: tuple[float, ...] | None
) -> None:
    how = match(kernel={"target": 6, **kernel})
    assert how.kernel is not None
    signal = KernelSignal(how.kernel, real=cast("Any", FixedTargets()))
    (unit,) = plan(2, 2, BatchSize(classes="all", slots="all"), 100)
    gradient, values = first_step(signal, wave(4, 1, 1, 5, a=0.9), unit)
    assert float(values["kernel"]) == pytest.approx(loss, abs=1e-7)
    if slope is not None:
        torch.testing.assert_close(gradient[0].flatten(), torch.tensor(slope).double(), rtol=0, atol=1e-7)


def test_kernel_regression_learns_to_tell_the_classes_apart(real: RealImages) -> None:
    how = method(match(kernel={"target": 28}), optimizer="adam", lr=0.04, betas=(0.9, 0.999), steps=30)
    (unit,) = plan(4, 1, BatchSize(classes="all", slots="all"), 100)
    _, losses = recovered(how, real, unit)
    assert losses[-1]["kernel"] < 0.7 * losses[0]["kernel"]


# -- DiRe through the step's network ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["features", "gradients"])
def test_dire_through_the_network_sees_the_real_images_of_the_step(real: RealImages, kind: str) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    images = initial(real, unit)
    how = match(**{kind: {}}, added={"through": "network"})
    main, config = cast("GradientSignal", signal_of(how, real)), DiRe(real_per_class=5)
    alone, _ = first_step(signal_of(how, real), images, unit)
    together, values = first_step(Shared(main, NetworkDiRe(config, main), None), images, unit)

    mine = images.clone().requires_grad_()
    total = torch.zeros(())
    for c in range(4):
        drawn = real.siamese(how.siamese, c, 0)
        x, y = (
            main.networks(siamese_augment(side, drawn)).embedding
            for side in (mine[c * IPC : (c + 1) * IPC], real.drawn(c, 5, 0))
        )
        cd, cdm, edm = dire_terms(x[None], y[None])
        total = total + config.r_cd * (cd + cdm).sum() + config.r_edm * edm.sum()
    (expected,) = torch.autograd.grad(total, mine)
    torch.testing.assert_close(together - alone, expected, rtol=1e-3, atol=1e-5 * float(alone.abs().max()))
    assert float(values["cd"] + values["cdm"] + values["edm"]) == pytest.approx(total.item(), rel=1e-5)


def test_a_share_scales_dire_through_the_network_and_is_told(real: RealImages) -> None:
    (unit,) = plan(4, IPC, BatchSize(classes="all", slots="all"), 100)
    images = initial(real, unit)
    how = match(features={}, added={"through": "network"})
    alone, _ = first_step(signal_of(how, real), images, unit)
    main = cast("FeatureSignal", signal_of(how, real))
    shared = Shared(main, NetworkDiRe(DiRe(), main), 0.1)
    together, _ = first_step(shared, images, unit)
    assert float((together - alone).norm() / alone.norm()) == pytest.approx(0.1, rel=1e-4)
    assert shared.learned()["weight of the added terms"] > 0
    assert shared.learned()["share of the matching's gradient"] == 0.1


# -- pooling of the matching networks --------------------------------------------------------------------


def test_features_without_a_graph_are_those_with_one_though_their_layout_is_another() -> None:
    networks = RandomNetworks("convnet3", 4, (3, 32, 32), device=CPU, seed=SEED)
    images = torch.randn(3, 3, 32, 32)
    layouts: list[bool] = []
    networks.network.get_submodule("features.1").register_forward_hook(
        lambda module, inputs, output: layouts.append(output.is_contiguous())
    )
    with_graph = networks(images.clone().requires_grad_()).embedding
    with torch.no_grad():
        without = networks(images).embedding
    assert layouts == [True, False]
    torch.testing.assert_close(without, with_graph.detach(), rtol=1e-4, atol=1e-4)


def test_a_matching_network_has_the_features_and_gradients_of_the_plain_one() -> None:
    networks = RandomNetworks("convnet2", 4, (3, 16, 16), device=CPU, seed=SEED)
    pools = [m for m in networks.network.modules() if isinstance(m, (PairwisePool, torch.nn.AvgPool2d))]
    assert [type(m) for m in pools] == [PairwisePool] * 2
    plain, images = networks._drawn(0).double(), torch.randn(5, 3, 16, 16, dtype=torch.float64)
    networks.network.double()
    slopes = []
    for forward in (networks.network, plain):
        leaf = images.clone().requires_grad_()
        slopes.append(torch.autograd.grad(forward(leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-9, atol=1e-9)
