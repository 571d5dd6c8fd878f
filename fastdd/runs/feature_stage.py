"""Diversity of a run's images in the features of a network that is not its teacher (``metrics.features``)."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from fastdd_kernels import knn_radii

from .. import evaluate
from ..evaluate.clip import clip_features
from ..run_folder import TensorFile
from ..run_folder.results import FeatureDiversity
from ..runtime.files import write_tensors
from .run import Run

KEY = "metrics.features"
MADE_OF = "made of"
"""key of the metadata of features.safetensors: the network, and the fingerprints of the arms' images"""


def feature_diversity(run: Run) -> dict[str, FeatureDiversity]:
    """The diversity of every arm, by name; nothing where the recipe names no features."""
    recipe = run.experiment.recipe
    if recipe.metrics.features is None:
        return {}
    features, k = _features(run, recipe.metrics.features), recipe.metrics.nearest_k
    real = features["real"].float()
    radii, found = knn_radii(real, k), {}
    for arm in run.experiment.arms:
        labels = torch.arange(len(run.experiment.classes)).repeat_interleave(run.experiment.seen(arm))
        measured = evaluate.diversity(real, radii, features[arm].float(), labels, k=k)
        found[arm] = FeatureDiversity(
            coverage=measured.coverage, vendi=measured.vendi, cosine=measured.cosine
        )
    return found


def _features(run: Run, name: str) -> dict[str, Tensor]:
    """Features [N, D] float32 of the real training images (``real``) and of every arm's images; those of
    images that have changed since are made again."""
    extractor = clip_features(KEY, name, run.experiment.device)
    path, now = run.folder.features, {"features": extractor.text, **run.image_fingerprints}
    tensors: dict[str, Tensor] = {}
    then: dict[str, str] = {}
    if path.is_file():
        file = TensorFile(path)
        then = file.note(MADE_OF, dict[str, str])
        tensors = file.tensors() if then.get("features") == extractor.text else {}
    if "real" not in tensors:
        real, recipe = run.experiment.real, run.experiment.recipe
        rows, _ = extractor.of_dataset(
            real.train, real.shape[1:], resize=recipe.data.resize, on_error=recipe.data.on_error
        )
        tensors["real"] = rows.cpu()
    for arm, fingerprint in run.image_fingerprints.items():
        if arm not in tensors or then.get(arm) != fingerprint:
            tensors[arm] = extractor(run.distilled(arm)[0]).cpu()
    if then != now:
        write_tensors(path, tensors, {MADE_OF: json.dumps(now)})
    return tensors
