"""LPLD (Xiao and He, NeurIPS 2024): one class a batch, and BatchNorm statistics of that class.

The statistics of a class's images are matched to those of its real images, which the bank holds. The released
ones are running averages over mini-batches that hold about one image of a class, so they lack the variance
between images (``bn.target: class_running``); the paper speaks of the statistics of the class, which is our
default. METHOD is the Tiny-ImageNet script, but with 1,000 instead of 4,000 steps and without its limit of
100 images a batch; the paper has no set of 32-pixel images.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("LPLD"),
    "init": paper("noise"),
    "batch": {"classes": paper(1), "slots": code("all")},
    "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([-4, 4])},
    "terms": {
        "ce": {"weight": paper(1.0)},
        "bn": {"weight": code(0.05), "first": code(10.0), "target": paper("class")},
    },
    "steps": ours(1000),
    "lr": code(0.1),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {"batch": {"slots": code(100)}, "steps": code(4000)},
    "imagenet1k": {
        "augment": {"roll": code([0, 32])},
        "terms": {"bn": {"weight": code(0.01)}},
        "steps": code(4000),
        "lr": code(0.25),
    },
}

PROTOCOLS = {"tiny": code("lpld-tiny"), "imagenet1k": code("lpld-imagenet")}

register_method("lpld", Declaration(METHOD, SCRIPTS, ON, protocol_on=PROTOCOLS))
