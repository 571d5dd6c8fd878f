"""All terms by their configuration, and the terms of a batch: cross-entropy and BatchNorm statistics."""

from __future__ import annotations

import torch
from torch import nn

from ...bank import Bank
from ...config import Terms
from ...teachers import Taps, hooked_layers, layer_names
from .base import Shape, Term
from .batch_norm import BatchNormTerm
from .convolution import ConvolutionTerm
from .covariance import CovarianceTerm
from .cross_entropy import CrossEntropyTerm
from .dire import DiReTerm
from .gaussian import GaussianTerm, aligned_layers
from .spectrum import SpectrumTerm


def tapped_layers(terms: Terms, network: nn.Module) -> list[str]:
    """All layers whose statistics the terms need."""
    layers: list[str] = []
    if terms.bn:
        layers += layer_names(network, "bn_inputs")
    if terms.gaussian:
        layers += aligned_layers(terms.gaussian, network)
    if terms.conv:
        layers += hooked_layers(network)
    return list(dict.fromkeys(layers))


def tapped(terms: Terms, network: nn.Module) -> Taps:
    """The network with taps for all that the terms need."""
    moments, patch = terms.bn is not None or terms.conv is not None, terms.conv.patch if terms.conv else 1
    return Taps(network, tapped_layers(terms, network), moments, patch)


def banked_layers(terms: Terms, network: nn.Module) -> list[str]:
    """Layers whose class means and covariances the terms read from the bank."""
    return aligned_layers(terms.gaussian, network) if terms.gaussian else []


def build_terms(
    terms: Terms, shape: Shape, taps: Taps, bank: Bank, seed: int, device: torch.device
) -> list[Term]:
    """The terms for units of one shape."""
    built: list[Term] = []
    if terms.ce:
        built.append(CrossEntropyTerm(terms.ce, shape, device))
    if terms.bn:
        built.append(BatchNormTerm(terms.bn, shape, taps, bank))
    if terms.gaussian:
        built.append(GaussianTerm(terms.gaussian, shape, taps, bank, device))
    if terms.covariance:
        built.append(CovarianceTerm(terms.covariance, shape))
    if terms.dire:
        built.append(DiReTerm(terms.dire, shape, bank, seed, device))
    if terms.conv:
        built.append(ConvolutionTerm(terms.conv, shape, taps, bank, seed))
    if terms.nuc:
        built.append(SpectrumTerm(terms.nuc, shape))
    return built
