"""Curves: how bank, recover, metrics, loader and kernels grow with images, classes, IPC, width and pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fastdd_kernels import covariance_regularizer, gaussian_alignment

from ...evaluate import measure
from ..growth import Sweep
from ..units import FULL, QUICK, declared, unit_of
from ..work import Scale
from . import bank, metrics
from .recover.steps import Lab


def sweeps(scale: Scale) -> list[Sweep]:
    """All curves, in the order in which they are measured."""
    return [*_of_bank(scale), *_of_recover(scale), *_of_metrics(scale), _gaussian_by_width(scale)]


def _of_bank(scale: Scale) -> list[Sweep]:
    def build(classes: int, per_class: int) -> Callable[[], object]:
        return bank.Pass.of(scale, "resnet8", classes=classes, per_class=per_class, batch=50).build

    return [
        Sweep(
            "bank_by_images",
            "building a bank of 4 classes, resnet8",
            "images a class",
            (25, 50, 100) if scale.quick else (50, 100, 200, 400),
            lambda size: build(4, size),
        ),
        Sweep(
            "bank_by_classes",
            "building a bank of 10 images a class, resnet8",
            "classes",
            (5, 10, 20) if scale.quick else (10, 100, 300, 1000),
            lambda size: build(size, 10),
        ),
    ]


def _of_recover(scale: Scale) -> list[Sweep]:
    setting, method = QUICK if scale.quick else FULL, declared("cifar10-dire", 1)

    def by_ipc(size: int) -> Callable[[], object]:
        return Lab.of(scale, 1).step(method, unit_of((1, 3, size))).run

    def by_pixels(size: int) -> Callable[[], object]:
        lab = Lab.of(scale, 1, setting._replace(side=size))
        return lab.step(declared("cifar10-sre2l", 1), unit_of((1, 4, 1))).run

    return [
        Sweep(
            "recover_by_ipc",
            f"a step of SRe2L + DiRe of 3 classes, {setting.network}, {setting.side} x {setting.side}",
            "images a class",
            (2, 4, 8) if scale.quick else (5, 10, 20, 40),
            by_ipc,
        ),
        Sweep(
            "recover_by_pixels",
            f"a step of SRe2L on 4 images, {setting.network}",
            "side in pixels",
            (8, 16, 32) if scale.quick else (32, 64, 128, 256),
            by_pixels,
            expected=2.0,
        ),
    ]


def _of_metrics(scale: Scale) -> list[Sweep]:
    def build(real: int, synthetic: int, classes: int) -> Callable[[], object]:
        sets = metrics.features(scale, real, synthetic, classes)
        return lambda: measure(*sets, k=metrics.K)

    return [
        Sweep(
            "metrics_by_images",
            "all metrics of 500 distilled images of 10 classes",
            "real images",
            (500, 1000, 2000) if scale.quick else (2500, 5000, 10_000, 20_000),
            lambda size: build(size, 500, 10),
            expected=2.0,
        ),
        Sweep(
            "metrics_by_classes",
            "all metrics of as many real images as 20 a class, and 6 distilled ones",
            "classes",
            (10, 20, 40) if scale.quick else (50, 100, 200, 400),
            lambda size: build(20 * size, 6 * size, size),
            expected=2.0,
        ),
    ]


def _gaussian_by_width(scale: Scale) -> Sweep:
    def build(width: int) -> Callable[[], object]:
        x = scale.randn(10, 10, width).requires_grad_()
        mean, covariance = scale.randn(10, width, seed=1), scale.randn(10, width, width, seed=2)
        square = covariance.square().sum((1, 2))

        def call() -> object:
            value = gaussian_alignment(x, mean, covariance, class_cov_square=square).sum()
            return torch.autograd.grad(value + covariance_regularizer(x).sum(), x)

        return call

    return Sweep(
        "gaussian_by_width",
        "DEDA's Gaussian alignment and regularizer of 10 classes x 10 rows, both ways",
        "width of the features",
        (64, 128, 256) if scale.quick else (256, 512, 1024, 2048),
        build,
        expected=2.0,
    )
