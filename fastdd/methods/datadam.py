"""DataDAM (Sajedi et al., ICCV 2023): attention maps of each class, through random networks.

    A_l(x) = sum over channels of |f_l(x)|^p, as a vector of length 1
    L = 100 (sum_l sum_c || mean A_l(a_c R_c) - mean A_l(a_c S_c) ||^2
             + 0.01 sum_c || mean f(a_c R_c) - mean f(a_c S_c) ||^2)

The layers l are the outputs of all ReLUs but the last, and f is the input of the last layer, so the last term
is DM's. METHOD is the released code, whose exponent p is 1; the paper says 4. It also starts from images that
were shipped as files; real ones take their place. The values for Tiny-ImageNet are not in the code.
"""

from __future__ import annotations

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("DataDAM"),
    "init": paper("real"),
    "batch": {"classes": ours(1), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": {
        "features": {
            "layers": paper("relu"),
            "map": paper("attention"),
            "power": code(1.0),
            "weight": code(100.0),
            "output": code(1.0),
        },
        "networks": {"network": paper("convnet"), "steps": paper(1), "real": code(64)},
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
    return {"lr": code(10.0)} if ipc >= 100 else {}


register_method("datadam", Declaration(METHOD, ("cifar10", "cifar100"), at=at, protocol=code("datadam")))
