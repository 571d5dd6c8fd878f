"""Build a network by its name, and bring it to a device.

Convolutions are fast in channels-last, and so are BatchNorm and pooling; but torch's GroupNorm on a CPU reads
channels-last slowly, so that a training step of convnet3 takes 2 to 3 times as long there as in contiguous
memory. Images may come in any layout: they are brought into the network's where they enter it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import InputError, suggestion
from ..runtime.console import counted
from ..runtime.user_code import FAILURES, import_function, reason
from .doors import DOORS, require_package
from .registry import NETWORKS, call_arguments

_BUILT: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""modules with parameters that are in use -> the name of the network whose builder returned them"""
OUTLINED: dict[tuple[str, int, int], tuple[Callable[..., object], str]] = {}
"""(name, classes, channels) -> the builder that outline.py called and the structure that its network had"""


def build(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network, on the device of torch's context; it returns its logits [N, num_classes] alone.

    Args:
        name: a registered name (``resnet20``, ``resnet18_small``, any torchvision classification model, ...),
            ``timm:NAME``, ``torchvision:NAME``, ``package.module:function``, or the name of an object that
            was given to ``fastdd.run``.

    Raises:
        InputError: there is no such network, or it cannot be built for this many classes and channels.
    """
    return network_builder(name, num_classes, channels)()


def network_builder(name: str, num_classes: int, channels: int = 3) -> Callable[[], nn.Module]:
    """A function that builds an untrained network each time it is called; the arguments are those of build.

    Raises:
        InputError: there is no such network. What else build refuses is refused when the function is called.
    """
    builder = builder_of(name)
    takes = call_arguments(name, builder)
    offered = {"num_classes": num_classes, "channels": channels}

    def built() -> nn.Module:
        try:
            network = builder(**{key: value for key, value in offered.items() if key in takes})
        except InputError:
            raise
        except FAILURES as error:  # a builder may be anybody's code
            raise InputError(
                f"{name} cannot be built for {counted(num_classes, 'class')} and "
                f"{counted(channels, 'channel')} ({reason(error)})"
            ) from error
        if not isinstance(network, nn.Module):
            raise InputError(f"{name} returned a {type(network).__name__}, expected an nn.Module")
        _require_usable(name, network)
        _require_new(name, network)
        outlined = OUTLINED.get((name, num_classes, channels))
        if outlined is not None and outlined[0] is builder and outlined[1] != structure(network):
            raise InputError(
                f"{name} returned a network of other layers or sizes than at its first call; let it return "
                "the same network, newly initialized, at each call"
            )
        return network

    return built


def _require_usable(name: str, network: nn.Module) -> None:
    """Refuse a network that cannot be looked into, or whose weights are no float32 numbers."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise InputError(
            f"{name} is compiled by torch.jit, so its layers cannot be recorded; give the module that it was "
            "made from"
        )
    on_meta = torch.empty(0).is_meta  # outline builds there on purpose
    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise InputError(
                f"{name} has a parameter {path!r} that gets its shape from the first images; give its "
                "layer all sizes"
            )
        if tensor.is_meta and not on_meta:
            raise InputError(
                f"{name} has a tensor {path!r} on the meta device, which has no values; build it on the CPU"
            )
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise InputError(
                f"{name} has a tensor {path!r} of {dtype}, expected float32; convert it with .float()"
            )


def _require_new(name: str, network: nn.Module) -> None:
    """Refuse a network that shares weights with one of the same name that was built before and is in use."""
    own = [(path, part) for path, part in network.named_modules() if list(part.parameters(recurse=False))]
    for path, part in own:
        if _BUILT.get(part) == name:  # a builder may pass on what another has built
            raise InputError(
                f"{name} returned the module {path or type(part).__name__} again, so networks would share "
                "its weights; build a new one at each call"
            )
    _BUILT.update((part, name) for _, part in own)


def builder_of(name: str) -> Callable[..., object]:
    """What builds the network of a name; the arguments and errors are those of build."""
    if name in NETWORKS:
        return NETWORKS[name].builder
    door, colon, rest = name.partition(":")
    if meant := sorted(own for own in NETWORKS if NETWORKS[own].paper_name == name):
        raise InputError(
            f"{name!r} is a name of papers, and the size of the images decides which network it means; name "
            f"one of {', '.join(meant)}"
        )
    if not colon:
        raise InputError(
            f"unknown network {name!r}{suggestion(name, NETWORKS)}; networks of your own are named "
            "package.module:function"
        )
    if door in DOORS:
        return DOORS[door](rest)
    require_package(name)
    return import_function(name)


def auxiliary_tensors(name: str) -> tuple[str, ...]:
    """Prefixes of the tensors in a network's weights files that belong to auxiliary classifiers."""
    name = name.removeprefix("torchvision:")
    return NETWORKS[name].auxiliary if name in NETWORKS else ()


def structure(network: nn.Module) -> str:
    """A hash of a network's modules and tensor shapes, which says whether two networks are built alike."""
    modules = [f"{path} {type(module).__qualname__}" for path, module in network.named_modules()]
    tensors = [f"{name} {list(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return hashlib.sha256("\n".join([*modules, *tensors]).encode()).hexdigest()


# -- the memory layout of networks and images --------------------------------------------------------


def memory_format(network: nn.Module, device: torch.device) -> torch.memory_format:
    """The layout of a network's weights and images: contiguous on a CPU where it has a GroupNorm, else
    channels-last.

    ``fastdd bench recover --works layout_*`` measures each kind of network. On a CPU a ConvNet with GroupNorm
    takes 1.2 times as long in channels-last in fp32, and 2.8 times in bf16. Most networks with BatchNorm or
    depthwise convolutions gain by channels-last, VGG in bf16 alone, and others hardly differ.
    """
    if device.type == "cpu" and any(isinstance(module, nn.GroupNorm) for module in network.modules()):
        return torch.contiguous_format
    return torch.channels_last


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, in its memory format there; the network is changed and returned."""
    layout = memory_format(network, device)
    moved: nn.Module = network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return moved


def as_input(images: Tensor, network: nn.Module) -> Tensor:
    """Images [N, C, H, W] in the memory format of a network on their device; the values are the same.

    Rows [N, D], for a network without convolutions, stay as they are.
    """
    if images.ndim != 4:
        return images
    return images.contiguous(memory_format=memory_format(network, images.device))
