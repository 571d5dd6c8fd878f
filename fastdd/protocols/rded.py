"""RDED's post-training, and DELT's, which has RandAugment in place of shuffled patches.

Half a cosine, which ends at one half of the learning rate; a batch by the images a class, and a learning rate
by the student (rules.py). RDED's mosaics are of 2 x 2 patches at 224 pixels and of one patch at 32 and 64,
where the crop of a share of 1 is the whole image. Every tenth epoch is tested, and with RDED the last fifth
alone counts.
"""

from ..config.sources import code, ours
from .registry import register_protocol

SHARED = {
    "epochs": code(300),
    "batch": code("by_ipc"),
    "optimizer": code("adamw"),
    "lr": code("by_network"),
    "weight_decay": code(0.01),
    "decay_norms": code(False),
    "schedule": code("cosine"),
    "stretch": code(2.0),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "temperature": code(20.0),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": code(10),
    "reported": code("best"),
}

RDED = {
    **SHARED,
    "network": code("resnet18"),
    "shuffle_patches": code(2),
    "scale": code([0.5, 1.0]),
    "best_from": code(0.8),
}
RDED_SMALL = {
    **SHARED,
    "network": code("resnet18_small"),
    "shuffle_patches": code(1),
    "scale": code([1.0, 1.0]),
    "best_from": code(0.8),
}

DELT = {
    **SHARED,
    "network": code("resnet18"),
    "scale": code([0.25, 1.0]),
    "seeds": code(3),
    "randaugment": {
        "table": code("timm"),
        "operations": code(2),
        "magnitude": code(6.0),
        "deviation": code(1.0),
        "probability": code(0.5),
    },
}
DELT_SMALL = {**DELT, "network": ours("resnet18_small")}

register_protocol("rded", RDED)
register_protocol("rded-small", RDED_SMALL)
register_protocol("delt", DELT)
register_protocol("delt-small", DELT_SMALL)
