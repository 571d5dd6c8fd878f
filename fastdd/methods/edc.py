"""EDC (Shao et al., NeurIPS 2024): G-VBSM from real images, with the statistics of the batch's own classes.

    L = CE + r sum_l w_l (||real - s_l||_2 + ||category - s_l||_2) / 2        w_first = 10

The statistics of a category (a class) are the mean over its images of the mean and variance in one image;
those of a batch are the mean over its categories. No layer is dropped, and there is neither the spectrum term
nor a roll. The released files swap mean and variance of the category's patches (``conv.swap``).

METHOD is the CIFAR-10 script, except for the steps: that script has 75 for 1 image a class, and 2000 is the
CIFAR-100 script's number. Its eight teachers are G-VBSM's five and ConvNets of depth 1, depth 2 and width 32,
squeezed as G-VBSM's. All label for the students; the released CIFAR-100 script has the first five do so.
The CIFAR-10 script writes JPEG, the CIFAR-100 script PNG. Batches are G-VBSM's. Images of 224 pixels start as
RDED's. Imagenette takes the settings that were released for ten other classes of ImageNet.
"""

from ..config.sources import code, ours, paper
from . import gvbsm
from .declaration import Declaration, Patch, members, register_method

METHOD = {
    "title": paper("EDC"),
    "init": paper("real"),
    "batch": {"classes": code(10), "slots": code(10)},
    "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 0])},
    "ensemble": paper("round_robin"),
    "terms": {
        "ce": {"weight": paper(1.0)},
        "conv": {
            "weight": code(0.01),
            "first": code(10.0),
            "patch": code(4),
            "drop": code(0.0),
            "momentum": code(0.8),
            "start": code("zero"),
            "real_batch": code(64),
            "category": code(0.5),
            "swap": ours(False),
        },
    },
    "save": {"format": code("png"), "rounding": ours("round")},
    "steps": code(2000),
    "lr": code(0.05),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "cifar100": {"augment": {"scale": code([0.5, 1.0])}},
    "tiny": {"augment": {"scale": code([0.5, 1.0])}},
    "imagenet1k": {
        "init": code("rded"),
        "augment": {"scale": code([0.5, 1.0])},
        "terms": {"conv": {"weight": code(0.1), "patch": code(16)}},
        "save": {"format": ours("png")},
        "steps": code(1000),
    },
    "imagenette": {
        "init": code("rded"),
        "augment": {"scale": code([0.5, 1.0])},
        "terms": {"conv": {"patch": code(16), "momentum": code(0.0)}},
        "steps": code(50),
    },
}

NETWORKS = f"{gvbsm.NETWORKS} convnet1_32 convnet2_32 convnet3_w32"
COMMITTEE = {
    "cifar10": members("code", NETWORKS, 0.4, gvbsm.CIFAR10),
    "cifar100": members("code", NETWORKS, 0.15, gvbsm.CIFAR100),
    "tiny": gvbsm.COMMITTEE["tiny"],
    "imagenet1k": {
        **members("code", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5"),
        "alexnet": {"network": code("alexnet"), "lr": ours(0.01)},  # 0.1 is too much without BatchNorm
    },
    "imagenette": members("ours", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5", 0.6),
}


def at(dataset: str | None, ipc: int) -> Patch:
    """Batches are G-VBSM's; the CIFAR-10 script, which is for one image a class, has 75 steps."""
    few = {"steps": code(75)} if (dataset, ipc) == ("cifar10", 1) else {}
    return {**gvbsm.at(dataset, ipc), **few}


PROTOCOLS = {
    "cifar10": code("edc-cifar10"),
    "cifar100": code("edc-cifar100"),
    "tiny": code("edc-tiny"),
    "imagenet1k": code("edc-imagenet"),
    "imagenette": ours("edc-imagenet10"),
}

register_method(
    "edc",
    Declaration(METHOD, SCRIPTS, ON, at, committee=COMMITTEE, protocol_on=PROTOCOLS, labels=gvbsm.LABELS),
)
