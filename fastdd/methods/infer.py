"""INFER (Zhang et al., ICLR 2025): an offset for each slot and teacher that real images of all classes share.

    x = real + u,   L = CE + r_bn BN,   Adam moves u alone

A batch is one image of every class. recover/plan.py says what IPC means and how many images are stored.
METHOD is the CIFAR script. The released code drops one BatchNorm of its third teacher; we match all. No
script was released for Tiny-ImageNet, so it takes CIFAR's weight of the statistics and ImageNet's crops and
steps.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, members, register_method

METHOD = {
    "title": paper("INFER"),
    "init": paper("real"),
    "batch": {"classes": paper("all"), "slots": paper(1)},
    "augment": {"scale": code(None), "flip": code(0.0), "roll": code([0, 4])},
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(1.0), "first": code(10.0)}},
    "offset": {"before_last_step": code(True)},
    "steps": code(1000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {"augment": {"scale": ours([0.08, 1.0]), "flip": ours(0.5)}, "steps": ours(2000)},
    "imagenet1k": {
        "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 32])},
        "terms": {"bn": {"weight": code(0.01)}},
        "steps": code(2000),
    },
}
COMMITTEE = {
    "cifar100": members("code", "mobilenet_v2 efficientnet_b0", 0.2),
    "tiny": members("ours", "mobilenet_v2 efficientnet_b0", 0.2),
    "imagenet1k": members("code", "mobilenet_v2 efficientnet_b0"),
    "imagenette": members("ours", "mobilenet_v2 efficientnet_b0", 0.6),
}

PROTOCOLS = {  # for larger images the authors name DWA's
    "cifar10": code("infer"),
    "cifar100": code("infer"),
    "tiny": ours("dwa-tiny"),
    "imagenet1k": code("dwa-imagenet"),
}

register_method(
    "infer",
    Declaration(
        METHOD, SCRIPTS, ON, committee=COMMITTEE, protocol_on=PROTOCOLS, labels={"teachers": code("all")}
    ),
)
