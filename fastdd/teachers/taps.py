"""Taps: a frozen teacher that returns logits, embedding and the statistics of chosen layers in one pass.

The tapped modules are replaced by thin wrappers that record their statistics in passing. So there are no
hooks, the whole step compiles as one graph, and only what a term asked for is recorded. A BatchNorm that
records its moments also does the work of the ReLU module behind it (structure.py). On a GPU each BatchNorm
does, since the same kernel then writes the activation once instead of two or three times.

    bn.<i>                  mean and mean square of the input in each image, the latter about the running mean
    conv.<i>                mean and mean square of the input in each image, of channels and of patches
    blocks.<i>, stages.<i>  spatial mean of the output
    module.<path>           mean of the output over all axes but images and channels

The output of a block or stage may also be recorded with all its pixels, and a pass may end there.
layer_names.py says which layer each name means.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import NamedTuple, cast

from torch import Tensor, nn

from fastdd_kernels import FrozenBatchNorm2d, pooled_mean
from fastdd_kernels.dispatch import uses_triton

from ..errors import InputError
from .layer_names import MODULE, channel_axes, layer_paths, pooled
from .patch_moments import Moments, image_moments
from .structure import Block, known_block, prefix, rectified, shortcut


class Features(NamedTuple):
    """What a forward pass of N images returns; all statistics are float32."""

    logits: Tensor
    """logits [N, classes]; [N, 0] where the pass ended before"""
    embedding: Tensor
    """input [N, D] of the last linear layer; [N, 0] where the pass ended before"""
    pooled: dict[str, Tensor]
    """layer name -> spatial mean [N, channels], of a BatchNorm's input or another layer's output; none of
    convolutions"""
    moments: dict[str, Moments]
    """layer name -> (mean, mean square) of its input, each [N, channels]; about 0 for convolutions, about
    running_mean for BatchNorms, which have them only if ``Taps`` was made with ``moments``"""
    patches: dict[str, Moments]
    """convolution name -> (mean, mean square) of its input in patches, each [N, patches]"""
    maps: dict[str, Tensor]
    """layer name -> its output [N, channels, h, w], in the dtype in which it was computed"""
    anchors: Features | None = None
    """the same of the images that these started from, equally augmented, where a term compares with them"""


class _Record:
    """What the wrappers have seen in the present pass."""

    def __init__(self) -> None:
        self.pooled: dict[str, Tensor] = {}
        self.moments: dict[str, Moments] = {}
        self.patches: dict[str, Moments] = {}
        self.maps: dict[str, Tensor] = {}
        self.embedding: Tensor | None = None
        self.positive: Tensor | None = None
        """output of a BatchNorm that has already done its ReLU's work; None once that ReLU has passed it
        on"""


class _BatchNormTap(nn.Module):
    """A BatchNorm that records the mean of its input, if it has a name, and the moments, if asked.

    Args:
        fused: whether one pass normalizes, measures and, with ``relu``, rectifies.
    """

    def __init__(
        self, bn: nn.BatchNorm2d, name: str | None, record: _Record, *, moments: bool, fused: bool, relu: bool
    ) -> None:
        super().__init__()
        self.bn, self.name, self.record, self.moments = bn, name, record, moments
        self.frozen = FrozenBatchNorm2d(bn, relu) if fused else None

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen is None:
            if self.name is not None:
                self.record.pooled[self.name] = pooled_mean(x, (2, 3))
            y: Tensor = self.bn(x)
            return y
        # Normalization, moments and ReLU take one read of x.
        y = self._noted(*self.frozen.with_moments(x))
        if self.frozen.relu:
            self.record.positive = y
        return y

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The end of a residual block: ReLU of the normalized x and the residual."""
        assert self.frozen is not None  # _ResidualTap has seen it
        return self._noted(*self.frozen.with_moments(x, residual))

    def _noted(self, y: Tensor, mean: Tensor, mean_square: Tensor) -> Tensor:
        if self.name is not None:
            self.record.pooled[self.name] = mean
            if self.moments:
                self.record.moments[self.name] = (mean, mean_square)
        return y


class _ReLUTap(nn.Module):
    """A ReLU module, possibly used in several places; it passes on what a BatchNorm has rectified."""

    def __init__(self, relu: nn.Module, record: _Record) -> None:
        super().__init__()
        self.relu, self.record = relu, record

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.record.positive:
            return self.relu(x)
        # The same tensor may come again after negative numbers were added in place.
        self.record.positive = None
        return x


class _ResidualTap(nn.Module):
    """A residual block whose last BatchNorm also adds the shortcut and rectifies."""

    def __init__(self, module: nn.Module, block: Block) -> None:
        super().__init__()
        self.module, self.block = module, block

    def forward(self, x: Tensor) -> Tensor:
        last = self.module.get_submodule(self.block.last)
        assert isinstance(last, _BatchNormTap)
        return last.add(self.block.before_last(self.module, x), shortcut(self.module, x))


class _ConvolutionTap(nn.Module):
    def __init__(self, convolution: nn.Conv2d, name: str, record: _Record, patch: int) -> None:
        super().__init__()
        self.convolution, self.name, self.record, self.patch = convolution, name, record, patch

    def forward(self, x: Tensor) -> Tensor:
        self.record.moments[self.name], self.record.patches[self.name] = image_moments(x, self.patch)
        return self.convolution(x)


class _PooledTap(nn.Module):
    def __init__(self, module: nn.Module, name: str, record: _Record) -> None:
        super().__init__()
        self.module, self.name, self.record = module, name, record

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x)
        self.record.pooled[self.name] = pooled_mean(y, (2, 3))
        return y


class _MapTap(nn.Module):
    def __init__(self, module: nn.Module, name: str, record: _Record) -> None:
        super().__init__()
        self.module, self.name, self.record = module, name, record

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        self.record.maps[self.name] = y
        return y


class _ModuleTap(nn.Module):
    """Records the mean of a module's output over all axes but images and channels."""

    def __init__(self, module: nn.Module, path: str, record: _Record, axis: int | None) -> None:
        super().__init__()
        self.module, self.path, self.record, self.axis = module, path, record, axis

    def forward(self, *inputs: object, **options: object) -> object:
        y = self.module(*inputs, **options)
        self.record.pooled[f"{MODULE}{self.path}"] = pooled(y, self.axis, self.module, self.path)
        return y


class _EmbeddingTap(nn.Module):
    def __init__(self, linear: nn.Linear, record: _Record) -> None:
        super().__init__()
        self.linear, self.record = linear, record

    def forward(self, x: Tensor) -> Tensor:
        self.record.embedding = x.float()
        return self.linear(x)


class Taps(nn.Module):
    """A frozen copy of a network in eval mode that also returns the statistics of chosen layers.

    Args:
        network: any classifier whose last linear layer gives the logits; it is copied.
        layers: names of the layers whose statistics are recorded (see layer_names.py).
        moments: whether the moments of the BatchNorm layers among them are recorded.
        maps: names of blocks and stages whose outputs are recorded with all pixels.
        end: name of the layer, among these, behind which nothing is needed; the pass ends there where the
            network can be cut (structure.py). None: it goes to the logits.

    Attributes:
        layers: the names, sorted by kind and then in the order of the network.
        running: BatchNorm layer name -> (running mean, running variance), each [channels].

    Raises:
        InputError: the network lacks a layer, a BatchNorm keeps no running statistics, or there is no linear
            layer.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Collection[str] = (),
        moments: bool = False,
        patch: int = 4,
        *,
        maps: Collection[str] = (),
        end: str | None = None,
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False)
        self.record = _Record()
        self.running: dict[str, tuple[Tensor, Tensor]] = {}
        paths = layer_paths(network, {*layers, *maps})
        self.layers = [name for name in paths if name in set(layers)]
        chosen = [path for name, path in paths.items() if name.startswith(MODULE)]
        axes = channel_axes(network, chosen) if chosen else {}
        linear = [path for path, m in network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise InputError(f"{type(network).__name__} has no linear layer to take embeddings from")
        head = cast("nn.Linear", network.get_submodule(linear[-1]))
        kernels = uses_triton(head.weight)
        fused = moments or kernels
        followed, relus = rectified(network) if fused else (set(), set())
        followed -= set(chosen)  # ``module.<path>`` records the output of such a BatchNorm before its ReLU
        for path in relus:
            network.set_submodule(path, _ReLUTap(network.get_submodule(path), self.record))
        network.set_submodule(linear[-1], _EmbeddingTap(head, self.record))
        if kernels:
            tapped = {paths[name] for name in layers}
            for path, module in list(network.named_modules()):
                if (
                    isinstance(module, nn.BatchNorm2d)
                    and module.running_mean is not None
                    and path not in tapped
                ):
                    relu = path in followed
                    unnamed = _BatchNormTap(module, None, self.record, moments=False, fused=True, relu=relu)
                    network.set_submodule(path, unnamed)
        # The innermost come first, because wrapping a module changes the paths inside it. Of several taps at
        # one path, that of ``module.<path>`` comes after the others, and that of a map last.
        taps = [*((name, False) for name in layers), *((name, True) for name in maps)]
        taps.sort(key=lambda tap: (-paths[tap[0]].count("."), tap[1], tap[0].startswith(MODULE)))
        for name, is_map in taps:
            path = paths[name]
            module = network.get_submodule(path)
            if is_map:
                network.set_submodule(path, _MapTap(module, name, self.record))
            elif name.startswith(MODULE):
                network.set_submodule(path, _ModuleTap(module, path, self.record, axes[path]))
            elif isinstance(module, nn.BatchNorm2d):
                if module.running_mean is None:
                    raise InputError(f"{name} ({path}) has track_running_stats=False: no statistics to match")
                self.running[name] = (module.running_mean, module.running_var)  # type: ignore[assignment]
                relu = path in followed
                tap = _BatchNormTap(module, name, self.record, moments=moments, fused=fused, relu=relu)
                network.set_submodule(path, tap)
            elif isinstance(module, nn.Conv2d):
                network.set_submodule(path, _ConvolutionTap(module, name, self.record, patch))
            else:
                network.set_submodule(path, _PooledTap(module, name, self.record))
        if kernels:
            _end_blocks(network)
        self.network = network.eval()
        self.beginning = None if end is None else prefix(self.network, paths[end])

    def round_weights(self) -> None:
        """Keep the weights of convolutions and linear layers in bfloat16, as autocast rounds them each time.

        Under autocast the network gives the same bits as before, and only there does it still work.
        """
        rounded: dict[nn.Parameter, nn.Parameter] = {}
        for module in self.modules():
            if type(module) in (nn.Conv2d, nn.Linear):
                for name, weight in list(module.named_parameters(recurse=False)):
                    if weight not in rounded:
                        rounded[weight] = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
                    setattr(module, name, rounded[weight])

    def update(self) -> None:
        """Derive anew what was derived from the weights, after these were changed in place."""
        for module in self.modules():
            if isinstance(module, _BatchNormTap) and module.frozen is not None:
                module.frozen.update(module.bn)

    def forward(self, x: Tensor) -> Features:
        record = self.record
        record.pooled, record.moments, record.patches, record.maps = {}, {}, {}, {}
        if self.beginning is None:
            logits = self.network(x).float()
        else:
            self.beginning(x)
            logits = record.embedding = x.new_empty(len(x), 0)
        assert record.embedding is not None  # the wrapper of the last linear layer has just set it
        return Features(
            logits,
            record.embedding,
            pooled=record.pooled,
            moments=record.moments,
            patches=record.patches,
            maps=record.maps,
        )


def _end_blocks(network: nn.Module) -> None:
    """Let each residual block of a known kind end in one pass, where nothing looks at its parts."""
    for path, module in list(network.named_modules()):
        block = known_block(module)
        if path and block is not None:
            last, relu = module.get_submodule(block.last), module.get_submodule("relu")
            fused = isinstance(last, _BatchNormTap) and last.frozen is not None
            if fused and isinstance(relu, nn.ReLU | _ReLUTap):
                network.set_submodule(path, _ResidualTap(module, block))
