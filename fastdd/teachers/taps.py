"""Taps: a frozen teacher that returns logits, embedding and the statistics of chosen layers in one pass.

The tapped modules are replaced by thin wrappers that note their statistics on the way, so there are no
hooks, the whole step compiles as one graph, and nothing is noted that no term asked for. A BatchNorm that notes its
moments also does the work of the ReLU module behind it (fused_relu.py).

    bn.<i>      input of the i-th BatchNorm2d, in module order: per-image mean and shifted mean square
    conv.<i>    input of the i-th Conv2d, in module order: per-image mean and mean square, of channels and of patches
    blocks.<i>  output of the i-th residual block, after its ReLU: spatial mean
    stages.<i>  output of the i-th stage (layer1, layer2, ...): spatial mean
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
from .patch_moments import Moments, image_moments

KINDS = {"bn": "bn_inputs", "conv": "conv_inputs", "blocks": "blocks", "stages": "stages"}


class Features(NamedTuple):
    """What one forward pass tells; N images, all statistics in float32."""

    logits: Tensor
    """[N, classes]"""
    embedding: Tensor
    """[N, D]: input of the last linear layer"""
    pooled: dict[str, Tensor]
    """layer name -> [N, channels], spatial mean; a BatchNorm's is that of its input, a convolution has none"""
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


class _EmbeddingTap(nn.Module):
    def __init__(self, linear: nn.Linear, notes: _Notes) -> None:
        super().__init__()
        self.linear, self.notes = linear, notes

    def forward(self, x: Tensor) -> Tensor:
        self.notes.embedding = x.float()
        return self.linear(x)


def layer_names(network: nn.Module, kind: str | tuple[str, ...]) -> dict[str, str]:
    """Layer name -> module path for a kind of layer: ``bn_inputs``, ``conv_inputs``, ``blocks`` or ``stages``.

    Raises:
        InputError: the network has no such layers.
    """
    if kind == "bn_inputs":
        found = [path for path, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
        prefix = "bn"
    elif kind == "conv_inputs":
        found = [path for path, m in network.named_modules() if isinstance(m, nn.Conv2d)]
        prefix = "conv"
    elif kind == "blocks":
        found = [
            path for path, m in network.named_modules() if type(m).__name__ in ("BasicBlock", "Bottleneck")
        ]
        prefix = "blocks"
    else:
        found = [path for path, _ in network.named_children() if path.startswith("layer")]
        prefix = "stages"
    if not found:
        what = {
            "bn_inputs": "BatchNorm2d layers",
            "conv_inputs": "Conv2d layers",
            "blocks": "residual blocks",
            "stages": "stages layer1, layer2, ...",
        }
        raise InputError(
            f"{type(network).__name__} has no {what[str(kind)]}; choose other layers or another network"
        )
    return {f"{prefix}.{i}": path for i, path in enumerate(found)}


def hooked_layers(network: nn.Module) -> list[str]:
    """Names of the inputs of all convolutions and BatchNorms, both kinds in one order, that of the modules.

    Raises:
        InputError: the network has no convolution.
    """
    names = {path: name for name, path in layer_names(network, "conv_inputs").items()}
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        names |= {path: name for name, path in layer_names(network, "bn_inputs").items()}
    return [names[path] for path, _ in network.named_modules() if path in names]


class Taps(nn.Module):
    """A frozen copy of a network in eval mode that also returns the statistics of chosen layers.

    Args:
        network: any classifier whose last linear layer gives the logits.
        layers: names ``bn.<i>``, ``conv.<i>``, ``blocks.<i>`` or ``stages.<i>`` whose statistics are wanted.
        moments: also note the moments of the BatchNorm layers among them.
        patch: side in pixels of the patches of the convolutions' inputs.

    Attributes:
        layers: the names, kind after kind, in the order of the network.
        running: BatchNorm layer name -> (running mean, running variance), each [channels].
    """

    def __init__(
        self, network: nn.Module, layers: Collection[str] = (), moments: bool = False, patch: int = 4
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval().requires_grad_(False)
        self.notes = _Notes()
        self.running: dict[str, tuple[Tensor, Tensor]] = {}
        paths: dict[str, str] = {}
        for kind in sorted({name.partition(".")[0] for name in layers}):
            paths |= layer_names(network, KINDS[kind])
        self.layers = [name for name in paths if name in set(layers)]
        linear = [path for path, m in network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise InputError(f"{type(network).__name__} has no linear layer to take embeddings from")
        followed, relus = rectified(network) if moments else (set(), set())
        for path in relus:
            _replace(network, path, _ReLUTap(network.get_submodule(path), self.notes))  # type: ignore[arg-type]
        _replace(network, linear[-1], _EmbeddingTap(network.get_submodule(linear[-1]), self.notes))  # type: ignore[arg-type]
        # innermost first: wrapping a block changes the paths of the BatchNorms inside it
        for name in sorted(layers, key=lambda name: -paths[name].count(".")):
            module = network.get_submodule(paths[name])
            if isinstance(module, nn.BatchNorm2d):
                if module.running_mean is None:
                    raise InputError(
                        f"{name} ({paths[name]}) has track_running_stats=False: no statistics to match"
                    )
                self.running[name] = (module.running_mean, module.running_var)  # type: ignore[assignment]
                _replace(
                    network,
                    paths[name],
                    _BatchNormTap(module, name, self.notes, moments, paths[name] in followed),
                )
            elif isinstance(module, nn.Conv2d):
                _replace(network, paths[name], _ConvolutionTap(module, name, self.notes, patch))
            else:
                _replace(network, paths[name], _PooledTap(module, name, self.notes))
        self.network = network.eval()

    def forward(self, x: Tensor) -> Features:
        self.notes.pooled, self.notes.moments, self.notes.patches = {}, {}, {}
        logits = self.network(x)
        assert self.notes.embedding is not None  # the wrapper of the last linear layer has just set it
        notes = self.notes
        return Features(logits.float(), self.notes.embedding, notes.pooled, notes.moments, notes.patches)


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)
