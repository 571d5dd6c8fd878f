"""The signal that a recipe's section ``match`` asks for."""

from __future__ import annotations

import torch

from ...config import Match, Recover
from ..objective import Signal
from .features import FeatureSignal
from .gradients import GradientSignal
from .inner import StepNetwork
from .kernel import KernelSignal
from .networks import RandomNetworks
from .real import RealImages


def match_signal(match: Match, config: Recover, real: RealImages, *, device: torch.device) -> Signal:
    """The matching signal of a method.

    Raises:
        InputError: the network cannot be used.
    """
    if match.kernel is not None:
        return KernelSignal(match.kernel, real=real)
    _, *shape = real.images.shape
    networks = RandomNetworks(
        match.networks.network,
        real.classes,
        (shape[0], shape[1], shape[2]),
        device=device,
        seed=real.seed,
        precision="fp32" if match.gradients is not None else config.precision,
        maps=match.features is not None and match.features.layers != "last",
        weight_gradients=match.gradients is not None or match.networks.inner is not None,
    )
    network = StepNetwork(match, real=real, networks=networks, precision=config.precision)
    if match.gradients is not None:
        return GradientSignal(match.gradients, match, real=real, network=network)
    assert match.features is not None
    return FeatureSignal(match.features, match, real=real, network=network)
