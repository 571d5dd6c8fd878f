"""The terms of an objective, with the switches where paper and released code differ."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from .base import All, BelowOne, Config, Count, Layers, NotNegative, Positive, Probability


class CrossEntropy(Config):
    weight: NotNegative = 1.0


class BatchNorm(Config):
    """SRe2L: sum over layers of ||var - running_var||_2 + ||mean - running_mean||_2 of BatchNorm inputs."""

    weight: NotNegative = 0.01
    first: NotNegative = 10.0
    """factor on the first layer"""
    variance: NotNegative = 1.0
    """factor on the norm of the variances (DWA: 11)"""
    target: Literal["global", "class"] = "global"
    """class: statistics of the slots of a class against those of its real images (LPLD)"""


class Gaussian(Config):
    """DEDA eq. 6: sum over layers of ||mean - class mean||^2 + gamma ||Cov - class Cov||_F^2."""

    weight: NotNegative = 1.0
    gamma: NotNegative = 50.0
    layers: Layers = "blocks"
    cov_norm: Literal["none", "dim"] = "none"
    """dim: the squared covariance difference is divided by the layer's width"""
    cov_unbiased: bool = False


class Covariance(Config):
    """DEDA eq. 7 and 8 on the last features: variance hinge and squared off-diagonal covariance."""

    lambda_var: NotNegative = 0.2
    lambda_cov: NotNegative = 4.0
    eps: NotNegative = 1e-4
    """inside the root of the hinge; 0 is the paper's formula to the letter"""
    unbiased: bool = False


class DiRe(Config):
    """DiRe: r_cos (CD + CDM) + r_euc EDM, summed over the classes of the batch."""

    r_cos: NotNegative = 0.1
    r_euc: NotNegative = 0.001
    reading: Literal["paper", "code", "clean"] = "clean"
    real_per_class: Count | All = "all"
    """real embeddings a class, a seeded choice"""


class Convolution(Config):
    """G-VBSM: sum of ||var - s_var||_2 + ||mean - s_mean||_2 over the inputs of all BatchNorm2d and Conv2d layers and
    the latter's patches; s is a running average over the steps, with the gradient of the present one."""

    weight: NotNegative = 0.01
    first: NotNegative = 10.0
    """factor on the first layer, which is the first convolution: its input is the images"""
    patch: Count = 4
    """side of the patches in pixels; 16 for images of 224"""
    drop: BelowOne = 0.4
    """probability that a convolution is left out of a step"""
    momentum: BelowOne = 0.8
    """of the running average; 0: the statistics of the step alone"""
    start: Literal["zero", "first"] = "zero"
    """of the running average: from 0, as released, or from its first value"""
    real_batch: Count | All = 64
    """images of the mini-batches of which the real variances are an average; all: one variance over all images"""
    category: Probability = 0.0
    """part of the loss that is against the mean statistics of single images of the batch's classes (EDC: 0.5)"""
    swap: bool = False
    """true: as EDC released, mean and variance of the category's patches change places"""


class Spectrum(Config):
    """G-VBSM's diversity of a class: KL(stop[softmax(l / tau)] || softmax(l)), l eigenvalues of its images' X Xt."""

    weight: NotNegative = 1.0
    tau: Positive = 4.0


class Terms(Config):
    """The objective; a term that is null is absent."""

    ce: CrossEntropy | None = CrossEntropy()
    bn: BatchNorm | None = None
    gaussian: Gaussian | None = None
    covariance: Covariance | None = None
    dire: DiRe | None = None
    conv: Convolution | None = None
    nuc: Spectrum | None = None

    @model_validator(mode="after")
    def _batch_norms_once(self) -> Terms:
        if self.bn is not None and self.conv is not None:
            raise ValueError("conv matches the BatchNorm layers too: set bn to null, or conv")
        return self
