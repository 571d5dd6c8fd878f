"""DWA (Du et al., NeurIPS 2024): each batch perturbs the teacher's weights, and variances weigh more.

Before the first step of a batch the teacher's weights climb the cross-entropy of that batch by at most rho
(recover/perturb.py). The norm of the variances has the factor 11. Images start from real ones. METHOD is the
CIFAR scripts. Two things differ in the released code, and each is a switch: it never restores the teacher's
weights (``perturb.restore: false``), and the images' first gradient also holds those of the K ascents
(``perturb.accumulate: true``), which moves the first step by 0.3 of its length.
"""

from ..config.sources import code, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("DWA"),
    "init": code("real"),
    "batch": {"classes": code(100), "slots": code(1)},
    "augment": {"scale": code(None), "flip": code(0.0), "roll": code([0, 4])},
    "terms": {
        "ce": {"weight": paper(1.0)},
        "bn": {"weight": code(0.01), "first": code(10.0), "variance": code(11.0)},
    },
    "perturb": {"steps": paper(12), "rho": paper(0.015), "restore": paper(True), "accumulate": paper(False)},
    "steps": code(1000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {
        "batch": {"classes": code(200)},
        "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 4])},
        "steps": code(2000),
        "lr": code(0.1),
    },
    "imagenet1k": {
        "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 32])},
        "terms": {"bn": {"variance": code(2.0)}},
        "perturb": {"steps": code(15)},
        "steps": code(2000),
    },
}

PROTOCOLS = {
    "cifar10": code("dwa-cifar"),
    "cifar100": code("dwa-cifar"),
    "tiny": code("dwa-tiny"),
    "imagenet1k": code("dwa-imagenet"),
}

register_method("dwa", Declaration(METHOD, SCRIPTS, ON, protocol_on=PROTOCOLS))
