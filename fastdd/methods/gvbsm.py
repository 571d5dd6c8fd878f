"""G-VBSM (Shao et al., CVPR 2024): statistics of all convolutions and BatchNorms of several networks in turn.

    L = CE + r sum_l w_l ||statistics of the real images - s_l||_2 + KL of each class's spectrum
    w_first = 10

recover/terms/convolution.py computes the two terms. A batch has 100 images in order of class: with 10 images
a class these are 10 classes, with 50 they are 2. METHOD is the CIFAR-10 script with 10 images a class. Its
five teachers are a ResNet-18, a ConvNet of width 128, a MobileNetV2 of half the width, a WRN-16-2 and a
ShuffleNetV2 0.5, one a step in turn; a single teacher takes all steps. Students learn the mean of all
teachers' logits. The ConvNet has three blocks on Tiny-ImageNet too. All released teachers are squeezed for 5
epochs on CIFAR-10 and 50 on CIFAR-100, at a constant learning rate; here the ResNet-18 is the data set's,
which serves all methods, and the others are squeezed as released.

At 32 pixels three things differ from the released code. The real statistics are those of the images
themselves, in the mean over all orders of the mini-batches, and not those of one pass over random crops
(bank/class_statistics.py). The running averages do not continue from one batch to the next
(recover/terms/convolution.py). Grey levels are rounded.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, members, register_method

METHOD = {
    "title": paper("G-VBSM"),
    "init": paper("noise"),
    "batch": {"classes": code(10), "slots": code(10)},
    "augment": {"pad": code(4), "flip": code(0.5), "roll": code([0, 32])},
    "ensemble": paper("round_robin"),
    "terms": {
        "ce": {"weight": paper(1.0)},
        "conv": {
            "weight": code(0.01),
            "first": code(10.0),
            "patch": code(4),
            "drop": code(0.4),
            "momentum": code(0.8),
            "start": code("zero"),
            "real_batch": code(64),
            "category": ours(0.0),
        },
        "nuc": {"weight": code(1.0), "tau": code(4.0)},
    },
    "save": {"format": code("png"), "rounding": ours("round")},
    "steps": code(4000),
    "lr": code(0.05),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k")
ON: dict[str, Patch] = {
    "tiny": {"augment": {"pad": code(8)}},
    "imagenet1k": {
        "augment": {"pad": code(0), "scale": code([0.08, 1.0])},
        "terms": {"conv": {"patch": code(16), "drop": code(0.0), "momentum": code(0.4)}},
        "save": {"format": ours("png")},
        "lr": code(0.1),
    },
}

NETWORKS = "convnet3 mobilenet_v2_half wrn_16_2 shufflenet_v2_x0_5_small"
CONSTANT = {"batch": code(64), "lr": code(0.05), "schedule": code("constant"), "weight_decay": code(0.0)}
CIFAR10, CIFAR100 = {"epochs": code(5), **CONSTANT}, {"epochs": code(50), **CONSTANT}
"""how the further teachers are squeezed"""
TINY = {
    "epochs": code(50),
    "batch": code(128),
    "lr": code(0.1),
    "schedule": code("cosine"),
    "warmup": code(0.0),
    "weight_decay": code(0.0),
    "scale": code(None),
    "pad": code(8),
}
COMMITTEE = {
    "cifar10": members("code", NETWORKS, 0.4, CIFAR10),
    "cifar100": members("code", NETWORKS, 0.2, CIFAR100),
    "tiny": members("code", NETWORKS.replace("convnet3", "convnet3_64"), 0.2, TINY),
    "imagenet1k": members("code", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5"),
    "imagenette": members("ours", "mobilenet_v2 efficientnet_b0 shufflenet_v2_x0_5", 0.6),
}


def at(dataset: str | None, ipc: int) -> Patch:
    """A batch has 100 images in order of class (ImageNet-1K: 80), in whole classes if a class fits."""
    size = 80 if dataset == "imagenet1k" else 100
    source = code if size % ipc == 0 or ipc % size == 0 else ours
    return {"batch": {"classes": source(max(1, size // ipc)), "slots": source(min(size, ipc))}}


PROTOCOLS = {
    "cifar10": code("gvbsm-cifar10"),
    "cifar100": code("gvbsm-cifar100"),
    "tiny": code("gvbsm-tiny"),
    "imagenet1k": code("gvbsm-imagenet"),
}

LABELS = {"teachers": code("all")}

register_method(
    "gvbsm", Declaration(METHOD, SCRIPTS, ON, at, committee=COMMITTEE, protocol_on=PROTOCOLS, labels=LABELS)
)
