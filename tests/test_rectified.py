"""BatchNorm and ReLU in one pass: where it is done, that it changes nothing, where it must not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from fastdd.models.build import build
from fastdd.models.cifar_resnet import BasicBlock as CifarBlock
from fastdd.teachers import Taps, layer_names
from fastdd.teachers.structure import rectified
from fastdd_kernels import dispatch


class Counter(TorchDispatchMode):
    """Counts calls of ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.relus += "relu" in str(func)
        return func(*args, **(kwargs or {}))


def randomize(network: nn.Module) -> nn.Module:
    """Running statistics and affine parameters that make every BatchNorm count."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.1, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.5)
    return network.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "merged", "left"), [("resnet18_small", 9, 8), ("vgg11_bn", 8, 2), ("resnet8", 4, 3)]
)
def test_which_relus_are_merged(name: str, merged: int, left: int) -> None:
    with torch.device("meta"):
        network = build(name, 4).eval()
        bns, _ = rectified(network)
        assert len(bns) == merged
        taps = Taps(network, layer_names(network, "bn_inputs"), moments=True)
    with torch.device("meta"), Counter() as counter:
        taps.network(torch.zeros(2, 3, 32, 32))
    assert counter.relus == left


@pytest.mark.slow
@pytest.mark.parametrize(("kernels", "moments", "relus"), [(True, 20, 0), (False, 0, 8 + 9)])
def test_a_compiled_graph_has_a_kernel_or_what_the_compiler_fuses(
    kernels: bool, moments: int, relus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels do all that a ReLU would; without them there is no operator that walls the compiler off."""
    monkeypatch.setattr(dispatch, "interpret_on_cpu", kernels)
    network = build("resnet18_small", 4)
    taps = Taps(network, layer_names(network, "bn_inputs"), moments=True)
    seen: list[str] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op.startswith("call"))
        return graph.forward

    torch._dynamo.reset()
    torch.compile(lambda x: taps(x).logits, fullgraph=True, backend=backend)(noise(1, 3, 8, 8))
    assert sum("moments" in target for target in seen) == moments
    assert sum("relu" in target for target in seen) == relus


class Small(nn.Module):
    """BatchNorm and ReLU, and the same ReLU again after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn(self.conv(x)))
        return self.linear(self.relu(out + 3 * x).mean((2, 3)))


class UsedTwice(Small):
    """The output of the BatchNorm itself is wanted too."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return self.linear((self.relu(y) - 2 * y).mean((2, 3)))


class CalledTwice(Small):
    """One BatchNorm in two places, of which one has no ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn(self.relu(self.bn(self.conv(x)))).mean((2, 3)))


class Untraceable(Small):
    """A network whose computation depends on its numbers, so that it cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn(self.conv(x)))
        return self.linear((out if out.sum() > 0 else -out).mean((2, 3)))


class AddsInPlace(Small):
    """A network that changes the first ReLU's output in place, so that the second ReLU has work to do."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn(self.conv(x)))
        out += 3 * x
        return self.linear(self.relu(out).mean((2, 3)))


def test_what_a_relu_gave_may_change_in_place() -> None:
    torch.manual_seed(0)
    network = randomize(AddsInPlace())
    assert rectified(network) == ({"bn"}, {"relu"})
    taps = Taps(network, ["bn.0"], moments=True)
    torch.testing.assert_close(taps(noise(4, 3, 8, 8)).logits, network(noise(4, 3, 8, 8)))


@pytest.mark.parametrize(
    ("make", "merged"),
    [(Small, 1), (UsedTwice, 0), (CalledTwice, 0), (Untraceable, 0), (lambda: build("resnet18_small", 4), 9)],
)
def test_values_and_gradients_are_the_networks(make: Callable[[], nn.Module], merged: int) -> None:
    torch.manual_seed(0)
    network = randomize(make()).double()
    assert len(rectified(network)[0]) == merged
    layers = layer_names(network, "bn_inputs")
    taps, results = Taps(network, layers, moments=True), []
    weights = noise(4, 4).double()
    for run in (network, taps.network):
        images = noise(4, 3, 8, 8).double().requires_grad_()
        logits = run(images)
        results.append((logits, *torch.autograd.grad((logits * weights).sum(), images)))
    for got, wanted in zip(*results[::-1], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9 * float(wanted.detach().abs().max()))
    assert taps.record.moments.keys() == layers.keys()


class Blocks(nn.Module):
    """A residual block of each known kind, with each kind of shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        down = nn.Sequential(nn.Conv2d(4, 8, 1, 2), nn.BatchNorm2d(8))
        self.layer1 = nn.Sequential(Bottleneck(4, 1), BasicBlock(4, 4), BasicBlock(4, 8, 2, down))
        self.layer2 = nn.Sequential(CifarBlock(8, 8, 1), CifarBlock(8, 16, 2))
        self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))
        return logits


def test_residual_blocks_end_in_one_pass_where_there_are_kernels(triton_device: torch.device) -> None:
    torch.manual_seed(0)
    network = randomize(Blocks()).double().to(triton_device)
    layers = layer_names(network, "bn_inputs") | layer_names(network, "blocks")
    taps = Taps(network, layers, moments=True)
    assert sum(type(module).__name__ == "_ResidualTap" for module in taps.modules()) == 5
    pairs = zip(taps.network.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(own, weight) for own, weight in pairs)  # DWA relies on their order
    results = []
    for run in (network, taps.network):
        images = noise(2, 3, 6, 6).double().to(triton_device).requires_grad_()
        with Counter() as counter:
            logits = run(images)
        results.append((logits, *torch.autograd.grad(logits.square().sum(), images)))
    assert counter.relus == 0
    for got, wanted in zip(*results[::-1], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9 * float(wanted.detach().abs().max()))
    assert taps.record.moments.keys() == layer_names(network, "bn_inputs").keys()
    assert taps.record.pooled.keys() == layers.keys()


def test_batch_norms_of_which_nothing_is_recorded_take_one_pass_too_where_there_are_kernels(
    triton_device: torch.device,
) -> None:
    """As in DEDA, whose statistics are those of whole blocks."""
    torch.manual_seed(0)
    network = randomize(Blocks()).double().to(triton_device)
    layers = layer_names(network, "blocks")
    taps = Taps(network, layers)
    assert sum(type(module).__name__ == "_ResidualTap" for module in taps.modules()) == 5
    images = noise(2, 3, 6, 6).double().to(triton_device)
    with Counter() as counter:
        found = taps(images)
    assert counter.relus == 0
    assert found.pooled.keys() == layers.keys()
    assert not found.moments
    torch.testing.assert_close(found.logits, network(images).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["layer1.1.bn2", "layer1.1.relu"])
def test_a_block_of_whose_parts_something_is_recorded_stays_whole(
    layer: str, triton_device: torch.device
) -> None:
    network = randomize(Blocks()).to(triton_device)
    layers = layer_names(network, "bn_inputs") | {f"module.{layer}": layer}
    taps = Taps(network, layers, moments=True)
    assert sum(type(module).__name__ == "_ResidualTap" for module in taps.modules()) == 4
    images = noise(2, 3, 6, 6).to(triton_device)
    torch.testing.assert_close(taps(images).logits, network(images), rtol=1e-4, atol=1e-5)


def test_a_gelu_in_a_block_is_no_relu(triton_device: torch.device) -> None:
    network = randomize(Blocks()).to(triton_device)
    network.layer1[1].relu = nn.GELU()  # type: ignore[index, union-attr]
    taps = Taps(network, layer_names(network, "bn_inputs"), moments=True)
    assert sum(type(module).__name__ == "_ResidualTap" for module in taps.modules()) == 4


def test_layers_follow_weights_that_changed_in_place() -> None:
    """As DWA's climb changes them; what was derived from a BatchNorm's weights is derived anew."""
    torch.manual_seed(0)
    network = randomize(Small())
    taps = Taps(network, ["bn.0"], moments=True)
    with torch.no_grad():
        for weights in zip(taps.network.parameters(), network.parameters(), strict=True):
            for weight in weights:
                weight.mul_(2)
    taps.update()
    images = noise(4, 3, 8, 8)
    torch.testing.assert_close(taps(images).logits, network(images), rtol=1e-4, atol=1e-4)
