"""Look whether a network takes a run's images, before hours of work, and say what to do where it does not.

A pass of two images takes milliseconds on torch's meta device, which has shapes and no values. What a message
advises was tried: a size of the images that it names is one that the run could have, and a network that it
names is one that takes the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError
from ..runtime.user_code import reason
from .build import OUTLINED, build, builder_of, structure
from .flat import more_than_weights
from .registry import NETWORKS, student

BATCH = 2
"""images that are pushed through: BatchNorm in training mode refuses one"""
SIDES = (4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384, 512)
"""sides in pixels of images that may be advised"""

_TAKEN: dict[tuple[str, int, tuple[int, int, int], bool], Callable[..., object]] = {}
"""(registered name, classes, shape of an image, training mode) -> the builder whose network took such images
on the meta device; no other check of the process tries it again, and a run has several of a network"""

Sizes: TypeAlias = Callable[[int], bool]
"""whether the images of a run could as well be squares of so many pixels a side (data.size)"""


def outline(
    key: str,
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    *,
    trains: bool = True,
    weights_alone: bool = False,
    sizes: Sizes | None = None,
    others: Sequence[str] = (),
) -> nn.Module:
    """The network after it took two images, without memory for its weights where that is possible.

    It tells whether a network exists, takes the images, returns logits and, if it trains, is built anew at
    each call. A registered network takes images of a shape once a process. A network whose code needs values
    (such as ``if x.sum() > 0``) is built on the CPU and takes two black images there.

    Args:
        key: the recipe's key that names the network, for messages.
        trains: the network will be trained, so it is tried in training mode too.
        weights_alone: the network must be a function of its weights (flat.py), whatever images it takes.
        sizes: which other sizes the images could have; None: they cannot have another.
        others: names of networks that may be advised, the best first; ``convnet`` is the one for the images.

    Returns:
        The network in eval mode, on the meta device, or on the CPU if its code needs values.

    Raises:
        InputError: there is no such network, it cannot take such images, or it returns other things than
            logits.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                network = _tried("meta", name, num_classes, shape, trains=trains, weights_alone=weights_alone)
            except Exception:  # whatever code says that needs values; the pass on the CPU decides
                network = _tried("cpu", name, num_classes, shape, trains=trains, weights_alone=weights_alone)
    except _NotWeightsAloneError as error:
        such_as = _such_as("", num_classes, shape, others)
        raise InputError(f"{key}: {error}{such_as}") from error
    except _UnfitImagesError as error:
        advice = _advice(name, num_classes, shape, sizes=sizes, others=others)
        raise InputError(f"{key}: {error}; {advice}") from error
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    return network.eval()


def takes(name: str, num_classes: int, shape: tuple[int, int, int]) -> bool:
    """Whether a network takes images; ``convnet`` and other names of papers mean those for their size."""
    try:
        with torch.random.fork_rng(devices=[]):
            _tried("meta", _meant(name, shape), num_classes, shape, trains=False)
    except Exception:  # a network may be anybody's code
        return False
    return True


def multiply_adds(name: str, num_classes: int, shape: tuple[int, int, int]) -> int:
    """Multiply-adds of a network's forward pass of one image of shape (C, H, W).

    Raises:
        InputError: see ``outline``.
    """
    network = outline(name, name, num_classes, shape, trains=False)
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *shape, device=device))
    return counter.get_total_flops() // 2


def network_for(
    key: str,
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    *,
    sizes: Sizes | None = None,
    others: Sequence[str] = ("resnet20",),
) -> str:
    """The network that a recipe means for its images: ``convnet`` is convnet3 for 32 pixels.

    Names of networks, and all other names, mean themselves.

    Raises:
        InputError: the name is convnet, and there is none for images of this size.
    """
    found = _meant(name, shape)
    if found == "convnet":
        sides = [side for side in SIDES if student(name, side) != name]
        advice = _advice(name, num_classes, shape, sizes=sizes, others=others)
        raise InputError(
            f"{key}: there is no ConvNet for images of {shape[1]} x {shape[2]} pixels, only for sides of "
            f"{', '.join(map(str, sides))}; {advice}"
        )
    return found


def _meant(name: str, shape: tuple[int, int, int]) -> str:
    _, height, width = shape
    return student(name, height) if name not in NETWORKS and height == width else name


def _advice(
    name: str, num_classes: int, shape: tuple[int, int, int], *, sizes: Sizes | None, others: Sequence[str]
) -> str:
    """What to do where a network does not take images: give them another size, or choose another network."""
    channels, side = shape[0], min(shape[1:])
    smaller, larger = [s for s in reversed(SIDES) if s <= side], [s for s in SIDES if s > side]
    fitting = (
        each
        for each in (*smaller, *larger)
        if sizes is not None and takes(name, num_classes, (channels, each, each)) and sizes(each)
    )
    size = next(fitting, None)
    kind = "_bn" if name.endswith("_bn") else ""
    network = "choose another network" + _such_as(kind, num_classes, shape, others)
    return network if size is None else f"set data.size to {size}, or {network}"


def _such_as(kind: str, num_classes: int, shape: tuple[int, int, int], others: Sequence[str]) -> str:
    """ ", such as" the first of others that takes the images, ConvNets with a norm of a kind (``_bn`` or
    none); empty where none does."""
    meant = [_meant(each, shape) for each in others]
    known = (f"{each}{kind}" if each.startswith("convnet") else each for each in meant)
    other = next((each for each in known if takes(each, num_classes, shape)), None)
    return "" if other is None else f", such as {other}"


class _NotWeightsAloneError(InputError):
    """A network is no function of its weights alone; the message says why."""


class _UnfitImagesError(InputError):
    """A network cannot take images of a size; the message says why."""


def _tried(
    device: Literal["meta", "cpu"],
    name: str,
    num_classes: int,
    shape: tuple[int, int, int],
    *,
    trains: bool,
    weights_alone: bool = False,
) -> nn.Module:
    """A network that took images in eval mode, and in training mode if it trains."""
    door, colon, _ = name.partition(":")
    # A function of the user's could return a network on the meta device itself, which a second call on the
    # CPU shows.
    again: Literal["meta", "cpu"] = "cpu" if colon and door not in ("timm", "torchvision") else device
    OUTLINED.pop((name, num_classes, shape[0]), None)
    builder, modes = builder_of(name), (False, True)[: 1 + trains]
    tried = [mode for mode in modes if _TAKEN.get((name, num_classes, shape, mode)) is not builder]
    with torch.device(device):
        network = _built_on(device, name, num_classes, shape[0])
        OUTLINED[name, num_classes, shape[0]] = (builder, structure(network))
        if tried:
            _built_on(again, name, num_classes, shape[0])  # refused unless it is a new network, built alike
        if weights_alone and (more := more_than_weights(network)) is not None:
            raise _NotWeightsAloneError(f"{name} {more}")
        network.to(device)
        if trains and not any(parameter.requires_grad for parameter in network.parameters()):
            raise InputError(f"{name} cannot be trained: none of its parameters requires a gradient")
        for mode in tried:
            network.train(mode)
            try:
                logits = network(torch.zeros(BATCH, *shape))
            except Exception as error:  # a network may be anybody's code
                raise _UnfitImagesError(
                    f"{name} cannot take images of {shape[0]} x {shape[1]} x {shape[2]} ({reason(error)})"
                ) from error
            _require_logits(logits, name, num_classes, "training" if mode else "eval")
            if device == "meta" and name in NETWORKS:
                _TAKEN[name, num_classes, shape, mode] = builder
    return network


def _built_on(device: Literal["meta", "cpu"], name: str, num_classes: int, channels: int) -> nn.Module:
    """A new network, on the CPU if its code cannot build it on the meta device."""
    try:
        with torch.device(device):
            return build(name, num_classes, channels)
    except InputError:
        if device == "cpu":
            raise
        with torch.device("cpu"):  # RegNets compute their widths with tensors, which need values
            return build(name, num_classes, channels)


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
