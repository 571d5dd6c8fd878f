"""Taps: a frozen teacher that returns logits, embedding and the statistics of chosen layers in one pass.

The tapped modules are replaced by thin wrappers that note their statistics on the way, so there are no
hooks, the whole step compiles as one graph, and nothing is noted that no term asked for. A BatchNorm that notes its
moments also does the work of the ReLU module behind it (fused_relu.py).

    bn.<i>                  per-image mean and mean square of the input, the latter about the running mean
    conv.<i>                per-image mean and mean square of the input, of channels and of patches
    blocks.<i>, stages.<i>  spatial mean of the output
    module.<path>           mean of the output over everything but images and channels

layer_names.py says which layer each name is.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastdd_kernels import frozen_batch_norm

from ..errors import InputError
from .fused_relu import rectified
from .layer_names import KINDS, MODULE, channel_axes, layer_names, pooled
from .patch_moments import Moments, image_moments


class Features(NamedTuple):
    """What one forward pass tells; N images, all statistics in float32."""

    logits: Tensor
    """[N, classes]"""
    embedding: Tensor
    """[N, D]: input of the last linear layer"""
    pooled: dict[str, Tensor]
    """layer name -> [N, channels], spatial mean; that of a BatchNorm is taken of its input, a convolution has none"""
    moments: dict[str, Moments]
    """layer name -> (mean, mean square), each [N, channels], of the inputs of BatchNorms, where asked for, about
    running_mean, and of convolutions, about 0"""
    patches: dict[str, Moments]
    """convolution name -> (mean, mean square), each [N, patches], of its input in patches"""


class _Notes:
    """What the wrappers have seen in the current pass."""

    def __init__(self) -> None:
        self.pooled: dict[str, Tensor] = {}
        self.moments: dict[str, Moments] = {}
        self.patches: dict[str, Moments] = {}
        self.embedding: Tensor | None = None
        self.positive: Tensor | None = None
        """the output of a BatchNorm that has rectified it already, until a ReLU takes it"""


class _BatchNormTap(nn.Module):
    def __init__(self, bn: nn.BatchNorm2d, name: str, notes: _Notes, moments: bool, relu: bool) -> None:
        super().__init__()
        self.bn, self.name, self.notes, self.moments, self.relu = bn, name, notes, moments, relu

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        if not self.moments:
            self.notes.pooled[self.name] = x.mean((2, 3), dtype=torch.float32)
            return bn(x)
        # One read of x for all.
        assert bn.running_mean is not None
        assert bn.running_var is not None  # Taps looked
        y, mean, mean_square = frozen_batch_norm(
            x, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps, self.relu
        )
        if self.relu:
            self.notes.positive = y
        self.notes.moments[self.name] = (mean, mean_square)
        self.notes.pooled[self.name] = mean
        return y


class _ReLUTap(nn.Module):
    """A ReLU module, which may stand in several places: it has nothing to do where a BatchNorm did its work."""

    def __init__(self, relu: nn.ReLU, notes: _Notes) -> None:
        super().__init__()
        self.relu, self.notes = relu, notes

    def forward(self, x: Tensor) -> Tensor:
        if x is not self.notes.positive:
            return self.relu(x)
        self.notes.positive = None  # what is added to x in place may be negative
        return x


class _ConvolutionTap(nn.Module):
    def __init__(self, convolution: nn.Conv2d, name: str, notes: _Notes, patch: int) -> None:
        super().__init__()
        self.convolution, self.name, self.notes, self.patch = convolution, name, notes, patch

    def forward(self, x: Tensor) -> Tensor:
        self.notes.moments[self.name], self.notes.patches[self.name] = image_moments(x, self.patch)
        return self.convolution(x)


class _PooledTap(nn.Module):
    def __init__(self, module: nn.Module, name: str, notes: _Notes) -> None:
        super().__init__()
        self.module, self.name, self.notes = module, name, notes

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x)
        self.notes.pooled[self.name] = y.mean((2, 3), dtype=torch.float32)
        return y


class _ModuleTap(nn.Module):
    """Notes the mean of a module's output over everything but images and channels."""

    def __init__(self, module: nn.Module, path: str, notes: _Notes, axis: int | None) -> None:
        super().__init__()
        self.module, self.path, self.notes, self.axis = module, path, notes, axis

    def forward(self, *inputs: object, **options: object) -> object:
        y = self.module(*inputs, **options)
        self.notes.pooled[f"{MODULE}{self.path}"] = pooled(y, self.axis, self.module, self.path)
        return y


class _EmbeddingTap(nn.Module):
    def __init__(self, linear: nn.Linear, notes: _Notes) -> None:
        super().__init__()
        self.linear, self.notes = linear, notes

    def forward(self, x: Tensor) -> Tensor:
        self.notes.embedding = x.float()
        return self.linear(x)


class Taps(nn.Module):
    """A frozen copy of a network in eval mode that also returns the statistics of chosen layers.

    Args:
        network: any classifier whose last linear layer gives the logits.
        layers: names of layers whose statistics are wanted (see layer_names.py).
        moments: also note the moments of the BatchNorm layers among them.
        patch: side in pixels of the patches of the convolutions' inputs.

    Attributes:
        layers: the names, kind after kind, in the order of the network.
        running: BatchNorm layer name -> (running mean, running variance), each [channels].

    Raises:
        InputError: the network lacks a layer, a BatchNorm keeps no running statistics, or there is no linear layer.
    """

    def __init__(
        self, network: nn.Module, layers: Collection[str] = (), moments: bool = False, patch: int = 4
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False)
        self.notes = _Notes()
        self.running: dict[str, tuple[Tensor, Tensor]] = {}
        paths = _paths(network, layers)
        self.layers = [name for name in paths if name in set(layers)]
        chosen = [path for name, path in paths.items() if name.startswith(MODULE)]
        axes = channel_axes(network, chosen) if chosen else {}
        linear = [path for path, m in network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise InputError(f"{type(network).__name__} has no linear layer to take embeddings from")
        followed, relus = rectified(network) if moments else (set(), set())
        followed -= set(chosen)  # the output of such a BatchNorm is asked for as it is
        for path in relus:
            _replace(network, path, _ReLUTap(network.get_submodule(path), self.notes))  # type: ignore[arg-type]
        _replace(network, linear[-1], _EmbeddingTap(network.get_submodule(linear[-1]), self.notes))  # type: ignore[arg-type]
        # Innermost first, for wrapping a block changes the paths inside it; modules by path around what they may be.
        for name in sorted(layers, key=lambda name: (-paths[name].count("."), name.startswith(MODULE))):
            path = paths[name]
            module = network.get_submodule(path)
            if name.startswith(MODULE):
                _replace(network, path, _ModuleTap(module, path, self.notes, axes[path]))
            elif isinstance(module, nn.BatchNorm2d):
                if module.running_mean is None:
                    raise InputError(f"{name} ({path}) has track_running_stats=False: no statistics to match")
                self.running[name] = (module.running_mean, module.running_var)  # type: ignore[assignment]
                _replace(network, path, _BatchNormTap(module, name, self.notes, moments, path in followed))
            elif isinstance(module, nn.Conv2d):
                _replace(network, path, _ConvolutionTap(module, name, self.notes, patch))
            else:
                _replace(network, path, _PooledTap(module, name, self.notes))
        self.network = network.eval()

    def forward(self, x: Tensor) -> Features:
        self.notes.pooled, self.notes.moments, self.notes.patches = {}, {}, {}
        logits = self.network(x)
        assert self.notes.embedding is not None  # the wrapper of the last linear layer has just set it
        notes = self.notes
        return Features(logits.float(), self.notes.embedding, notes.pooled, notes.moments, notes.patches)


def _paths(network: nn.Module, layers: Collection[str]) -> dict[str, str]:
    """Layer name -> module path of all layers of the kinds that are named, and of the modules."""
    paths: dict[str, str] = {}
    for prefix in sorted({name.partition(".")[0] for name in layers}):
        if f"{prefix}." == MODULE:
            own = [name.removeprefix(MODULE) for name in layers if name.startswith(MODULE)]
            paths |= layer_names(network, own)
        else:
            (kind,) = (kind for kind, (each, _) in KINDS.items() if each == prefix)
            paths |= layer_names(network, kind)
    return paths


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
