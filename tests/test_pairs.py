"""Pairs: images against what they started from, forward passes that end early, and cutout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, Silent, make_lab
from torch import Tensor, fx, nn

from fastdd.config import Augment, BatchSize, EarlyLate, Formation, Method, Recover, Residual, Terms
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.recover import needs, plan, tapped
from fastdd.recover.objective import augmented, draws
from fastdd.recover.stages import resized
from fastdd.recover.terms.cross_entropy import CrossEntropy
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.recover.terms.pairs import Distance, Pairs, pair_distances
from fastdd.recover.variables import variable_of
from fastdd.teachers import Taps, single_layers

pytestmark = pytest.mark.usefixtures("one_thread")
CELLS = Formation(kind="cells")
AUGMENT = Augment(flip=0.5, pad=1, cutout=0.5, roll=(0, 0))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


def paired(*, ce: CrossEntropy | None = None, pairs: Pairs | None = None, **changes: Any) -> Method:
    values = {
        "init": "real",
        "batch": BatchSize(classes=1, slots="all"),
        "augment": AUGMENT,
        "terms": Terms(ce=ce, pairs=pairs or Pairs()),
        "formation": CELLS,
        "steps": 3,
        "lr": 0.02,
    }
    return Method.model_validate(values | changes)


def wave(*shape: int, a: float, b: float = 0.0) -> Tensor:
    """sin(a i + b), i the place of each number, float64."""
    return torch.sin(a * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + b).view(shape)


# -- the distance ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "wanted", "first", "last"),
    [
        ("l1", 2.3975058, 0.25, -0.25),
        ("l2", 3.1589815, 0.1477601, -0.0035331),
        ("cosine", 3.2668854, None, None),
    ],
)
def test_distances_have_the_golden_values(
    distance: Distance, wanted: float, first: float | None, last: float | None
) -> None:
    real, images = wave(3, 4, a=0.9), wave(3, 4, a=0.5, b=0.3).requires_grad_()
    value = pair_distances(real, images, distance).sum()
    assert float(value.detach()) == pytest.approx(wanted, abs=5e-8)
    (gradient,) = torch.autograd.grad(value, images)
    if first is not None:
        assert [float(gradient[0, 0]), float(gradient[2, 3])] == pytest.approx([first, last], abs=5e-8)
    single = pair_distances(real.float(), images.detach().float(), distance)
    torch.testing.assert_close(single.double(), pair_distances(real, images.detach(), distance))


def test_maps_and_their_means_have_the_golden_values() -> None:
    a, b = wave(2, 3, 2, 2, a=0.7), wave(2, 3, 2, 2, a=1.3, b=0.4)
    whole = pair_distances(a.flatten(1), b.flatten(1), "l1").sum()
    means = pair_distances(a.mean((2, 3)), b.mean((2, 3)), "l1").sum()
    assert [float(whole), float(means)] == pytest.approx([1.5580532, 0.6645396], abs=5e-8)


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
def test_equal_rows_have_no_distance_and_a_finite_gradient(distance: Distance) -> None:
    rows = torch.cat([wave(3, 4, a=0.9), torch.zeros(1, 4).double()])
    images = rows.clone().requires_grad_()
    value = pair_distances(rows, images, distance)
    assert float(value[:3].detach().abs().max()) < 2e-6
    (gradient,) = torch.autograd.grad(value.sum(), images)
    assert gradient.isfinite().all()
    assert float(gradient.abs().max()) < 2e-6


# -- the term ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
@pytest.mark.parametrize(
    ("layer", "of"), [("embedding", "map"), ("stages.1", "map"), ("blocks.0", "mean"), ("blocks.2", "map")]
)
def test_the_term_is_that_of_float64(lab: Lab, layer: str, of: Any, distance: Distance) -> None:
    how = Pairs(weight=0.7, layer=layer, of=of, distance=distance)
    method = paired(pairs=how)
    unit = plan(CLASSES, 4, method.batch, 8)[0]
    start = lab.start(method, unit)
    variable = variable_of(start, unit, method, lab.teacher.bounds(start.device))
    shown = variable.images().detach().requires_grad_()
    value = lab.values(method, unit, shown)["pairs"]
    (gradient,) = torch.autograd.grad(value, shown)

    network, seen = lab.double(), list[Tensor]()
    path = single_layers(network).get(layer, "")
    if path:
        network.get_submodule(path).register_forward_hook(lambda module, inputs, output: seen.append(output))
    else:
        (head,) = [module for module in network.modules() if isinstance(module, nn.Linear)]
        head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    drawn = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    exact = shown.detach().double().requires_grad_()
    for images in (start.double(), exact):
        network(augmented(images, drawn[0], method.augment))
    rows = [each.mean((2, 3)) if of == "mean" and path else each.flatten(1) for each in seen]
    wanted = 0.7 * pair_distances(rows[0], rows[1], distance).sum()
    assert float(value.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    (gradient_wanted,) = torch.autograd.grad(wanted, exact)
    error = (gradient.double() - gradient_wanted).norm() / gradient_wanted.norm()
    assert error < (
        0.05 if distance == "l1" else 1e-3
    )  # float32 may take the other sign of a difference near 0


def test_without_a_formation_images_start_at_no_distance(lab: Lab) -> None:
    method = paired(ce=CrossEntropy(), formation=None)
    for unit in plan(CLASSES, IPC, method.batch, 12):
        start = lab.start(method, unit)
        assert float(lab.values(method, unit, start)["pairs"]) == 0
        other = start.flip(0)
        (objective,) = lab.recovery(method).objective(unit.shape)
        drawn = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        assert drawn is not None
        assert float(objective(other, drawn[0], objective.targets(unit), start)["pairs"]) > 0.1


def test_anchors_have_no_gradient(lab: Lab) -> None:
    method = paired()
    unit = plan(CLASSES, 4, method.batch, 8)[0]
    start = lab.start(method, unit)
    anchors, images = start.clone().requires_grad_(), (0.9 * start).requires_grad_()
    (objective,) = lab.recovery(method).objective(unit.shape)
    assert objective.paired
    drawn = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    objective(images, drawn[0], objective.targets(unit), anchors)["pairs"].backward()
    assert anchors.grad is None
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0


def losses_of(lab: Lab, method: Method, steps: int) -> list[float]:
    (unit,) = plan(CLASSES, 4, method.batch, 100)
    _, losses = lab.optimize(method.model_copy(update={"steps": steps}), Recover(log_every=1), unit)
    return [each["pairs"] for each in losses]


@pytest.mark.parametrize("formation", [CELLS, Formation(), Formation(kind="zoom")])
@pytest.mark.parametrize("layer", ["embedding", "blocks.1"])
def test_steps_bring_images_nearer_to_their_anchors(lab: Lab, formation: Formation, layer: str) -> None:
    still = Augment(roll=(0, 0))
    losses = losses_of(lab, paired(pairs=Pairs(layer=layer), formation=formation, augment=still), 30)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "method",
    [paired(pairs=Pairs(layer="stages.1")), paired(pairs=Pairs(distance="l2"), formation=Formation())],
)
def test_units_cut_anyhow_give_the_same_images(lab: Lab, method: Method) -> None:
    found = []
    for together in (4, 8, 100):
        stored = {}
        for unit in plan(CLASSES, 4, method.batch, together):
            images, _ = lab.optimize(method, Recover(log_every=1), unit)
            stored |= dict(zip(unit.groups, images.chunk(len(unit.groups)), strict=True))
        found.append(torch.stack([stored[c] for c in range(CLASSES)]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("layer", ["embedding", "stages.1"])
def test_stages_of_another_size_compare_with_anchors_of_that_size(lab: Lab, layer: str) -> None:
    """Images of the first stage are their anchors made smaller; those of the second were small before."""
    method = paired(
        ce=CrossEntropy(weight=0.0),
        pairs=Pairs(layer=layer),
        formation=None,
        sizes=(4, 8),
        lr=1e-9,
        augment=Augment(roll=(0, 0)),
    )
    small, _, large, _ = losses_of(lab, method, 4)
    assert small == 0
    (unit,) = plan(CLASSES, 4, method.batch, 100)
    start, features = lab.start(method, unit), []
    for images in (start, resized(resized(start, (4, 4)), (8, 8))):
        seen = lab.taps(method.terms)(images)
        features.append(seen.embedding if layer == "embedding" else seen.maps[layer].flatten(1))
    a_batch = float(pair_distances(*features, "l1").sum()) / len(unit.batches)
    assert large == pytest.approx(a_batch, rel=1e-4)
    assert large > 0.1


@pytest.mark.parametrize("residual", [None, Residual(stages=2)])
def test_units_cut_anyhow_give_the_same_images_with_sizes(lab: Lab, residual: Residual | None) -> None:
    method = paired(ce=CrossEntropy(), formation=None, sizes=(4, 8), residual=residual, steps=4)
    found = []
    for together in (4, 100):
        stored = {}
        for unit in plan(CLASSES, 4, method.batch, together):
            images, _ = lab.optimize(method, Recover(log_every=1), unit)
            stored |= dict(zip(unit.groups, images.chunk(len(unit.groups)), strict=True))
        found.append(torch.stack([stored[c] for c in range(CLASSES)]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-4)


def test_images_that_join_later_have_their_own_anchors(lab: Lab) -> None:
    method = paired(
        ce=CrossEntropy(weight=0.0),
        formation=None,
        early_late=EarlyLate(rounds=2),
        steps=4,
        augment=Augment(),
    )
    (unit,) = plan(CLASSES, IPC, method.batch, 100)
    _, losses = lab.optimize(method, Recover(log_every=1), unit)
    assert [each["pairs"] for each in losses] == [0.0] * 4


def test_without_steps_the_chosen_images_are_kept(lab: Lab) -> None:
    method = paired(steps=0)
    unit = plan(CLASSES, 4, method.batch, 100)[0]
    images, losses = lab.recovery(method).optimize(unit, Silent())  # type: ignore[arg-type]
    variable = variable_of(lab.start(method, unit), unit, method, lab.teacher.bounds(torch.device("cpu")))
    torch.testing.assert_close(images, lab.teacher.denormalize(variable.result()))
    assert losses == []


# -- the end of the forward pass ---------------------------------------------------------------------


class Counted:
    """Counts the modules without children that a network calls."""

    def __init__(self, network: nn.Module) -> None:
        self.paths: list[str] = []
        for path, module in network.named_modules():
            if not list(module.children()):
                module.register_forward_hook(lambda _, inputs, output, path=path: self.paths.append(path))


NETWORKS = [
    ("resnet18", "stages.1", 64, "layer2"),
    ("resnet50", "blocks.3", 64, "layer2.0"),
    ("resnet20", "blocks.4", 32, "layer2.1"),
    ("resnet18_small", "stages.2", 32, "layer3"),
    ("convnet3", "blocks.1", 32, "features.7"),
    ("wrn_16_2", "blocks.2", 32, "block2.layer.0"),
    ("mobilenet_v2", "blocks.2", 64, "features.3"),
    ("densenet121", "blocks.1", 64, "features.denseblock2"),
]


@pytest.mark.parametrize(("name", "layer", "side", "path"), NETWORKS)
def test_the_forward_pass_ends_at_the_layer(name: str, layer: str, side: int, path: str) -> None:
    torch.manual_seed(0)
    network, images = build(name, 7).eval(), torch.randn(2, 3, side, side)
    assert single_layers(network)[layer] == path
    taps = tapped(Terms(ce=None, pairs=Pairs(layer=layer)), network)
    counted, seen = Counted(taps.network), list[Tensor]()
    network.get_submodule(path).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        features = taps(images)
        network(images)
    assert torch.equal(features.maps[layer], seen[0])
    assert features.logits.shape == features.embedding.shape == (2, 0)
    order = [each for each, module in taps.network.named_modules() if not list(module.children())]
    inside = [place for place, each in enumerate(order) if f"{each}.".startswith(f"{path}.")]
    assert counted.paths
    assert set(counted.paths) <= set(order[: inside[-1] + 1])  # nothing behind the layer is run
    mean = tapped(Terms(ce=None, pairs=Pairs(layer=layer, of="mean")), network)
    torch.testing.assert_close(mean(images).pooled[layer], seen[0].mean((2, 3)))
    assert mean.beginning is not None
    assert set(taps.state_dict()) >= set(network.state_dict().keys() & taps.state_dict().keys())


def test_it_ends_only_where_no_other_term_needs_more() -> None:
    network = build("resnet20", 4).eval()
    both = Terms(ce=CrossEntropy(), pairs=Pairs(layer="stages.1"))
    assert needs(both, network).end is None
    features = tapped(both, network)(torch.randn(2, 3, 32, 32))
    assert features.logits.shape == (2, 4)
    assert features.maps["stages.1"].shape == (2, 32, 16, 16)
    beside = Terms(ce=None, gaussian=Gaussian(layers="blocks"), pairs=Pairs(layer="blocks.3"))
    features = tapped(beside, network)(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(features.pooled["blocks.3"], features.maps["blocks.3"].mean((2, 3)))
    assert len(features.pooled) == 8
    assert needs(Terms(ce=None), network).end is None


class Branching(nn.Module):
    """A network that cannot be traced, since it looks at its images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(x) if float(x.sum()) < 1e9 else self.layer1(-x)
        return self.fc(self.layer2(x).mean((2, 3)))


class Twice(Branching):
    """A network that calls a stage twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(x) + self.layer1(x.flip(3))
        return self.fc(self.layer2(x).mean((2, 3)))


@pytest.mark.parametrize("make", [Branching, Twice])
def test_a_network_that_cannot_be_cut_is_computed_whole(make: Callable[[], nn.Module]) -> None:
    network, images = make().eval(), torch.randn(2, 3, 8, 8)
    taps = Taps(network, maps=["stages.0"], end="stages.0")
    assert taps.beginning is None
    features = taps(images)
    assert features.maps["stages.0"].shape == (2, 4, 6, 6)
    assert torch.equal(features.logits, network(images))


def test_a_compiled_step_ends_there_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[fx.GraphModule] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, **how: compile(step, backend=backend, **how))
    method, values = paired(pairs=Pairs(layer="stages.0")), list[list[Tensor]]()
    both = [lab.recovery(method, Recover(compile=compiled)) for compiled in (False, True)]
    for unit in plan(CLASSES, 4, method.batch, 8):
        start = lab.start(method, unit)
        drawn = draws(method.augment, unit, 1, size=SHAPE[1:], seed=SEED)
        assert drawn is not None
        for recovery in both:
            (objective,) = recovery.objective(unit.shape)
            images = (0.9 * start).requires_grad_()
            value = objective(images, drawn[0], objective.targets(unit), start)["pairs"]
            values.append([value.detach(), *torch.autograd.grad(value, images)])
    assert len(graphs) == 1
    convolutions = [node for node in graphs[0].graph.nodes if "conv2d" in str(node.target)]
    assert len(convolutions) == 2 * 3  # resnet8: the stem and the first block, for images and anchors
    for plain, once in zip(values[::2], values[1::2], strict=True):
        torch.testing.assert_close(once[0], plain[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(once[1], plain[1], rtol=1e-3, atol=1e-4 * float(plain[1].abs().max()))


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"init": "noise"},
            "terms.pairs compares images with the real ones that they start from, but init is noise",
        ),
        ({"formation": None}, "terms.pairs alone moves nothing, since images start as what it compares"),
        (
            {"terms": {"pairs": {"layer": "block.3"}}},
            "layer must be embedding, blocks.N or stages.N, got 'block.3'",
        ),
        ({"terms": {"pairs": {"distance": "L1"}}}, "Input should be 'l1', 'l2' or 'cosine'"),
        ({"augment": {"cutout": 1.0}}, "Input should be less than 1"),
    ],
)
def test_pairs_refuse_what_they_cannot_be_combined_with(changes: dict[str, Any], text: str) -> None:
    values = paired().model_dump(mode="json") | changes
    with pytest.raises(ValidationError) as raised:
        Method.model_validate(values)
    assert text in str(raised.value)


def test_decay_and_cutout_refuse_offsets_and_perturb() -> None:
    with pytest.raises(ValidationError, match="decay pulls images to their start, which an offset leaves"):
        Method.model_validate({"init": "real", "offset": {}, "decay": 0.1})
    with pytest.raises(ValidationError, match=r"climbs on images without cutout, got augment.cutout 0.5"):
        Method.model_validate({"perturb": {}, "augment": {"cutout": 0.5}})


def test_an_unknown_layer_is_named_with_those_that_are_there() -> None:
    with pytest.raises(InputError) as raised:
        needs(Terms(ce=None, pairs=Pairs(layer="stages.4")), build("resnet20", 4))
    assert str(raised.value).startswith(
        "terms.pairs.layer: CifarResNet has no layer 'stages.4' (did you mean"
    )
    assert "it has embedding, blocks.0 to blocks.8, stages.0 to stages.2" in str(raised.value)
    with pytest.raises(InputError, match=r"has no layer 'stages.0'.*it has embedding, blocks.0 to blocks.2"):
        needs(Terms(ce=None, pairs=Pairs(layer="stages.0")), build("convnet3", 4))


# -- cutout --------------------------------------------------------------------------------------------


def test_cutout_is_a_rectangle_of_zeros_around_any_pixel() -> None:
    augment = Augment(cutout=0.5, roll=(0, 0))
    unit = plan(4, 3, BatchSize(classes=1, slots="all"), 100)[0]
    drawn = draws(augment, unit, 400, size=(8, 7), seed=SEED)
    assert drawn is not None
    assert drawn.shape == (400, 4, 5)
    assert drawn[..., 3].unique().tolist() == list(range(-2, 7))  # 4 of 8 rows around 0 ... 8
    assert drawn[..., 4].unique().tolist() == list(range(-2, 6))  # 4 of 7 columns around 0 ... 7
    images = torch.rand(12, 3, 8, 7) + 1
    for step in range(20):
        found = augmented(images, drawn[step], augment)
        for part, whole, (*_, top, left) in zip(
            found.chunk(4), images.chunk(4), drawn[step].tolist(), strict=True
        ):
            wanted = whole.clone()
            wanted[:, :, max(0, top) : max(0, top + 4), max(0, left) : max(0, left + 4)] = 0
            assert torch.equal(part, wanted)


def test_cutout_leaves_the_draws_before_it_as_they_are() -> None:
    unit = plan(4, 3, BatchSize(classes=2, slots="all"), 100)[0]
    plain = Augment(scale=(0.2, 1.0), flip=0.5)
    both = [
        draws(each, unit, 1, size=(8, 8), seed=SEED)
        for each in (plain, plain.model_copy(update={"cutout": 0.25}))
    ]
    assert both[0] is not None
    assert both[1] is not None
    assert torch.equal(both[0], both[1][..., :-2])
