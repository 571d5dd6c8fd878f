"""All terms by their configuration, and the terms of a batch: cross-entropy and BatchNorm statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd_kernels import batch_norm_loss_from_moments

from .. import recipe
from ..bank import Bank
from ..teachers import Features, Taps, hooked_layers, layer_names
from .class_terms import CovarianceTerm, DiReTerm, GaussianTerm, aligned_layers
from .conv_terms import ConvolutionTerm
from .diversity_term import SpectrumTerm
from .objective import Shape, Term, Values
from .plan import Unit


def tapped_layers(terms: recipe.Terms, network: nn.Module) -> list[str]:
    """All layers whose statistics the terms need."""
    layers: list[str] = []
    if terms.bn:
        layers += layer_names(network, "bn_inputs")
    if terms.gaussian:
        layers += aligned_layers(terms.gaussian, network)
    if terms.conv:
        layers += hooked_layers(network)
    return list(dict.fromkeys(layers))


def tapped(terms: recipe.Terms, network: nn.Module) -> Taps:
    """The network with taps for all that the terms need."""
    moments, patch = terms.bn is not None or terms.conv is not None, terms.conv.patch if terms.conv else 1
    return Taps(network, tapped_layers(terms, network), moments, patch)


def banked_layers(terms: recipe.Terms, network: nn.Module) -> list[str]:
    """Layers whose class means and covariances the terms read from the bank."""
    return aligned_layers(terms.gaussian, network) if terms.gaussian else []


@dataclass
class CrossEntropyTerm:
    """Mean cross-entropy of a batch, with the class of each image."""

    config: recipe.CrossEntropy
    shape: Shape
    device: torch.device

    def targets(self, unit: Unit) -> Tensor:
        return torch.tensor([c for c, _ in unit.rows], device=self.device)

    def __call__(self, features: Features, images: Tensor, targets: Tensor) -> Values:
        weight = self.config.weight / (self.shape[1] * self.shape[2])
        return {"ce": weight * F.cross_entropy(features.logits, targets, reduction="sum")}


class BatchNormTerm:
    """SRe2L's statistics of a batch against the teacher's running ones, or against those of its class (LPLD)."""

    def __init__(self, config: recipe.BatchNorm, shape: Shape, taps: Taps, bank: Bank) -> None:
        self.config, self.shape, self.bank = config, shape, bank
        self.layers = list(layer_names(taps.network, "bn_inputs"))
        self.running = taps.running
        self.factors = [config.weight * (config.first if i == 0 else 1.0) for i in range(len(self.layers))]
        # Class statistics span the slots of a class, global ones the whole batch.
        self.groups = shape[0] * shape[1] if config.target == "class" else shape[0]

    def targets(self, unit: Unit) -> list[tuple[Tensor, Tensor]] | None:
        if self.config.target == "global":
            return None
        device = self.running[self.layers[0]][0].device
        pairs = (self.bank.class_batch_norm(layer, unit.groups) for layer in self.layers)
        return [(mean.to(device), var.to(device)) for mean, var in pairs]

    def __call__(self, features: Features, images: Tensor, targets: list[tuple[Tensor, Tensor]] | None) -> Values:
        values = []
        for i, (layer, factor) in enumerate(zip(self.layers, self.factors, strict=True)):
            running_mean, running_var = self.running[layer]
            mean, var = (running_mean, running_var) if targets is None else targets[i]
            loss = batch_norm_loss_from_moments(
                *features.moments[layer], mean, var, groups=self.groups, shift=running_mean,
                variance_weight=self.config.variance,
            )  # fmt: skip
            values.append(factor * loss.sum())
        return {"bn": torch.stack(values).sum()}


def build_terms(
    terms: recipe.Terms, shape: Shape, taps: Taps, bank: Bank, seed: int, device: torch.device
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
