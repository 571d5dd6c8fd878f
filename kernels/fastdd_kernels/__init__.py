"""Losses and statistics of dataset distillation: tensors in, tensors out.

Differentiable, in closed or Gram form, without an n x m or D x D temporary on the synthetic side. Needs torch
alone; knows no data set, teacher, file or process.
"""

from .accumulate import ClassGaussian
from .cosine import cosine_sum, intra_class_cosine, pairwise_cosine_similarity
from .dire import RealEmbeddings, dire_loss, dire_terms, diversity_loss
from .distance import distance_sum, pairwise_euclidean_distance
from .gaussian import (
    covariance_regularizer,
    gaussian_alignment,
    off_diagonal_covariance,
    pack_symmetric,
    unpack_symmetric,
    variance_hinge,
)
from .moments import (
    batch_moments,
    batch_norm_loss,
    batch_norm_loss_from_moments,
    frozen_batch_norm,
    spatial_moments,
)
from .neighbours import coverage, density, knn_radii, prdc, precision, recall
from .resample import random_resample, resample, resample_parameters
from .vendi import vendi_score

__all__ = [
    "ClassGaussian",
    "RealEmbeddings",
    "batch_moments",
    "batch_norm_loss",
    "batch_norm_loss_from_moments",
    "cosine_sum",
    "covariance_regularizer",
    "coverage",
    "density",
    "dire_loss",
    "dire_terms",
    "distance_sum",
    "diversity_loss",
    "frozen_batch_norm",
    "gaussian_alignment",
    "intra_class_cosine",
    "knn_radii",
    "off_diagonal_covariance",
    "pack_symmetric",
    "pairwise_cosine_similarity",
    "pairwise_euclidean_distance",
    "prdc",
    "precision",
    "random_resample",
    "recall",
    "resample",
    "resample_parameters",
    "spatial_moments",
    "unpack_symmetric",
    "variance_hinge",
    "vendi_score",
]
