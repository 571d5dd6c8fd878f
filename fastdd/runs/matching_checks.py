"""What could not be matched is refused before any work: data, networks, layers, and units of coupled sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ..config import FeatureMatch, Match, Method
from ..data.real_data import RealData
from ..errors import InputError
from ..models.build import outline
from ..runtime.memory import require_memory


def check_matching(arms: Mapping[str, Method], real: RealData, *, units: bool) -> None:
    """Refuse arms of the matching family that cannot be run. Nothing is written.

    Args:
        arms: the arms by name, their networks named as they are built.
        real: the real images.
        units: only some units are asked for.

    Raises:
        InputError: a network or its layers, a training set that does not fit into memory, or units of an arm
            that has one alone.
    """
    for arm, method in arms.items():
        if (match := method.match) is None:
            continue
        if units and match.coupled:
            raise InputError(f"arms.{arm} optimizes all its images together, in one unit; leave out --units")
        if match.kernel is None:
            _check_network(f"arms.{arm}.match", match, real)
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
    network = outline(own_key, name, len(real.classes), real.shape)
    linear = _count(network, nn.Linear)
    relus = _count(network, nn.ReLU)
    features = match.features
    by_relu = features is not None and features.layers != "last"
    if match.trajectory is None and not (linear and (relus or not by_relu)):
        lacks = "ReLU module" if linear else "linear layer"
        raise InputError(
            f"{own_key}: {name} has no {lacks} whose features could be matched; choose a network such as "
            "convnet"
        )
    if features is not None and _layers(features, relus) == 0:
        raise InputError(
            f"{key}.features.layers is relu, all ReLUs but the last, and {name} has one alone, so none would "
            f"be matched; set {own_key} to a deeper network, such as convnet2, or layers to all"
        )
    if features is not None and features.weights is not None:
        _check_weights(f"{key}.features.weights", features.weights, name, _layers(features, relus))


def _check_weights(key: str, weights: Sequence[float], name: str, layers: int) -> None:
    if len(weights) != layers:
        raise InputError(
            f"{key} has {len(weights)} weights, but {name} has {layers} matched layers; give {layers}, from "
            "shallow to deep, or null for 1 each"
        )


def _layers(features: FeatureMatch, relus: int) -> int:
    """Layers that are matched in a network with so many ReLUs."""
    return {"last": 1, "relu": relus - 1, "all": relus + 1}[features.layers]


def _count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def smaller_classes(match: Match, counts: Sequence[int], classes: Sequence[str]) -> str | None:
    """What is to be said where classes have fewer real images than a step takes; None: all have enough.

    Args:
        match: what is matched.
        counts: real images of each class.
        classes: names of the classes.
    """
    wanted = match.networks.real
    smaller = [count for count in counts if count < wanted]
    if not smaller or match.trajectory is not None or match.kernel is not None:
        return None
    fewest = classes[counts.index(min(counts))]
    return (
        f"{len(smaller)} of {len(counts)} classes have fewer real images than match.networks.real, {wanted} "
        f"({fewest!r} has {min(counts)}); each step takes all of them"
    )
