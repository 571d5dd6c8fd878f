"""BatchNorm and ReLU in one pass: where it is done, that it changes nothing, where it must not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastdd.models.build import build
from fastdd.teachers import Taps, layer_names
from fastdd.teachers.fused_relu import rectified
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


@pytest.mark.parametrize(("kernels", "moments", "relus"), [(True, 20, 8), (False, 0, 8 + 9)])
def test_a_compiled_graph_has_a_kernel_or_what_the_compiler_fuses(
    kernels: bool, moments: int, relus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kernels, the graph has the ReLUs that are not theirs; without, no operator that walls it off."""
    network = build("resnet18_small", 4)
    taps = Taps(network, layer_names(network, "bn_inputs"), moments=True)
    seen: list[str] = []

    def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op.startswith("call"))
        return graph.forward

    monkeypatch.setattr(dispatch, "interpret_on_cpu", kernels)
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
