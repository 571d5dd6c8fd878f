"""INFER (Zhang et al., ICLR 2025): an offset for each slot and teacher that real images of all classes share.

    x = real + u,   L = CE + r_bn BN,   Adam moves u alone

A batch is one image of every class. recover/plan.py says what IPC means and how many images are stored.
METHOD is the CIFAR script. The released code drops one BatchNorm of its third teacher; we match all. No
script was released for Tiny-ImageNet, so it takes CIFAR's weight of the statistics and ImageNet's crops and
steps.

On CIFAR four teachers, squeezed alike, have offsets and label: a ResNet-18, a MobileNetV2, an EfficientNet-B0
and a ShuffleNet with two groups. The second and third are torchvision's with the small-image stem; the
released ones differ by some 1x1 convolutions (2.30 and 3.60 against 2.24 and 4.02 million parameters).

DiRe's authors add their terms to INFER, but released no code of that. With ``--add dire`` a batch has several
slots of every class, and each slot keeps its own offset.
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
SMALL = "mobilenet_v2_small efficientnet_b0_small shufflenet_g2"
COMMITTEE = {
    "cifar10": members("code", SMALL, 0.7),
    "cifar100": members("code", SMALL, 0.4),
    "tiny": members("ours", SMALL, 0.3),
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
