"""DM (Zhao and Bilen, WACV 2023): means of the features of each class, through random networks.

    L = sum_c || mean f(a_c R_c) - mean f(a_c S_c) ||^2

f is the input of the last layer of a ConvNet with new random weights at every step, R_c are 256 real images
of class c, S_c its synthetic ones, and a_c is one draw of differentiable augmentation for both. METHOD is the
released script, the same on all data sets. Images are clipped at every step, and stored in 8 bits: the
released code does neither.

The learning rate acts on normalized images, as in all methods of this family. The released scripts divide by
CIFAR-10's standard deviation, 0.2023 for red. Our teacher of CIFAR-10 divides by 0.229, so that the same rate
makes steps that are (0.229 / 0.2023)^2 = 1.28 times as large in grey levels.
"""

from __future__ import annotations

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("DM"),
    "init": paper("real"),
    "batch": {"classes": ours(1), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": {
        "features": {"layers": paper("last"), "map": paper("mean")},
        "networks": {"network": paper("convnet"), "steps": paper(1), "real": paper(256)},
        "siamese": {"operations": code(["color", "crop", "cutout", "flip", "scale", "rotate"])},
    },
    "steps": code(20_000),
    "optimizer": paper("sgd"),
    "lr": code(1.0),
    "schedule": code("constant"),
    "momentum": code(0.5),
}


def at(dataset: str | None, ipc: int) -> Patch:
    """What the number of images a class changes: the gradient of an image falls with it."""
    return {"lr": code(10.0)} if dataset == "cifar10" and ipc >= 100 else {}


SCRIPTS = ("cifar10", "cifar100", "tiny")
register_method("dm", Declaration(METHOD, SCRIPTS, at=at, protocol=code("dsa")))
