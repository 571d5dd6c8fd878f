"""Names of the layers whose statistics can be recorded, and the axis that holds their channels.

    bn.<i>         input of the i-th BatchNorm2d, in module order
    conv.<i>       input of the i-th Conv2d, in module order
    blocks.<i>     output of the i-th block (see ``_blocks``)
    stages.<i>     output of the i-th stage (layer1, layer2, ...)
    module.<path>  output of the module at a path, such as module.features.3, for layers that a pattern chose

A pattern is a module path in which ``*`` stands for any characters within one part (``denseblock*``), and a
part ``**`` for any number of parts: "features.*", "encoder.layers.*", "**.conv2".
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import get_args

import torch
from torch import Tensor, nn

from fastdd_kernels import pooled_mean

from ..config import LayerKind
from ..errors import InputError

MODULE = "module."
SIDES = (128, 192)
"""sides in pixels of two images; an axis whose length differs between them holds positions, not channels"""
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
CHANNELS_LAST = (nn.LayerNorm, nn.Linear)
BLOCKS = (
    "BasicBlock",
    "Bottleneck",
    "DepthwiseSeparableConv",
    "InvertedResidual",
    "MBConv",
    "FusedMBConv",
    "DenseBlock",
    "_DenseBlock",
    "WideBlock",
    "InvertedBlock",
    "ShuffleBlock",
)
"""names of the classes of blocks: of ResNets, timm's and torchvision's MobileNets, ShuffleNets and
EfficientNets, of DenseNets, and of the networks in models/"""
CANDIDATES = 4
"""patterns of module paths that an error lists"""
KINDS = {
    "bn_inputs": ("bn", "BatchNorm2d layers"),
    "conv_inputs": ("conv", "Conv2d layers"),
    "blocks": ("blocks", "residual, inverted residual or dense blocks, nor convolutions with pooling"),
    "stages": ("stages", "stages layer1, layer2, ..."),
}


def layer_names(network: nn.Module, layers: str | Sequence[str]) -> dict[str, str]:
    """Layer name -> module path, in the order of the network.

    Args:
        layers: a kind (``bn_inputs``, ``conv_inputs``, ``blocks`` or ``stages``), or patterns of module
            paths.

    Raises:
        InputError: the network has no such layers; the message says what it has.
    """
    if not isinstance(layers, str):
        return _matching(network, layers)
    prefix, what = KINDS[layers]
    found = _of_kind(network, layers)
    if not found:
        raise InputError(
            f"{type(network).__name__} has no {what}; choose module paths, such as "
            f"{working_layers(network)}, or another network"
        )
    return {f"{prefix}.{i}": path for i, path in enumerate(found)}


def mixed_layer_names(network: nn.Module, layers: Sequence[str]) -> list[str]:
    """Layer names, each once, where ``layers`` holds kinds and patterns of module paths beside one another.

    Raises:
        InputError: the network has no such layers.
    """
    kinds = get_args(LayerKind)
    found = (layer_names(network, each if each in kinds else (each,)) for each in layers)
    return list(dict.fromkeys(chain.from_iterable(found)))


def single_layers(network: nn.Module) -> dict[str, str]:
    """Layer name -> module path of all blocks and stages that a network has; empty: it has neither."""
    kinds = ("blocks", "stages")
    return {f"{kind}.{i}": path for kind in kinds for i, path in enumerate(_of_kind(network, kind))}


def _of_kind(network: nn.Module, kind: str) -> list[str]:
    """The paths of the modules of a kind, in the order of the network."""
    modules = list(network.named_modules())
    if kind == "bn_inputs":
        return [path for path, module in modules if isinstance(module, nn.BatchNorm2d)]
    if kind == "conv_inputs":
        return [path for path, module in modules if isinstance(module, nn.Conv2d)]
    if kind == "blocks":
        return _blocks(network)
    return [path for path, _ in modules if path.startswith("layer") and "." not in path]


def _blocks(network: nn.Module) -> list[str]:
    """The paths of a network's blocks.

    They are its residual, inverted residual or dense blocks, by the names that torchvision, timm and the
    common small networks give their classes. In a network without such classes whose convolutions lie in a
    sequence, as those of VGG and of the ConvNet do, they end at the poolings of that sequence.
    """
    modules = list(network.named_modules())
    if named := [path for path, module in modules if type(module).__name__ in BLOCKS]:
        return named
    sequences = {
        path.rpartition(".")[0]
        for path, module in modules
        if isinstance(module, nn.Conv2d)
        and isinstance(network.get_submodule(path.rpartition(".")[0]), nn.Sequential)
    }
    return [
        path
        for path, module in modules
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and path.rpartition(".")[0] in sequences
    ]


def batch_norm_layers(network: nn.Module) -> list[str]:
    """Names ``bn.<i>`` of all BatchNorms, in module order.

    Raises:
        InputError: the network has none.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        raise InputError(
            f"{type(network).__name__} has no BatchNorm2d layers, whose statistics are matched; set it "
            f"to null, or choose another network"
        )
    return list(layer_names(network, "bn_inputs"))


def hooked_layers(network: nn.Module) -> list[str]:
    """Names ``conv.<i>`` and ``bn.<i>`` of all convolutions and BatchNorms, in module order.

    Raises:
        InputError: the network has no convolution.
    """
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        raise InputError(
            f"{type(network).__name__} has no Conv2d layers, whose statistics are matched; set it to "
            f"null, or choose another network"
        )
    names = {path: name for name, path in layer_names(network, "conv_inputs").items()}
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        names |= {path: name for name, path in layer_names(network, "bn_inputs").items()}
    return [names[path] for path, _ in network.named_modules() if path in names]


# -- patterns --------------------------------------------------------------------------------------


def _matching(network: nn.Module, patterns: Sequence[str]) -> dict[str, str]:
    paths = [path for path, _ in network.named_modules() if path]
    found: set[str] = set()
    for pattern in patterns:
        matched = {path for path in paths if _matches(path.split("."), pattern.split("."))}
        if not matched:
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
            raise InputError(
                f"{pattern!r} matches no module of {type(network).__name__}; the nearest module "
                f"paths are {', '.join(near)}; a pattern that works is {working_patterns(network)[0]!r}"
            )
        found |= matched
    return {f"{MODULE}{path}": path for path in paths if path in found}


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def working_layers(network: nn.Module) -> str:
    """Choices of layers by module path that work for a network, best first, such as ``['features.*']``."""
    return " or ".join(f"[{pattern!r}]" for pattern in working_patterns(network))


def working_patterns(network: nn.Module) -> list[str]:
    """A few patterns for this network, each the children of a sequence of layers, the outermost first.

    A sequence that holds the last linear layer is the head and is left out. Of several sequences at one depth
    those with more weights come first.
    """
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    sequences = [
        (path.count("."), -sum(weight.numel() for weight in module.parameters()), path)
        for path, module in network.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        and path
        and len(module) > 1
        and not (linear and linear[0].startswith(f"{path}."))
    ]
    return [f"{path}.*" for *_, path in sorted(sequences)[:CANDIDATES]] or ["*"]


# -- channels --------------------------------------------------------------------------------------


def channel_axes(network: nn.Module, paths: Collection[str]) -> dict[str, int | None]:
    """The axis of each module's output that holds channels; None where the shapes do not tell.

    The network runs on meta tensors of images of two sizes, and where its code needs values on black images
    on its own device. The axis whose length stays the same holds the channels, whatever the layout:
    [N, C, H, W], [N, H, W, C] or tokens [N, T, D].
    """
    weightless = copy.deepcopy(network).to("meta").eval()
    small, large = (_output_shapes(weightless, paths, side) for side in SIDES)
    if not large.keys() >= set(paths) and device_of_network(network).type != "meta":
        valued = copy.deepcopy(network).eval()
        small, large = (_output_shapes(valued, paths, side) for side in SIDES)
    return {path: _unmoved(small.get(path, ()), large.get(path, ())) for path in paths}


def device_of_network(network: nn.Module) -> torch.device:
    """The device of a network's first parameter."""
    return next(network.parameters()).device


def _unmoved(small: tuple[int, ...], large: tuple[int, ...]) -> int | None:
    stays = [axis for axis in range(1, len(small)) if small[axis : axis + 1] == large[axis : axis + 1]]
    if len(stays) == 1:
        return stays[0]
    return 1 if len(stays) == 3 else None  # all axes stay in [N, C, H, W] behind adaptive pooling


def _output_shapes(network: nn.Module, paths: Collection[str], side: int) -> dict[str, tuple[int, ...]]:
    """Output shapes of modules for one image of this side, up to the module where the network rejects it."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    outputs: dict[str, object] = {}
    with suppress(Exception):  # a network's own code may raise anything for an image that it does not take
        _run(network, paths, (3 if first is None else first.in_channels, side, side), outputs)
    return {path: tuple(output.shape) for path, output in outputs.items() if isinstance(output, Tensor)}


def _run(
    network: nn.Module, paths: Collection[str], shape: tuple[int, int, int], outputs: dict[str, object]
) -> None:
    """Run a network on a black image, and note what the modules at these paths return as they do."""

    def note(module: nn.Module, inputs: object, output: object, *, path: str) -> None:
        outputs[path] = output

    hooks = {path: partial(note, path=path) for path in paths}
    handles = [network.get_submodule(path).register_forward_hook(hook) for path, hook in hooks.items()]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=device_of_network(network)))
    finally:
        for handle in handles:
            handle.remove()


def pooled(output: object, axis: int | None, module: nn.Module, path: str) -> Tensor:
    """Mean of a module's output over all axes but images and channels, [N, channels] float32.

    The class token of a vision transformer counts as one token among the others.

    Args:
        axis: the axis of the channels, from ``channel_axes``. None (for a network that takes images of one
            size only): the last axis of [N, T, D]; in four dimensions the module's type decides.

    Raises:
        InputError: the output is no tensor [N, ...], or nothing tells which axis holds channels.
    """
    if not isinstance(output, Tensor) or output.ndim < 2:
        got = f"a {type(output).__name__}" if not isinstance(output, Tensor) else f"{output.ndim} dimensions"
        raise InputError(
            f"the output of the module {path} is no tensor [images, ...], got {got}; "
            f"choose the module around it, or one inside"
        )
    if axis is None:
        axis = _axis_by_type(output, module, path)
    others = [each for each in range(1, output.ndim) if each != axis]
    return pooled_mean(output, others) if others else output.float()


def _axis_by_type(output: Tensor, module: nn.Module, path: str) -> int:
    if output.ndim < 4 or type(module) in CHANNELS_LAST:
        return output.ndim - 1
    if isinstance(module, CHANNELS_FIRST):
        return 1
    raise InputError(
        f"which axis of the output {list(output.shape)} of the module {path} holds channels cannot "
        f"be told, for the network takes images of one size only; choose a convolution or a normalization "
        f"inside it"
    )


def require_layers(network: nn.Module, layers: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Check on one image, without arithmetic, that the statistics of the layers can be recorded.

    Raises:
        InputError: a layer takes no part in the forward pass, a BatchNorm keeps no running statistics, or
            the output of a ``module.<path>`` is no tensor or does not tell which of its axes holds channels.
    """
    if not layers:
        return
    paths = layer_paths(network, layers)
    outputs = _outputs(network, [paths[name] for name in layers], shape)
    chosen = [paths[name] for name in layers if name.startswith(MODULE)]
    axes = channel_axes(network, chosen) if chosen else {}
    for name in layers:
        path = paths[name]
        module = network.get_submodule(path)
        if path not in outputs:
            raise InputError(
                f"the module {path} of {type(network).__name__} takes no part in its forward pass, so it "
                f"has no statistics; leave it out, or remove it from the network"
            )
        if name.startswith(MODULE):
            pooled(outputs[path], axes[path], module, path)
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is None:
            raise InputError(
                f"the BatchNorm {path} has track_running_stats=False, so there are no statistics to match; "
                f"choose other layers, or a network whose BatchNorms keep running statistics"
            )


def layer_paths(network: nn.Module, layers: Collection[str]) -> dict[str, str]:
    """Layer name -> module path, for all layers of the kinds that the names have, and for named modules."""
    paths: dict[str, str] = {}
    for prefix in sorted({name.partition(".")[0] for name in layers}):
        if f"{prefix}." == MODULE:
            own = [name.removeprefix(MODULE) for name in layers if name.startswith(MODULE)]
            paths |= layer_names(network, own)
        else:
            (kind,) = (kind for kind, (each, _) in KINDS.items() if each == prefix)
            paths |= layer_names(network, kind)
    return paths


def _outputs(network: nn.Module, paths: Collection[str], shape: tuple[int, int, int]) -> dict[str, object]:
    """What the modules at these paths return for a black image; one that is not called is absent."""
    outputs: dict[str, object] = {}
    try:
        _run(network, paths, shape, outputs)
    except Exception:  # code that needs values, which the meta device lacks; zeros do
        zeros = copy.deepcopy(network).to_empty(device="cpu")
        for tensor in (*zeros.parameters(), *zeros.buffers()):
            tensor.detach().zero_()
        _run(zeros, paths, shape, outputs)
    return outputs
