"""G-VBSM and EDC: statistics of convolutions and patches, targets, running averages, spectrum, crop."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from galleries import gallery, random_teacher, real_images
from tiny_recovery import CLASSES, IPC, SEED, SHAPE, Lab, make_lab, method
from torch import Tensor, nn

from fastdd.bank import Bank, Kept, Spread, build, merge, over_all
from fastdd.config import Augment, BatchSize, EarlyLate, Method, Recipe, Recover, Terms
from fastdd.config import Bank as BankConfig
from fastdd.errors import InputError
from fastdd.recipes.resolve import resolve
from fastdd.recover import Needs, Recovery, needs, plan
from fastdd.recover.loop import cosine
from fastdd.recover.objective import augmented, draws
from fastdd.recover.terms.convolution import Convolution, ConvolutionTerm, Spectrum, SpectrumTerm
from fastdd.teachers import Taps, Teacher, hooked_layers, layer_names
from fastdd.teachers.patch_moments import image_moments

COUNTS = (9, 12, 7, 10)
"""real images of the tiny recovery's classes"""
Pair = tuple[Tensor, Tensor]
Statistics = list[list[Pair]]
"""of each hooked layer: (mean, variance) of its channels, and of its patches where it is a convolution"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("bank"))


# -- the definition, with hooks, in float64 ----------------------------------------------------------


def in_patches(x: Tensor, patch: int) -> Tensor:
    """[patches, everything else], cut after enlargement by the library's own interpolation."""
    height, width = (-(-side // patch) * patch for side in x.shape[2:])
    x = F.interpolate(x, (height, width), mode="bilinear")
    cut = [
        x[:, :, i : i + patch, j : j + patch] for i in range(0, height, patch) for j in range(0, width, patch)
    ]
    return torch.stack([part.flatten() for part in cut])


def hooked_inputs(network: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Convolutions and BatchNorms in module order, with their inputs."""
    seen: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[module] = inputs[0]

    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    handles = [module.register_forward_pre_hook(hook) for module in modules]
    network(images)
    for handle in handles:
        handle.remove()
    return [(module, seen[module]) for module in modules]


def mean_and_variance(rows: Tensor) -> Pair:
    return rows.mean(1), rows.var(1, unbiased=False)


def statistics(inputs: list[tuple[nn.Module, Tensor]], patch: int) -> Statistics:
    found = []
    for module, x in inputs:
        pairs = [mean_and_variance(x.transpose(0, 1).flatten(1))]
        if isinstance(module, nn.Conv2d):
            pairs.append(mean_and_variance(in_patches(x, patch)))
        found.append(pairs)
    return found


def batch_statistics(network: nn.Module, images: Tensor, patch: int) -> Statistics:
    return statistics(hooked_inputs(network, images), patch)


def real_of(lab: Lab, c: int) -> Tensor:
    """All real images of a class, normalized, in float64."""
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(-1, 1, 1)
        for v in (lab.teacher.card.mean, lab.teacher.card.std)
    )
    return (lab.real([(c, slot) for slot in range(COUNTS[c])]).double() / 255 - mean) / std


def mean_of(several: list[Statistics]) -> Statistics:
    """Mean of the statistics of several images or classes."""
    return [
        [
            tuple(torch.stack([pair[i] for pair in same]).mean(0) for i in (0, 1))
            for same in zip(*layer, strict=True)
        ]  # type: ignore[misc]
        for layer in zip(*several, strict=True)
    ]


def assert_close(actual: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    wanted = wanted.detach()
    assert actual.shape == wanted.shape
    assert float((actual.detach().double() - wanted).abs().max()) <= tolerance * max(
        float(wanted.abs().max()), 1e-3
    )


@pytest.fixture(scope="module")
def single(lab: Lab) -> list[list[Statistics]]:
    """Statistics of each real image alone, class by class."""
    network = lab.double().requires_grad_(False)
    inputs = [hooked_inputs(network, real_of(lab, c)) for c in range(CLASSES)]
    return [
        [statistics([(module, x[i : i + 1]) for module, x in each], 4) for i in range(len(each[0][1]))]
        for each in inputs
    ]


# -- taps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((3, 5, 8, 8), 4), ((2, 3, 7, 6), 4), ((1, 4, 2, 1), 4), ((1, 2, 9, 18), 16), ((2, 3, 5, 4), 1)],
)
def test_moments_of_channels_and_patches(shape: tuple[int, ...], patch: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    for given in (x.float(), x.float().to(memory_format=torch.channels_last)):
        channels, patches = image_moments(given, patch)
        for i in range(len(x)):
            rows = in_patches(x[i : i + 1], patch)
            assert_close(channels[0][i], x[i].flatten(1).mean(1), 2e-6)
            assert_close(channels[1][i], x[i].flatten(1).square().mean(1), 2e-6)
            assert_close(patches[0][i], rows.mean(1), 2e-6)
            assert_close(patches[1][i], rows.square().mean(1), 2e-6)
    small = x[:1, :1, :5, :4].clone().requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda t: tuple(m for pair in image_moments(t, patch) for m in pair), small)


@pytest.mark.parametrize("size", [(8, 8), (11, 9)])
def test_taps_of_convolutions_equal_hooks(lab: Lab, size: tuple[int, int]) -> None:
    network = lab.teacher.network
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    taps = Taps(network, hooked_layers(network), moments=True, patch=4)
    features = taps(images)
    wanted = batch_statistics(lab.double(), images.double(), 4)
    assert features.patches.keys() == layer_names(network, "conv_inputs").keys()
    assert set(taps.layers) == features.moments.keys() == set(hooked_layers(network))
    for layer, pairs in zip(hooked_layers(network), wanted, strict=True):
        mean, mean_square = features.moments[layer]
        shift = taps.running[layer][0] if layer in taps.running else 0.0
        assert_close(mean[0], pairs[0][0])
        assert_close((mean_square - (mean - shift).square())[0], pairs[0][1])
        if layer.startswith("conv."):
            mean, mean_square = features.patches[layer]
            assert_close(mean[0], pairs[1][0])
            assert_close((mean_square - mean.square())[0], pairs[1][1])


def test_layers_are_in_the_order_of_the_modules(lab: Lab) -> None:
    layers = hooked_layers(lab.teacher.network)
    assert layers[:4] == ["conv.0", "bn.0", "conv.1", "bn.1"]
    assert hooked_layers(Taps(lab.teacher.network, layers, moments=True).network) == layers
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert hooked_layers(plain) == ["conv.0", "conv.1"]
    with pytest.raises(InputError, match="Sequential has no Conv2d layers"):
        hooked_layers(nn.Sequential(nn.Linear(2, 2)))


# -- real targets ------------------------------------------------------------------------------------


def test_the_bank_holds_the_means_of_single_images(lab: Lab, single: list[list[Statistics]]) -> None:
    for c in range(CLASSES):
        for i, layer in enumerate(hooked_layers(lab.teacher.network)):
            for j, kind in enumerate(("image", "patch") if layer.startswith("conv.") else ("image",)):
                means, variances = (torch.stack([each[i][j][k] for each in single[c]]) for k in (0, 1))
                spread = lab.bank.spread(layer, kind, [c], 4)  # type: ignore[arg-type]
                assert_close(spread.mean[0], means.mean(0))
                assert_close(spread.within[0], variances.mean(0))
                assert_close(spread.between[0], means.var(0, unbiased=False))


def test_over_all_is_the_variance_of_all_pixels(lab: Lab) -> None:
    everything = torch.cat([real_of(lab, c) for c in range(CLASSES)])
    wanted = batch_statistics(lab.double(), everything, 4)
    for layer, pairs in zip(hooked_layers(lab.teacher.network), wanted, strict=True):
        for kind, (mean, var) in zip(("image", "patch"), pairs, strict=False):
            spread = lab.bank.spread(layer, kind, range(CLASSES), 4)  # type: ignore[arg-type]
            got = over_all(spread, lab.bank.counts, "all")
            assert_close(got[0], mean)
            assert_close(got[1], var)
            assert all(
                torch.equal(a, b) for a, b in zip(over_all(spread, lab.bank.counts, 38), got, strict=True)
            )
            assert_close(
                over_all(spread, lab.bank.counts, 1)[1],
                spread.within.double().T @ torch.tensor(COUNTS).double() / 38,
            )


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6])
def test_over_all_is_the_mean_over_all_orders_of_mini_batches(batch: int) -> None:
    x = torch.randn(
        6, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # images, channels, pixels
    counts = (2, 1, 3)
    groups = x.split(counts)
    spread = Spread(
        torch.stack([group.mean((0, 2)) for group in groups]),
        torch.stack([group.var(2, unbiased=False).mean(0) for group in groups]),
        torch.stack([group.mean(2).var(0, unbiased=False) for group in groups]),
    )
    orders = torch.tensor(list(itertools.permutations(range(6))))
    variances = torch.zeros(2, dtype=torch.float64)
    for order in orders:  # as released: each mini-batch's variance, weighted by its part of the images
        for part in x[order].split(batch):
            variances += part.transpose(0, 1).flatten(1).var(1, unbiased=False) * len(part) / 6 / len(orders)
    mean, var = over_all(spread, counts, batch)
    assert_close(mean, x.mean((0, 2)), 1e-6)
    assert_close(var, variances, 1e-6)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_jobs_and_merging_keep_the_statistics_of_single_images(tmp_path: Path) -> None:
    teacher, (images, labels) = random_teacher("resnet8", ("a", "b", "c")), gallery((5, 6, 4))

    def made(name: str, rows: Tensor, **more: Any) -> Path:
        data = real_images(images[rows], labels[rows], 4, name[:4])
        build(
            tmp_path / name,
            teacher,
            data,
            Kept.of(teacher.network, BankConfig(batch=4, patch=4), [], seed=0),
            fingerprint="t",
            **more,
        )
        return tmp_path / name

    every = torch.ones(len(labels), dtype=torch.bool)
    whole = made("data-whole", every)
    for job in (range(1, 3), range(1)):
        made("data-jobs", every, classes=job)
    assert content(tmp_path / "data-jobs") == content(whole)
    half = torch.arange(len(labels)) % 2 == 0
    assert merge([made("even", half), made("odd-", ~half)], tmp_path / "merged")
    merged, wanted = Bank(tmp_path / "merged"), Bank(whole)
    for c in range(3):
        assert merged[c].tensors.keys() == wanted[c].tensors.keys()
        for name in (name for name in wanted[c].tensors if name != "embeddings"):
            assert_close(merged[c].tensors[name], wanted[c].tensors[name].double(), 2e-6)


def test_a_bank_without_patches_or_with_others_is_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has patches of 4, expected patches of 8; build it with bank\.patch=8"
    ):
        lab.bank.spread("conv.0", "patch", [0], 8)
    data = real_images(*gallery((2, 2, 2, 2)), 8)
    kept = Kept.of(lab.teacher.network, BankConfig(batch=8), [], seed=0)
    build(tmp_path, lab.teacher, data, kept, fingerprint="t")
    with pytest.raises(InputError, match="has no patches, expected patches of 4"):
        Bank(tmp_path).spread("conv.0", "image", [0], 4)


# -- the term ----------------------------------------------------------------------------------------


class Released:
    """The released hooks' arithmetic for one batch: a running average that passes the last gradient."""

    def __init__(self, lab: Lab, config: Convolution, categories: list[Statistics]) -> None:
        self.config, self.network = config, lab.double()
        everything = torch.cat([real_of(lab, c) for c in range(CLASSES)])
        self.real = batch_statistics(self.network, everything, config.patch)
        for pairs, (module, _) in zip(self.real, hooked_inputs(self.network, everything[:1]), strict=True):
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                pairs[0] = (module.running_mean, module.running_var)
        self.category = mean_of(categories or [self.real])
        if config.swap:
            self.category = [[pairs[0], *[(var, mean) for mean, var in pairs[1:]]] for pairs in self.category]
        self.average: dict[tuple[int, int, int], Tensor] = {}

    def __call__(self, images: Tensor, chosen: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for i, pairs in enumerate(batch_statistics(self.network, images, self.config.patch)):
            if not chosen[i]:
                continue
            for j, k in itertools.product(range(len(pairs)), (0, 1)):
                u, m = pairs[j][k], self.config.momentum
                before = self.average.get((i, j, k), u.detach() if self.config.start == "first" else 0.0)
                self.average[i, j, k] = m * before + (1 - m) * u.detach()
                s = self.average[i, j, k] + u - u.detach()
                part = self.config.category
                loss = (1 - part) * (self.real[i][j][k] - s).norm() + part * (
                    self.category[i][j][k] - s
                ).norm()
                total = total + self.config.weight * (self.config.first if i == 0 else 1.0) * loss
        return total


CONFIGS = {
    "gvbsm": Convolution(weight=0.3, first=10.0, drop=0.4, momentum=0.8, real_batch="all"),
    "first": Convolution(drop=0.4, momentum=0.5, start="first", real_batch="all"),
    "plain": Convolution(drop=0.0, momentum=0.0, real_batch="all"),
    "edc": Convolution(drop=0.0, momentum=0.8, category=0.5, real_batch="all"),
    "swapped": Convolution(drop=0.0, momentum=0.8, category=0.3, swap=True, real_batch="all"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_term_is_the_released_loss_of_each_batch_step_by_step(
    lab: Lab, single: list[list[Statistics]], name: str
) -> None:
    config = CONFIGS[name]
    terms = Terms(ce=None, conv=config)
    unit = plan(CLASSES, IPC, BatchSize(classes=2, slots=3), 12)[0]
    assert unit.shape == (2, 2, 3)
    taps = lab.recovery(Method(terms=terms)).taps[0]
    term = ConvolutionTerm(config, lab.context(unit.shape, taps))
    targets = term.targets(unit)
    released = [Released(lab, config, [mean_of(single[c]) for c in batch.classes]) for batch in unit.batches]
    random = torch.Generator().manual_seed(3)
    for step in range(3):
        images = torch.randn(12, *SHAPE, generator=random).requires_grad_()
        chosen = targets[1].chosen[step]
        values = term(taps(images), images, targets)
        double = images.detach().double().requires_grad_()
        wanted = sum(
            loss(part, keep) for loss, part, keep in zip(released, double.chunk(2), chosen, strict=True)
        )
        assert isinstance(wanted, Tensor)
        got = values["bn"] + values["conv"]
        assert got.item() == pytest.approx(wanted.item(), rel=1e-5)
        (grad,) = torch.autograd.grad(got, images)
        (grad_wanted,) = torch.autograd.grad(wanted, double)
        assert_close(grad, grad_wanted, 1e-4)


def test_layers_are_dropped_as_often_as_asked_and_batch_by_batch(lab: Lab) -> None:
    units = [plan(CLASSES, IPC, BatchSize(classes=2, slots=3), size) for size in (6, 100)]
    taps = lab.recovery(Method(terms=Terms(conv=Convolution()))).taps[0]
    chosen = [
        [
            ConvolutionTerm(Convolution(drop=0.4), lab.context(unit.shape, taps)).targets(unit)[1].chosen
            for unit in each
        ]
        for each in units
    ]
    alone, together = (torch.cat(each, dim=1) for each in chosen)
    assert torch.equal(alone, together)
    convolutions = torch.tensor([layer.startswith("conv.") for layer in hooked_layers(lab.teacher.network)])
    assert together[..., ~convolutions].all()
    share = together[..., convolutions].double().mean(0)
    assert float((share - 0.6).abs().max()) < 5 * (0.24 / 1000) ** 0.5
    assert len(together[..., convolutions].flatten(2).transpose(0, 1).unique(dim=0)) == len(units[0])


def test_the_memory_starts_at_zero_and_anew_for_each_unit(lab: Lab) -> None:
    config = Convolution(drop=0.0, momentum=0.8)
    (unit,) = plan(CLASSES, IPC, BatchSize(slots="all"), 100)
    taps = lab.recovery(Method(terms=Terms(conv=config))).taps[0]
    term = ConvolutionTerm(config, lab.context(unit.shape, taps))
    images = torch.randn(CLASSES * IPC, *SHAPE, generator=torch.Generator().manual_seed(3))
    _, memory = targets = term.targets(unit)
    features = taps(images)
    pixels = features.moments["conv.0"][0].mean(0)
    for part in (0.2, 0.36, 0.488):  # 1 - 0.8^t
        term(features, images, targets)
        torch.testing.assert_close(memory.average[0, 0, :3], part * pixels)
    assert int(memory.step) == 3
    fresh = term.targets(unit)[1]
    assert int(fresh.step) == 0
    assert not fresh.average.any()


def test_the_memory_goes_on_where_a_round_begins(lab: Lab) -> None:
    """DELT's images join in rounds; the average takes them in, and does not begin anew."""
    config = Convolution(drop=0.0, momentum=0.8, real_batch="all")
    delt = method(
        "delt",
        init="real",
        steps=6,
        lr=1e-9,
        early_late=EarlyLate(rounds=3),
        batch=BatchSize(classes=2, slots="all"),
        augment=Augment(roll=(0, 0)),
        terms=Terms(ce=None, conv=config),
    )
    unit = plan(CLASSES, IPC, delt.batch, 2 * IPC)[0]
    assert unit.shape == (1, 2, IPC)
    _, losses = lab.optimize(delt, Recover(log_every=1), unit)
    released, images = Released(lab, config, []), lab.start(delt, unit).double().view(2, IPC, *SHAPE)
    for step, entry in enumerate(losses):
        active = images[:, : (step // 2 + 1) * IPC // 3].flatten(0, 1)
        wanted = released(active, torch.ones(100, dtype=torch.bool)).item()
        assert entry["bn"] + entry["conv"] == pytest.approx(wanted, rel=1e-5), step


@pytest.mark.slow
def test_a_step_with_memory_compiles_as_one_graph(lab: Lab) -> None:
    chosen = method("gvbsm", batch=BatchSize(classes=2, slots=3))
    unit = plan(CLASSES, IPC, chosen.batch, 12)[0]
    (objective,) = lab.recovery(chosen).objective(unit.shape)
    drawn = draws(chosen.augment, unit, 3, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    results = []
    for step in (
        objective.plain,
        torch.compile(objective.plain, fullgraph=True, dynamic=False, backend="aot_eager"),
    ):
        targets = objective.targets(unit)
        images = lab.start(chosen, unit).requires_grad_()
        found = []
        for t in range(3):
            values = step(images, drawn[t], targets)
            found += [
                *values.values(),
                *torch.autograd.grad(torch.stack(list(values.values())).sum(), images),
            ]
        memory = next(each for each in targets if each is not None and not isinstance(each, Tensor))[1]
        results.append([*found, memory.average, memory.step])
    for plain, compiled in zip(*results, strict=True):
        assert_close(compiled, plain.double(), 1e-4)


def test_several_teachers_take_turns_with_a_memory_each(lab: Lab, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        )
        .eval()
        .requires_grad_(False)
    )
    other = Teacher(network, lab.teacher.card)
    everything = torch.cat([lab.real([(c, slot) for slot in range(COUNTS[c])]) for c in range(CLASSES)])
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(COUNTS))
    build(
        tmp_path,
        other,
        real_images(everything, labels, 38),
        Kept.of(network, BankConfig(batch=38, patch=4), [], seed=0),
        fingerprint="other",
    )
    chosen = method("gvbsm", batch=BatchSize(classes=2, slots=3), steps=5, lr=0.02)
    recovery = Recovery(
        chosen,
        Recover(),
        [lab.teacher, other],
        [lab.bank, Bank(tmp_path)],
        real_images=lab.real,
        shape=SHAPE,
        seed=SEED,
    )
    unit = plan(CLASSES, IPC, chosen.batch, 12)[0]

    class Silent:
        def advance(self, images: int, note: str = "") -> None:
            pass

    images, _ = recovery.optimize(unit, Silent())  # type: ignore[arg-type]
    wanted = recovery.initial(unit.rows).requires_grad_()
    objectives = recovery.objective(unit.shape)
    targets = [objective.targets(unit) for objective in objectives]
    drawn = draws(chosen.augment, unit, 5, size=SHAPE[1:], seed=SEED)
    assert drawn is not None
    low, high = lab.teacher.bounds(wanted.device)
    adam = torch.optim.Adam([wanted], betas=chosen.betas)
    for step in range(5):
        adam.param_groups[0]["lr"] = cosine(chosen.lr, step, 5)
        values = objectives[step % 2](wanted, drawn[step], targets[step % 2])
        adam.zero_grad()
        torch.stack(list(values.values())).sum().backward()
        adam.step()
        with torch.no_grad():
            wanted.clamp_(low, high)
    torch.testing.assert_close(images, lab.teacher.denormalize(wanted.detach()), rtol=0, atol=1e-4)


# -- the spectrum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (48, 33)])
def test_the_spectrum_is_the_released_loss_of_each_class(lab: Lab, size: tuple[int, int]) -> None:
    unit = plan(4, 3, BatchSize(classes=2, slots="all"), 100)[0]
    assert unit.shape == (2, 2, 3)
    images = 0.05 * torch.randn(12, 3, *size, generator=torch.Generator().manual_seed(0))
    term = SpectrumTerm(Spectrum(weight=0.7, tau=4.0), lab.context(unit.shape))
    images.requires_grad_()
    got = term(None, images, None)["nuc"]  # type: ignore[arg-type]
    double = images.detach().double().requires_grad_()
    wanted = torch.zeros((), dtype=torch.float64)
    for rows in F.adaptive_avg_pool2d(double, (32, 32)).flatten(1).split(3):
        eigenvalues = torch.linalg.eigvals(rows @ rows.T).real
        soft = (eigenvalues / 4).softmax(-1).detach()
        wanted = wanted + 0.7 * F.kl_div(eigenvalues.log_softmax(-1), soft, reduction="sum")
    # eigenvalues of some tens, each good to 1e-5 in float32
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert_close(torch.autograd.grad(got, images)[0], torch.autograd.grad(wanted, double)[0], 1e-3)


def test_one_image_a_class_has_no_spectrum(lab: Lab) -> None:
    (unit,) = plan(2, 1, BatchSize(), 100)
    images = torch.randn(2, 3, 8, 8).requires_grad_()
    value = SpectrumTerm(Spectrum(), lab.context(unit.shape))(None, images, None)["nuc"]  # type: ignore[arg-type]
    assert value.item() == 0
    assert not torch.autograd.grad(value, images)[0].any()


# -- the crop ----------------------------------------------------------------------------------------


def test_padded_crop_flip_and_roll_move_pixels_batch_by_batch() -> None:
    unit = plan(4, 3, BatchSize(classes=2, slots="all"), 100)[0]
    images = torch.randn(12, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    augment = Augment(pad=2, flip=0.5, roll=(0, 7))
    drawn = draws(augment, unit, 200, size=(9, 7), seed=SEED)
    assert drawn is not None
    for column in (3, 4):
        assert drawn[..., column].unique().tolist() == [0, 1, 2, 3, 4]
    assert drawn[..., 5:].unique(dim=1).view(-1, 2).unique(dim=0).tolist() == [[9, 7]]
    assert not torch.equal(drawn[:, 0], drawn[:, 1])
    for step in range(8):
        moved = augmented(images, drawn[step], augment)
        for part, whole, (flip, down, right, top, left, *_) in zip(
            moved.chunk(2), images.chunk(2), drawn[step].tolist(), strict=True
        ):
            cut = F.pad(whole, (2, 2, 2, 2))[:, :, top : top + 9, left : left + 7]
            wanted = (cut.flip(3) if flip else cut).roll((down, right), (2, 3))
            torch.testing.assert_close(part, wanted, rtol=0, atol=0)


# -- recipes -----------------------------------------------------------------------------------------


def resolved(folder: Path, text: str) -> Recipe:
    (folder / "own.yaml").write_text(text)
    return resolve(str(folder / "own.yaml")).recipe


def test_the_methods_are_declared_with_the_scripts_values(tmp_path: Path) -> None:
    arms = resolved(tmp_path, "arms: {g: {method: gvbsm}, e: {method: edc}}").arms
    g, e = arms["g"], arms["e"]
    assert g.terms.conv == Convolution(
        weight=0.01, first=10.0, drop=0.4, momentum=0.8, start="zero", category=0.0
    )
    assert (g.init, g.steps, g.lr, g.augment.pad, g.augment.roll, g.terms.nuc) == (
        "noise",
        4000,
        0.05,
        4,
        (0, 32),
        Spectrum(),
    )
    assert e.terms.conv == Convolution(
        weight=0.01, first=10.0, drop=0.0, momentum=0.8, start="zero", category=0.5
    )
    assert (e.init, e.steps, e.lr, e.augment.scale, e.augment.roll, e.terms.nuc) == (
        "real",
        2000,
        0.05,
        (0.08, 1),
        (0, 0),
        None,
    )
    assert g.terms.bn is e.terms.bn is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arms: {g: {method: gvbsm, terms: {bn: {weight: 1}}}}", "conv matches the BatchNorm layers too"),
        (
            "arms: {g: {method: gvbsm, augment: {scale: [0.5, 1]}}}",
            "pad and scale are two kinds of crop, got pad 4",
        ),
        (
            "arms: {g: {method: gvbsm, perturb: {steps: 2}}}",
            "perturb climbs on images without padding, got augment.pad 4",
        ),
        (
            "arms: {g: {method: gvbsm, terms: {conv: {drop: 1.0}}}}",
            r"terms\.conv\.drop: input should be less than 1",
        ),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        resolved(tmp_path, text)


def test_patches_of_two_sides_are_refused(lab: Lab) -> None:
    network = lab.teacher.network
    four, sixteen = (needs(Terms(conv=Convolution(patch=side)), network) for side in (4, 16))
    with pytest.raises(InputError, match=r"with patches of one side, got \[4, 16\]"):
        Needs.together([four, sixteen])
    with pytest.raises(InputError, match=r"bank\.patch is 16 and the arms' terms need 4"):
        four.of_bank(BankConfig(patch=16))
    assert Needs.together([four, four]).of_bank(BankConfig()).patch == 4
    assert Needs.together([]).of_bank(BankConfig(patch=16)).patch == 16
