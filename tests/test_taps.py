"""Taps: statistics against plain hooks in double precision, and what wrapping must not change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.teachers import Taps, layer_names

NAMES = ("resnet8", "resnet18_small", "resnet18", "vgg11_bn")
KINDS = {"vgg11_bn": ("bn_inputs",)}


def randomize(network: nn.Module) -> nn.Module:
    """Weights and running statistics that make every layer count."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.1, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
    return network


def make(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random statistics, and images for it."""
    if name == "vgg11_bn":
        with torch.device("meta"):
            network = build(name, 10)
            # its own linear layers are 100 million weights; these are 33 thousand
            network.avgpool = nn.AdaptiveAvgPool2d(1)
            network.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))
        network.to_empty(device="cpu")
    else:
        network = build(name, 10)
    images = torch.randn(
        3, 3, *((33, 32) if name != "resnet8" else (9, 8)), generator=torch.Generator().manual_seed(1)
    )
    return randomize(network), images


def all_layers(network: nn.Module, name: str) -> dict[str, str]:
    kinds = KINDS.get(name, ("bn_inputs", "blocks", "stages"))
    return {layer: path for kind in kinds for layer, path in layer_names(network, kind).items()}


# -- taps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moments", [False, True])
def test_logits_are_the_networks(name: str, moments: bool) -> None:
    network, images = make(name)
    plain = network.eval()(images)
    features = Taps(network, all_layers(network, name), moments)(images)
    if moments:  # the fused BatchNorm rounds in another order
        torch.testing.assert_close(
            features.logits, plain, rtol=1e-4, atol=1e-5 * float(plain.detach().abs().max())
        )
    else:
        assert torch.equal(features.logits, plain)
    assert bool(features.moments) is moments
    assert torch.equal(Taps(network)(images).logits, plain)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_equal_hooks_in_double(name: str) -> None:
    network, images = make(name)
    layers = all_layers(network, name)
    features = Taps(network, layers, moments=True)(images)
    seen: dict[str, Tensor] = {}

    def before(layer: str) -> Callable[..., None]:
        return lambda module, inputs: seen.update({layer: inputs[0]})

    def after(layer: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.update({layer: output})

    network = network.double().eval()
    for layer, path in layers.items():
        module = network.get_submodule(path)
        if layer.startswith("bn."):
            module.register_forward_pre_hook(before(layer))
        else:
            module.register_forward_hook(after(layer))
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_pre_hook(before("embedding"))
    network(images.double())
    assert features.pooled.keys() == layers.keys()
    assert features.moments.keys() == {layer for layer in layers if layer.startswith("bn.")}

    def check(got: Tensor, wanted: Tensor) -> None:
        wanted = wanted.detach()
        # float32 convolutions, some twenty of them one upon another, against float64
        assert got.dtype == torch.float32
        assert float((got.double() - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())

    check(features.embedding, seen["embedding"])
    for layer, path in layers.items():
        check(features.pooled[layer], seen[layer].mean((2, 3)))
        if layer in features.moments:
            shift = network.get_submodule(path).running_mean
            assert isinstance(shift, Tensor)
            mean, mean_square = features.moments[layer]
            check(mean, seen[layer].mean((2, 3)))
            check(mean_square, (seen[layer] - shift[:, None, None]).square().mean((2, 3)))


def test_what_changes_in_place_behind_a_tap_costs_no_copies() -> None:
    """A residual network adds and rectifies in place, what a BatchNorm's or a block's tap gave it."""
    network, images = make("resnet18")
    features = Taps(network, all_layers(network, "resnet18"), moments=True)(images.requires_grad_())
    steps, left = set(), [features.logits.grad_fn, *(mean.grad_fn for mean in features.pooled.values())]
    while left:
        step = left.pop()
        if step is not None and step not in steps:
            steps.add(step)
            left += [following for following, _ in step.next_functions]
    names = {step.name() for step in steps}
    assert not names & {"CopySlices", "AsStridedBackward0"}, names
    assert {"_MomentsBackward", "_PooledMeanBackward"} <= names


def test_the_frozen_copy_takes_no_gradients() -> None:
    network, images = make("resnet8")
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    taps = Taps(network, all_layers(network, "resnet8"), moments=True)
    images.requires_grad_()
    features = taps(images)
    total = features.logits.sum() + features.embedding.square().sum()
    for mean, mean_square in features.moments.values():
        total = total + mean.sum() + mean_square.sum()
    total.backward()
    assert images.grad is not None
    assert images.grad.abs().min() > 0
    assert all(p.grad is None and not p.requires_grad for p in taps.parameters())
    assert not any(module.training for module in taps.network.modules())
    # the network that was given is untouched: training, trainable, unwrapped
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), [("resnet8", "aot_eager"), ("resnet18", "eager")])
def test_taps_compile_as_one_graph(name: str, backend: str) -> None:
    network, images = make(name)
    taps = Taps(network, all_layers(network, name), moments=True)
    compiled = torch.compile(lambda x: tuple(taps(x)), fullgraph=True, backend=backend)
    images.requires_grad_()
    logits, embedding, pooled, moments, *_ = compiled(images)
    plain = taps(images)
    # The form that a compiler fuses rounds in another order than the passes of eager mode.
    torch.testing.assert_close(logits, plain.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(embedding, plain.embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, plain.pooled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moments, plain.moments, rtol=1e-4, atol=1e-4)


def test_layers_that_are_not_there() -> None:
    vgg, _ = make("vgg11_bn")
    with pytest.raises(InputError, match="Sequential has no residual, inverted residual or dense blocks"):
        layer_names(nn.Sequential(nn.Conv2d(3, 3, 1)), "blocks")
    with pytest.raises(InputError, match="VGG has no stages layer1"):
        Taps(vgg, ["stages.0"])
    with pytest.raises(InputError, match="no BatchNorm2d layers"):
        layer_names(nn.Sequential(nn.Conv2d(3, 3, 1)), "bn_inputs")
    with pytest.raises(InputError, match="no linear layer"):
        Taps(models.squeezenet1_1(num_classes=3))


def test_layer_counts_of_resnet18() -> None:
    network, _ = make("resnet18")
    counts = [len(layer_names(network, kind)) for kind in ("bn_inputs", "blocks", "stages")]
    assert counts == [20, 8, 4]


def test_batch_norm_without_statistics_is_named() -> None:
    network, _ = make("resnet8")
    bn = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    bn.track_running_stats, bn.running_mean, bn.running_var = False, None, None
    with pytest.raises(InputError, match=r"bn\.0 .*track_running_stats"):
        Taps(network, ["bn.0"], moments=True)


@pytest.mark.parametrize("name", ["resnet8", "resnet18_small"])
def test_rounded_weights_give_the_bits_of_autocast(name: str) -> None:
    """Autocast would round them at each call; weights that change in place are rounded in place."""
    network, images = make(name)
    results = []
    for rounded in (False, True):
        taps = Taps(network, all_layers(network, name), moments=True)
        if rounded:
            taps.round_weights()
        with torch.no_grad():
            for own, weight in zip(taps.network.parameters(), network.parameters(), strict=True):
                own.copy_(1.5 * weight)
        taps.update()
        x = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            features = taps(x)
        loss = features.logits.square().sum() + sum(mean.sum() for mean in features.pooled.values())
        results.append((features.logits, features.embedding, torch.autograd.grad(loss, x)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    kept = {
        type(module): weight.dtype for module in taps.modules() for weight in module.parameters(recurse=False)
    }
    assert kept == {nn.Conv2d: torch.bfloat16, nn.Linear: torch.bfloat16, nn.BatchNorm2d: torch.float32}
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
