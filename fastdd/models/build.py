"""Build a network by its name, or look whether it takes a run's images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import InputError, suggestion
from ..runtime.user_code import import_function
from .doors import DOORS
from .registry import NETWORKS, call_arguments

BATCH = 2  # images that outline pushes through: BatchNorm in training mode refuses one


def build(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network, on the device of torch's context; it returns its logits [N, num_classes] alone.

    Args:
        name: a registered name (``resnet20``, ``resnet18_small``, any torchvision classification model, ...),
            ``timm:NAME``, ``torchvision:NAME``, ``package.module:function``, or the name of an object that
            was given to ``fastdd.run``.
        num_classes: number of logits.
        channels: input channels.

    Raises:
        InputError: there is no such network, or it cannot be built for this many classes and channels.
    """
    return network_builder(name, num_classes, channels)()


def network_builder(name: str, num_classes: int, channels: int = 3) -> Callable[[], nn.Module]:
    """A function that builds an untrained network each time it is called; the arguments are those of build.

    Raises:
        InputError: there is no such network. What else build refuses is refused when the function is called.
    """
    builder = _builder(name)
    takes = call_arguments(name, builder)
    offered = {"num_classes": num_classes, "channels": channels}

    def built() -> nn.Module:
        try:
            network = builder(**{key: value for key, value in offered.items() if key in takes})
        except InputError:
            raise
        except Exception as error:  # a builder may be anybody's code
            raise InputError(
                f"{name} cannot be built for {num_classes} classes and {channels} channels ({reason(error)})"
            ) from error
        if not isinstance(network, nn.Module):
            raise InputError(f"{name} returned a {type(network).__name__}, expected an nn.Module")
        lazy = [path for path, parameter in network.named_parameters() if is_lazy(parameter)]
        if lazy:
            raise InputError(
                f"{name} has a parameter {lazy[0]!r} that gets its shape from the first images; give its "
                "layer all sizes"
            )
        return network

    return built


def _builder(name: str) -> Callable[..., object]:
    if name in NETWORKS:
        return NETWORKS[name].builder
    door, colon, rest = name.partition(":")
    if not colon:
        raise InputError(
            f"unknown network {name!r}{suggestion(name, NETWORKS)}; networks of your own are named "
            "package.module:function"
        )
    return DOORS[door](rest) if door in DOORS else import_function(name)


def auxiliary_tensors(name: str) -> tuple[str, ...]:
    """Prefixes of the tensors in a network's weights files that belong to auxiliary classifiers."""
    name = name.removeprefix("torchvision:")
    return NETWORKS[name].auxiliary if name in NETWORKS else ()


def outline(
    key: str, name: str, num_classes: int, shape: tuple[int, int, int], *, trains: bool = True
) -> nn.Module:
    """The network without memory for its weights, after it took two images.

    It tells before hours of work whether a network exists, takes the images and returns logits. That takes
    milliseconds on torch's meta device, which has shapes and no values. A network whose code needs values
    (such as ``if x.sum() > 0``) is built on the CPU and takes two black images there.

    Args:
        key: the recipe's key that names the network, for messages.
        shape: (C, H, W) of an image.
        trains: the network will be trained, so it is tried in training mode too.

    Returns:
        The network on the meta device, in eval mode.

    Raises:
        InputError: there is no such network, it cannot take such images, or it returns other things than
            logits.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                network = _tried("meta", name, num_classes, shape, trains=trains)
            except Exception:  # whatever code says that needs values; the pass on the CPU decides
                network = _tried("cpu", name, num_classes, shape, trains=trains)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    return network.eval().to("meta")


def _tried(
    device: Literal["meta", "cpu"], name: str, num_classes: int, shape: tuple[int, int, int], *, trains: bool
) -> nn.Module:
    """A network that took images in eval mode, and in training mode if it trains."""
    with torch.device(device):
        try:
            network = build(name, num_classes, shape[0])
        except InputError:
            if device == "cpu":
                raise
            with torch.device("cpu"):  # RegNets compute their widths with tensors, which need values
                network = build(name, num_classes, shape[0])
        network.to(device)
        if trains and not any(parameter.requires_grad for parameter in network.parameters()):
            raise InputError(f"{name} cannot be trained: none of its parameters requires a gradient")
        for mode in (False, True)[: 1 + trains]:
            network.train(mode)
            try:
                logits = network(torch.zeros(BATCH, *shape))
            except Exception as error:  # a network may be anybody's code
                raise InputError(
                    f"{name} cannot take images of {shape[0]} x {shape[1]} x {shape[2]} ({reason(error)}); "
                    "set data.size, or choose another network"
                ) from error
            _require_logits(logits, name, num_classes, "training" if mode else "eval")
    return network


def _require_logits(logits: object, name: str, num_classes: int, mode: str) -> None:
    if not isinstance(logits, Tensor):
        raise InputError(
            f"{name} returns a {type(logits).__name__} in {mode} mode, expected its logits alone, a tensor "
            f"[N, {num_classes}]; wrap it in a module that returns those"
        )
    if logits.shape != (BATCH, num_classes) or not logits.is_floating_point():
        raise InputError(
            f"{name} returns {str(logits.dtype).removeprefix('torch.')} {list(logits.shape)} for {BATCH} "
            f"images in {mode} mode, expected one logit a class: float [{BATCH}, {num_classes}]"
        )


def reason(error: Exception) -> str:
    """An error of anybody's code in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def structure(network: nn.Module) -> str:
    """A hash of a network's modules and tensor shapes, which says whether two networks are built alike."""
    modules = [f"{path} {type(module).__qualname__}" for path, module in network.named_modules()]
    tensors = [f"{name} {list(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return hashlib.sha256("\n".join([*modules, *tensors]).encode()).hexdigest()
