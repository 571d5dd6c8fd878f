"""Layers by module path: on networks of many kinds, against hooks that pool by hand, and errors that help."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from galleries import real_images
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from fastdd.bank import Bank, Kept
from fastdd.bank import build as build_bank
from fastdd.config import Bank as BankConfig
from fastdd.config import BatchSize, Terms
from fastdd.errors import InputError
from fastdd.models.build import build
from fastdd.recover import needs, plan, tapped
from fastdd.recover.terms.base import Context, build_terms
from fastdd.recover.terms.gaussian import Gaussian
from fastdd.teachers import Card, Taps, Teacher, layer_names, mixed_layer_names, require_layers
from fastdd.teachers.layer_names import channel_axes

CLASSES = 3


def vit() -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES
    )


def vgg() -> nn.Module:
    network = models.vgg11(num_classes=CLASSES)
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    return network


def convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)], num_classes=CLASSES)


def swin() -> nn.Module:
    return models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=CLASSES)


class Case(NamedTuple):
    """A network, the pattern an error should suggest, one of ours, and where channels lie in its outputs."""

    network: Callable[[], nn.Module]
    suggested: str
    pattern: str
    channels: int


CASES = {
    "vgg": Case(vgg, "features.*", "features.*", 1),
    "mobilenet": Case(
        partial(models.mobilenet_v2, num_classes=CLASSES, width_mult=0.25), "features.*", "features.*.conv", 1
    ),
    "efficientnet": Case(
        partial(models.efficientnet_b0, num_classes=CLASSES), "features.*", "features.*.*.block", 1
    ),
    "densenet": Case(
        partial(models.DenseNet, 4, (2, 2), 8, num_classes=CLASSES), "features.*", "features.denseblock*", 1
    ),
    "convnext": Case(convnext, "features.*", "features.*", 1),
    "convnext norms": Case(convnext, "features.*", "**.block.2", 3),
    "convnext activations": Case(convnext, "features.*", "**.block.4", 3),
    "swin": Case(swin, "features.*", "features.[13].*", 3),
    "vit": Case(vit, "encoder.layers.*", "encoder.layers.*", 2),
    "vit norms": Case(vit, "encoder.layers.*", "encoder.layers.*.ln_2", 2),
    "vit patches": Case(vit, "encoder.layers.*", "conv_proj", 1),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].network().eval().requires_grad_(False)


def hooked(network: nn.Module, paths: list[str], images: Tensor) -> dict[str, Tensor]:
    """Outputs of modules, copied before a ReLU in place changes them."""
    found: dict[str, Tensor] = {}

    def note(path: str, output: Tensor) -> None:
        found[path] = output.clone()

    handles = [
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: note(path, output)
        )
        for path in paths
    ]
    network(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_pooled_over_all_but_images_and_channels(name: str) -> None:
    network, case = made(name), CASES[name]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    names = layer_names(network, (case.pattern,))
    taps = Taps(network, names)
    got = taps(images)
    assert list(names) == [f"module.{path}" for path in names.values()] == taps.layers
    outputs = hooked(network, list(names.values()), images)
    for layer, path in names.items():
        wanted = outputs[path].transpose(1, case.channels).flatten(2).mean(2)
        torch.testing.assert_close(got.pooled[layer], wanted, msg=layer)
        assert got.pooled[layer].dtype == torch.float32
    torch.testing.assert_close(got.logits, network(images))


@pytest.mark.parametrize(
    ("network", "blocks"),
    [
        (partial(models.mobilenet_v2, num_classes=CLASSES, width_mult=0.25), 17),
        (partial(models.mobilenet_v3_small, num_classes=CLASSES), 11),
        (partial(models.shufflenet_v2_x0_5, num_classes=CLASSES), 16),
        (partial(models.efficientnet_b0, num_classes=CLASSES), 16),
        (partial(models.DenseNet, 4, (2, 2), 8, num_classes=CLASSES), 2),
        (vgg, 5),
        (partial(build, "convnet3", CLASSES), 3),
        (partial(build, "convnet3_bn", CLASSES), 3),
        (partial(build, "resnet20", CLASSES), 9),
        (partial(build, "wrn_16_2", CLASSES), 6),
        (partial(build, "mobilenet_v2_half", CLASSES), 17),
        (partial(build, "shufflenet_g2", CLASSES), 16),
    ],
    ids=[
        "mobilenet",
        "mobilenet v3",
        "shufflenet",
        "efficientnet",
        "densenet",
        "vgg",
        "convnet",
        "bn",
        "resnet",
        "wrn",
        "mobilenet half",
        "shufflenet g2",
    ],
)
def test_the_blocks_of_a_network_are_those_of_its_family(
    network: Callable[[], nn.Module], blocks: int
) -> None:
    torch.manual_seed(0)
    made = network().eval().requires_grad_(False)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    names = layer_names(made, "blocks")
    assert list(names) == [f"blocks.{i}" for i in range(blocks)]
    require_layers(network().eval().to("meta"), list(names), (3, 32, 32))
    got, outputs = Taps(made, names)(images), hooked(made, list(names.values()), images)
    for layer, path in names.items():
        torch.testing.assert_close(got.pooled[layer], outputs[path].mean((2, 3)), msg=layer)
    aligned = needs(Terms(gaussian=Gaussian(layers="blocks")), made).gaussians
    assert aligned == tuple(names)[:-1]  # the embedding takes the place of the last


def test_the_bank_keeps_kinds_of_layers_and_module_paths() -> None:
    network = models.resnet18(num_classes=CLASSES)
    names = mixed_layer_names(network, ["stages", "layer1.*", "layer1.0"])
    assert names == [*(f"stages.{i}" for i in range(4)), "module.layer1.0", "module.layer1.1"]
    with pytest.raises(InputError, match=r"'layer9' matches no module of ResNet; the nearest module paths"):
        mixed_layer_names(network, ["stages", "layer9"])


WITHOUT_BLOCKS = ("convnext", "swin", "vit")


def test_an_error_lists_several_candidates() -> None:
    with pytest.raises(InputError, match=r"\['features\.\*'\] or \['features\.\d+\.\*'\]"):
        layer_names(made("mobilenet"), "stages")


@pytest.mark.parametrize("name", WITHOUT_BLOCKS)
def test_the_error_for_blocks_suggests_a_pattern_that_works(name: str) -> None:
    network = made(name)
    pattern = CASES[name].suggested
    with pytest.raises(InputError, match="no residual, inverted residual or dense blocks") as caught:
        layer_names(network, "blocks")
    assert f"such as ['{pattern}']" in str(caught.value)
    names = layer_names(network, (pattern,))
    assert len(names) > 1
    require_layers(made(name).to("meta"), list(names), (3, 32, 32))
    assert Taps(network, names)(torch.zeros(1, 3, 32, 32)).pooled.keys() == names.keys()


def test_stars_stand_for_parts_of_paths_in_the_order_of_the_network() -> None:
    network = models.resnet18(num_classes=CLASSES)
    assert list(layer_names(network, ("layer2.*", "layer1.1"))) == [
        "module.layer1.1",
        "module.layer2.0",
        "module.layer2.1",
    ]
    assert list(layer_names(network, ("**.downsample",)).values()) == [
        f"layer{i}.0.downsample" for i in (2, 3, 4)
    ]
    assert list(layer_names(network, ("layer?.0.conv1",)).values()) == [
        f"layer{i}.0.conv1" for i in (1, 2, 3, 4)
    ]
    assert len(layer_names(network, ("**",))) == len(list(network.modules())) - 1


def test_a_module_by_path_gives_its_own_output_beside_other_taps() -> None:
    """A BatchNorm that is fused with its ReLU, and one that is tapped itself, twice."""
    network = models.resnet18(num_classes=CLASSES).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    paths = ["layer1.0.bn1", "layer1.0", "bn1", "fc"]
    names = [*(f"module.{path}" for path in paths), *layer_names(network, "bn_inputs"), "blocks.0"]
    outputs = hooked(network, paths, images)
    for order in (names, names[::-1]):
        got = Taps(network, order, moments=True)(images)
        for path in paths:
            wanted = outputs[path].flatten(2).mean(2) if outputs[path].ndim == 4 else outputs[path]
            torch.testing.assert_close(got.pooled[f"module.{path}"], wanted, msg=path, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(got.pooled["blocks.0"], got.pooled["module.layer1.0"])
        assert len(got.moments) == 20


def test_a_pattern_that_matches_nothing_names_the_nearest_paths() -> None:
    with pytest.raises(
        InputError, match=r"'encoder\.layer\.\*' matches no module of VisionTransformer"
    ) as caught:
        layer_names(made("vit"), ("encoder.layer.*",))
    assert "encoder.layers" in str(caught.value)
    assert "a pattern that works is 'encoder.layers.*'" in str(caught.value)


def test_a_module_whose_output_is_no_tensor_is_refused_before_any_work() -> None:
    names = list(layer_names(made("vit"), ("encoder.layers.*.self_attention",)))
    with pytest.raises(InputError, match=r"encoder_layer_0\.self_attention is no tensor .* got a tuple"):
        require_layers(made("vit").to("meta"), names, (3, 32, 32))


def test_channels_that_cannot_be_told_are_refused_before_any_work() -> None:
    class OneSize(nn.Module):
        """Channels last, and images of 8 pixels only."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 1), nn.GELU(), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[2:] == (8, 8)
            out: Tensor = self.head(self.act(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2)))
            return out

    with pytest.raises(
        InputError, match=r"output \[1, 8, 8, 4\] of the module act holds channels cannot be told"
    ):
        require_layers(OneSize().to("meta"), ["module.act"], (3, 8, 8))
    require_layers(OneSize().to("meta"), ["module.conv"], (3, 8, 8))


def test_channels_of_a_network_whose_code_needs_values() -> None:
    class NeedsValues(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = x if x.sum() > -1e9 else -x
            out: Tensor = self.head(self.conv(x).permute(0, 2, 3, 1).mean((1, 2)))
            return out

    require_layers(NeedsValues(), ["module.conv"], (3, 8, 8))
    assert channel_axes(NeedsValues(), ["conv"]) == {"conv": 1}


def test_gaussian_alignment_on_the_layers_of_a_transformer(tmp_path: Path) -> None:
    """Bank, targets and value, where a path chose the layers; a kind of layers leaves out its last."""
    network = made("vit")
    teacher = Teacher(network, Card("vit", ("a", "b", "c"), 3, (0.5,) * 3, (0.25,) * 3))
    terms = Terms(ce=None, gaussian=Gaussian(layers=("encoder.layers.*",), gamma=0.0))
    needed = needs(terms, network)
    assert needed.gaussians == tuple(f"module.encoder.layers.encoder_layer_{i}" for i in range(2))
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(CLASSES).repeat_interleave(4)
    data = real_images(images, labels, 12)
    kept = Kept.of(network, BankConfig(batch=12), needed.gaussians, seed=0)
    build_bank(tmp_path, teacher, data, kept, fingerprint="t")
    taps, bank = tapped(terms, network), Bank(tmp_path)
    (unit,) = plan(CLASSES, 2, BatchSize(slots="all"), 100)
    (term,) = build_terms(terms, Context(unit.shape, network, taps, bank, 0))
    synthetic = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    got = term(taps(synthetic), synthetic, term.targets(unit))["gaussian"]
    wanted = torch.zeros(())
    outputs = hooked(network, list(layer_names(network, ("encoder.layers.*",)).values()), synthetic)
    real = hooked(network, list(outputs), teacher.normalize(images))
    for path in outputs:
        ours, theirs = outputs[path].mean(1), real[path].mean(1)
        for c in range(CLASSES):
            wanted = (
                wanted + (ours[2 * c : 2 * c + 2].mean(0) - theirs[4 * c : 4 * c + 4].mean(0)).square().sum()
            )
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
