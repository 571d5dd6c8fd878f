"""Networks with random weights that record their features; each is a function of (seed, number).

There is one module, whose weights are written anew for each network, so a compiled step stays compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...config import Precision
from ...errors import InputError
from ...models.build import as_input, network_builder, to_device
from ...models.pooling import PairwisePool, pool_in_pairs
from ...runtime.precision import autocast
from ...runtime.seeds import derive

CHANNELS_LAST_PIXELS = 1024
"""smallest number of pixels with which torch's GroupNorm on a CPU is fast in channels-last; with fewer it
takes 20 times as long, and its backward pass always does"""


class Recorded(NamedTuple):
    """What a forward pass of N images returns.

    Attributes:
        logits: [N, classes].
        embedding: input [N, D] of the last linear layer.
        maps: outputs of the ReLUs, from shallow to deep, each [N, C, H, W]; empty unless they are recorded.
    """

    logits: Tensor
    embedding: Tensor
    maps: list[Tensor]


class _Keep(nn.Module):
    """Passes its module's input or output on, and keeps it."""

    def __init__(self, module: nn.Module, kept: list[Tensor], side: Literal["input", "output"]) -> None:
        super().__init__()
        self.module, self.kept, self.side = module, kept, side

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        self.kept.append(x if self.side == "input" else y)
        return y


class MatchedLayers(NamedTuple):
    """The layers of a plain network whose features can be matched.

    Attributes:
        linear: path of the last linear layer, whose input is the embedding.
        relus: paths of the ReLUs, from shallow to deep.
    """

    linear: str
    relus: list[str]


def matched_layers(network: nn.Module, name: str, key: str, *, maps: bool) -> MatchedLayers:
    """Find the layers whose features can be matched.

    Raises:
        InputError: the network has no linear layer or, with ``maps``, no ReLU module.
    """
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    relus = [path for path, module in network.named_modules() if isinstance(module, nn.ReLU)]
    if not linear or (maps and not relus):
        raise InputError(
            f"{key}: {name} has no {'ReLU module' if linear else 'linear layer'} whose features could be "
            "matched; choose a network such as convnet"
        )
    return MatchedLayers(linear[-1], relus)


class RandomNetworks:
    """A network whose weights are drawn anew for each number.

    Args:
        maps: whether the outputs of its ReLUs are recorded.
        weight_gradients: whether its weights get gradients.

    Attributes:
        normalizes: whether the network has BatchNorm.
    """

    def __init__(
        self,
        name: str,
        classes: int,
        shape: tuple[int, int, int],
        *,
        device: torch.device,
        seed: int,
        precision: Precision = "fp32",
        maps: bool = False,
        weight_gradients: bool = False,
    ) -> None:
        self.name, self.device, self.seed, self.precision = name, device, seed, precision
        self._new: Callable[[], nn.Module] = network_builder(name, classes, shape[0])
        self._maps: list[Tensor] = []
        self._embedding: list[Tensor] = []
        plain = self._drawn(0)
        self.network = to_device(self._recording(plain, maps), device).train()
        self.network.requires_grad_(weight_gradients)
        self._weights = [*self.network.parameters(), *self.network.buffers()]
        modules = list(self.network.modules())
        self._batch_norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.normalizes = len(self._batch_norms) > 0
        pixels = shape[1] * shape[2]
        self._first_channels_last = not maps and pixels >= CHANNELS_LAST_PIXELS and _pools_first(self.network)

    def _drawn(self, number: int) -> nn.Module:
        """A plain network with the weights of a number, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "match network", number))
            return self._new()

    def _recording(self, network: nn.Module, maps: bool) -> nn.Module:
        linear, relus = matched_layers(network, self.name, "match.networks.network", maps=maps)
        network.set_submodule(linear, _Keep(network.get_submodule(linear), self._embedding, "input"))
        for path in relus if maps else ():
            network.set_submodule(path, _Keep(network.get_submodule(path), self._maps, "output"))
        return pool_in_pairs(network, self.device, contiguous=True)

    @torch.no_grad()
    def draw(self, number: int) -> None:
        """Give the network the weights of a number."""
        fresh = self._drawn(number)
        self._set([*fresh.parameters(), *fresh.buffers()])

    @torch.no_grad()
    def _set(self, weights: Iterable[Tensor]) -> None:
        for mine, other in zip(self._weights, weights, strict=True):
            mine.copy_(other)

    def state(self) -> dict[str, Tensor]:
        """All weights and statistics, by their place."""
        return {str(place): weight.detach() for place, weight in enumerate(self._weights)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the weights that ``state`` returned."""
        self._set(state[str(place)] for place in range(len(self._weights)))

    @torch.no_grad()
    def freeze_statistics(self, images: Tensor) -> None:
        """One pass of normalized images moves BatchNorm's statistics, which the next passes use as they are.

        Released code of DC does so with 16 real images of each class. An image's features then depend on no
        other image of its batch.
        """
        self.network.train()
        self(images)
        for module in self._batch_norms:
            module.eval()

    def __call__(self, images: Tensor, precision: Precision | None = None) -> Recorded:
        """A forward pass of normalized images [N, C, H, W], in its own arithmetic unless another is given."""
        x = as_input(images, self.network)
        if self._first_channels_last and not torch.is_grad_enabled():
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, precision or self.precision):
            logits = self.network(x)
        recorded = Recorded(logits.float(), self._embedding[-1].flatten(1).float(), list(self._maps))
        self._embedding.clear()  # or they would keep the graph of this pass
        self._maps.clear()
        return recorded


def _pools_first(network: nn.Module) -> bool:
    """Whether a network begins with a convolution, GroupNorm, ReLU and a PairwisePool.

    Without a graph that block, which has a network's largest maps, is about twice as fast on a CPU in
    channels-last; the pool makes them contiguous for the rest of the network.
    """
    leaves = [type(module) for module in network.modules() if not list(module.children())]
    return leaves[:4] == [nn.Conv2d, nn.GroupNorm, nn.ReLU, PairwisePool]
