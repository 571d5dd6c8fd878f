"""What could not be matched is refused before any work: data, networks, layers, and units of coupled sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..config import Match, Method
from ..data.real_data import RealData
from ..errors import InputError
from ..models.outline import outline
from ..recover import matched_layers
from ..runtime.console import counted
from ..runtime.memory import require_memory
from .sizes import possible_sizes


def check_matching(arms: Mapping[str, Method], real: RealData, *, units: bool) -> None:
    """Refuse arms of the matching family that cannot be run. Nothing is written.

    Args:
        arms: the arms by name, their networks named as they are built.
        units: only some units are asked for.

    Raises:
        InputError: a network or its layers, fewer real images a step than classes, a training set that does
            not fit into memory, or units of an arm that has one alone.
    """
    for arm, method in arms.items():
        if (match := method.match) is None:
            continue
        if units and match.coupled:
            raise InputError(f"arms.{arm} optimizes all its images together, in one unit; leave out --units")
        if match.kernel is None:
            _check_network(f"arms.{arm}.match", match, real)
        elif match.kernel.target < len(real.classes):
            raise InputError(
                f"arms.{arm}.match.kernel.target is {match.kernel.target}, but a step takes a real image of "
                f"each of the {len(real.classes)} classes at least; set it to {len(real.classes)} or more"
            )
        if match.trajectory is None:
            C, H, W = real.shape
            require_memory(
                len(real.train) * C * H * W,
                f"to hold the {len(real.train)} real images that arms.{arm} matches",
                "set a smaller data.size, or take a data set of fewer images",
            )


def _check_network(key: str, match: Match, real: RealData) -> None:
    """Refuse a network that does not take the images, or has no layers to match.

    Args:
        key: the recipe's section ``match``.
    """
    name, own_key = match.networks.network, f"{key}.networks.network"
    sizes = possible_sizes(real)
    follows = match.trajectory is not None
    others = ("convnet",) if follows else ("convnet", "resnet20")
    network = outline(
        own_key, name, len(real.classes), real.shape, weights_alone=follows, sizes=sizes, others=others
    )
    if follows:
        return
    features = match.features
    maps = features is not None and features.layers != "last"
    relus = len(matched_layers(network, name, own_key, maps=maps).relus)
    if features is None:
        return
    layers = {"last": 1, "relu": relus - 1, "all": relus + 1}[features.layers]
    if layers == 0:
        raise InputError(
            f"{key}.features.layers is relu, all ReLUs but the last, and {name} has one alone, so none would "
            f"be matched; set {key}.features.layers to all, or choose a deeper network"
        )
    if isinstance(features.weights, tuple):
        _check_weights(f"{key}.features.weights", features.weights, name, layers)


def _check_weights(key: str, weights: Sequence[float], name: str, layers: int) -> None:
    if len(weights) != layers:
        raise InputError(
            f"{key} has {counted(len(weights), 'weight')}, but {name} has "
            f"{counted(layers, 'matched layer')}; give {layers}, from shallow to deep, cafe for CAFE's, or "
            "null for 1 each"
        )


def whole_passes(match: Match, images: int) -> str | None:
    """What is to be said where a pass of a network's training asks for more real images than there are; None:
    there are enough."""
    inner = match.networks.inner
    if inner is None or inner.on != "real" or inner.images is None or inner.images <= images:
        return None
    return (
        f"match.networks.inner.images is {inner.images}, but the training set has "
        f"{counted(images, 'image')}; each pass takes all of them"
    )


def smaller_classes(match: Match, counts: Sequence[int], classes: Sequence[str]) -> str | None:
    """What is to be said where classes have fewer real images than a step takes; None: all have enough."""
    wanted, named = match.networks.real, "match.networks.real"
    if match.kernel is not None:
        wanted, named = match.kernel.target // len(counts), "one class's part of match.kernel.target"
    smaller = [count for count in counts if count < wanted]
    if not smaller or match.trajectory is not None:
        return None
    fewest = classes[counts.index(min(counts))]
    return (
        f"{len(smaller)} of {len(counts)} classes have fewer real images than {named}, {wanted} "
        f"({fewest!r} has {min(counts)}); each step takes all of them"
    )
