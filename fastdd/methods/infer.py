"""INFER (Zhang et al., ICLR 2025): an offset that real images of all classes share, one for each slot and teacher.

    x = real + u,   L = CE + r_bn BN,   on u alone

A batch is one image of every class. What IPC means, and how many images are stored, see recover/plan.py. METHOD is
the CIFAR script. The released code drops one BatchNorm of its third teacher; all are matched here. On Tiny-ImageNet,
for which there is no script: CIFAR's weight of the statistics, and the crops and steps of ImageNet.
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

register_method("infer", Declaration(METHOD, SCRIPTS, ON, committee=COMMITTEE))
