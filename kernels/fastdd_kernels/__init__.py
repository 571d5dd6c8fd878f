"""Losses and statistics of dataset distillation: tensors in, tensors out.

Differentiable, in closed or Gram form, without an n x m or D x D temporary on the synthetic side. Needs torch
alone; knows no data set, teacher, file or process.
"""

from .accumulate import ClassGaussian
from .batch_norm import FrozenBatchNorm2d, frozen_batch_norm
from .batch_norm_loss import (
    batch_moments,
    batch_norm_loss,
    batch_norm_loss_from_moments,
    batch_norm_losses,
    layer_columns,
)
from .cosine import cosine_mean, cosine_sum, intra_class_cosine, pairwise_cosine_similarity
from .covariance import covariance_regularizer, off_diagonal_covariance, variance_hinge
from .dire import RealEmbeddings, dire_loss, dire_terms, diversity_loss
from .distance import distance_mean, distance_sum, pairwise_euclidean_distance
from .gaussian import GaussianAlignment, gaussian_alignment
from .matching import attention_distance, gradient_distance, mean_distance, trajectory_distance
from .moments import spatial_moments
from .nearest import knn_radii
from .neighbours import coverage, density, prdc, precision, recall
from .pooled import pooled_mean
from .resample import random_resample, resample, resample_parameters
from .siamese import siamese_augment, siamese_draws
from .symmetric import LowRankCovariance, low_rank_covariance, pack_symmetric, unpack_symmetric
from .tangent import kernel_ridge_loss, relu_ntk
from .trajectory import trajectory_match
from .vendi import vendi_score

__all__ = [
    "ClassGaussian",
    "FrozenBatchNorm2d",
    "GaussianAlignment",
    "LowRankCovariance",
    "RealEmbeddings",
    "attention_distance",
    "batch_moments",
    "batch_norm_loss",
    "batch_norm_loss_from_moments",
    "batch_norm_losses",
    "cosine_mean",
    "cosine_sum",
    "covariance_regularizer",
    "coverage",
    "density",
    "dire_loss",
    "dire_terms",
    "distance_mean",
    "distance_sum",
    "diversity_loss",
    "frozen_batch_norm",
    "gaussian_alignment",
    "gradient_distance",
    "intra_class_cosine",
    "kernel_ridge_loss",
    "knn_radii",
    "layer_columns",
    "low_rank_covariance",
    "mean_distance",
    "off_diagonal_covariance",
    "pack_symmetric",
    "pairwise_cosine_similarity",
    "pairwise_euclidean_distance",
    "pooled_mean",
    "prdc",
    "precision",
    "random_resample",
    "recall",
    "relu_ntk",
    "resample",
    "resample_parameters",
    "siamese_augment",
    "siamese_draws",
    "spatial_moments",
    "trajectory_distance",
    "trajectory_match",
    "unpack_symmetric",
    "variance_hinge",
    "vendi_score",
]
