"""Terms of the objective: functions of (features, targets, unit) to one value a batch or class.

Batch terms (cross-entropy, BatchNorm) give one value for each batch of the unit, class terms (Gaussian alignment,
covariance, DiRe) one for each class in each batch. The loss of a unit is their sum, so every batch gets the
gradient it would get alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdd_kernels import (
    RealEmbeddings,
    batch_norm_loss_from_moments,
    dire_terms,
    gaussian_alignment,
    off_diagonal_covariance,
    variance_hinge,
)

from .. import recipe
from ..bank import Bank
from ..seeds import generator
from ..teachers import Features, Taps, layer_names
from .plan import Unit

Term = Callable[[Features], dict[str, Tensor]]
"""features -> named, weighted values, each summed over the unit"""


def aligned_layers(config: recipe.Gaussian, network: nn.Module) -> list[str]:
    """Layers of DEDA's alignment: all of the kind but the last, whose place the embedding takes (l < L)."""
    return list(layer_names(network, config.layers))[:-1]


def tapped_layers(terms: recipe.Terms, network: nn.Module) -> list[str]:
    """All layers whose statistics the terms need."""
    layers: list[str] = []
    if terms.bn:
        layers += layer_names(network, "bn_inputs")
    if terms.gaussian:
        layers += aligned_layers(terms.gaussian, network)
    return list(dict.fromkeys(layers))


def _cross_entropy(config: recipe.CrossEntropy, unit: Unit, device: torch.device) -> Term:
    labels = torch.tensor([c for c, _ in unit.rows], device=device)
    images = unit.shape[1] * unit.shape[2]

    def term(features: Features) -> dict[str, Tensor]:
        return {"ce": config.weight / images * F.cross_entropy(features.logits, labels, reduction="sum")}

    return term


def _batch_norm(config: recipe.BatchNorm, unit: Unit, taps: Taps) -> Term:
    layers = list(layer_names(taps.network, "bn_inputs"))
    factors = {layer: config.weight * (config.first if i == 0 else 1.0) for i, layer in enumerate(layers)}

    def term(features: Features) -> dict[str, Tensor]:
        values = [
            factor
            * batch_norm_loss_from_moments(*features.moments[layer], *taps.running[layer], groups=unit.shape[0]).sum()
            for layer, factor in factors.items()
        ]
        return {"bn": torch.stack(values).sum()}

    return term


def _gaussian(config: recipe.Gaussian, unit: Unit, taps: Taps, bank: Bank, device: torch.device) -> Term:
    layers = aligned_layers(config, taps.network)
    targets = {layer: tuple(t.to(device) for t in bank.gaussian(layer, unit.groups)) for layer in layers}

    def term(features: Features) -> dict[str, Tensor]:
        values = [
            gaussian_alignment(
                _by_class(features.pooled[layer], unit), mean, covariance,
                gamma=config.gamma, normalize=config.cov_norm, unbiased=config.cov_unbiased,
            ).sum()
            for layer, (mean, covariance) in targets.items()
        ]  # fmt: skip
        return {"gaussian": config.weight * torch.stack(values).sum()}

    return term


def _covariance(config: recipe.Covariance, unit: Unit) -> Term:
    def term(features: Features) -> dict[str, Tensor]:
        embedding = _by_class(features.embedding, unit)
        hinge = variance_hinge(embedding, config.eps, config.unbiased).sum()
        off_diagonal = off_diagonal_covariance(embedding, config.unbiased).sum()
        return {"variance": config.lambda_var * hinge, "covariance": config.lambda_cov * off_diagonal}

    return term


def _dire(config: recipe.DiRe, unit: Unit, bank: Bank, seed: int, device: torch.device) -> Term:
    real = RealEmbeddings.prepare([_real(config, bank, c, seed).to(device) for c in unit.groups])

    def term(features: Features) -> dict[str, Tensor]:
        cd, cdm, edm = dire_terms(_by_class(features.embedding, unit), real, reading=config.reading)
        return {"cd": config.r_cos * cd.sum(), "cdm": config.r_cos * cdm.sum(), "edm": config.r_euc * edm.sum()}

    return term


def _real(config: recipe.DiRe, bank: Bank, c: int, seed: int) -> Tensor:
    """Real embeddings of class c: all, or a seeded choice."""
    embeddings = bank.embeddings(c)
    if config.real_per_class == "all" or config.real_per_class >= len(embeddings):
        return embeddings
    return embeddings[torch.randperm(len(embeddings), generator=generator(seed, "dire", c))[: config.real_per_class]]


def _by_class(x: Tensor, unit: Unit) -> Tensor:
    """[N, D] -> [classes in all batches, slots, D]"""
    return x.view(-1, unit.shape[2], x.shape[1])


def build_terms(terms: recipe.Terms, unit: Unit, taps: Taps, bank: Bank, seed: int, device: torch.device) -> list[Term]:
    """The terms of a unit, with their targets read from the bank."""
    built: list[Term] = []
    if terms.ce:
        built.append(_cross_entropy(terms.ce, unit, device))
    if terms.bn:
        built.append(_batch_norm(terms.bn, unit, taps))
    if terms.gaussian:
        built.append(_gaussian(terms.gaussian, unit, taps, bank, device))
    if terms.covariance:
        built.append(_covariance(terms.covariance, unit))
    if terms.dire:
        built.append(_dire(terms.dire, unit, bank, seed, device))
    return built
