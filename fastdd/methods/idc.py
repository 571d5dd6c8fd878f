"""IDC (Kim et al., ICML 2022): gradients of networks that learn from real images; several images in one.

    L = sum_c sum of the squares of (gradient on S_c - gradient on R_c), of the weights of convolutions

A network serves 100 steps; between two of them it learns from 2000 real images, half of the batches mixed by
CutMix. Color, crop and cutout are drawn for each class in each step, all three. METHOD is the released code's
settings for its tables. A stored image is four tiles, or nine with images of 224 pixels, which are enlarged
(``formation``); it starts as a collage of random real images.

IDC's rate, 0.005 at 10 images a class, is of colors in [0, 1]. For normalized images it is divided by the
square of the standard deviation, 0.226 on average: 0.098.
"""

from __future__ import annotations

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

RATE = 0.005 / 0.226**2
METHOD = {
    "title": paper("IDC"),
    "init": code("real"),
    "batch": {"classes": ours("all"), "slots": paper("all")},
    "augment": {"roll": code([0, 0])},
    "terms": {"ce": code(None)},
    "match": {
        "gradients": {"metric": code("mse"), "convolutions_only": code(True), "synthetic": code(128)},
        "networks": {
            "network": paper("convnet"),
            "steps": code(100),
            "real": code(64),
            "inner": {
                "on": paper("real"),
                "epochs": code(1),
                "images": code(2000),
                "lr": code(0.01),
                "momentum": code(0.9),
                "weight_decay": code(5e-4),
                "batch": code(64),
                "mix": paper("cutmix"),
            },
        },
        "siamese": {"operations": code(["color", "crop", "cutout"]), "together": code(True)},
    },
    "formation": {"kind": paper("zoom"), "images": paper(4)},
    "steps": code(200_000),
    "optimizer": paper("sgd"),
    "schedule": code("constant"),
    "momentum": code(0.5),
}
ON: dict[str, Patch] = {"imagenet1k": {"formation": {"images": paper(9)}}}


def at(dataset: str | None, ipc: int) -> Patch:
    """The rate grows with the images a class and with the pixels, as in the code."""
    pixels = 4 if dataset == "tiny" else 1
    return {"lr": ours(round(RATE * ipc / 10 * pixels, 4))}


register_method(
    "idc",
    Declaration(
        METHOD,
        ("cifar10", "cifar100"),
        ON,
        at=at,
        protocol=code("idc"),
        protocol_on={"cifar100": code("idc-cifar100")},
    ),
)
