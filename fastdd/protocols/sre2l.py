"""SRe2L's post-training, and DiRe's, LPLD's and DWA's, which follow it.

CIFAR: AdamW on everything, MixUp, T = 30, and a teacher that was never put in eval mode; the image is padded
before it is normalized, so with black. Tiny-ImageNet: SGD with torchvision's warm-up of 5 epochs, and a
divergence times T^2, which its log-target form does not change. ImageNet: AdamW with decay of weights alone,
CutMix, T = 20.

The ImageNet labels of SRe2L and LPLD were stored, one for each view of each epoch (FKD); ``labels: online``
is the same but for fp16 and for LPLD's pruning.
"""

from ..config.sources import code, ours
from .registry import register_protocol

CIFAR = {
    "network": code("resnet18_small"),
    "epochs": code(400),
    "batch": code(128),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "decay_norms": code(True),
    "schedule": code("cosine"),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("train"),
    "temperature": code(30.0),
    "pad": code(4),
    "pad_color": code("black"),
    "flip": code(0.5),
    "mix": code("mixup"),
    "mix_alpha": code(0.8),
    "test_every": ours(50),
    "reported": code("last"),
}

TINY = {
    "network": code("resnet18_small"),
    "epochs": code(100),
    "batch": code(256),
    "optimizer": code("sgd"),
    "lr": code(0.2),
    "momentum": code(0.9),
    "weight_decay": code(1e-4),
    "schedule": code("cosine"),
    "warmup": code(5 / 100),
    "warmup_start": code(0.01),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "temperature": code(20.0),
    "t_squared": code(True),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("none"),
    "test_every": ours(10),
    "reported": code("last"),
}

IMAGENET = {
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(1024),
    "accumulate": code(2),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "decay_norms": code(False),
    "schedule": code("cosine"),
    "lr_interval": code("epoch"),
    "labels": ours("online"),
    "teacher_mode": code("eval"),
    "temperature": code(20.0),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": code(10),
    "reported": code("best"),
}

DIRE = {**CIFAR, "test_every": code(1), "best_from": code(0.5), "reported": code("best"), "seeds": code(5)}

LPLD_IMAGENET = {**IMAGENET, "batch": code(128), "accumulate": code(1)}
LPLD_TINY = {**TINY, "batch": code(64), "reported": code("best")}

DWA_CIFAR = {**CIFAR, "reported": code("best")}
DWA_TINY = {
    **TINY,
    "epochs": code(200),
    "batch": code(64),
    "warmup": code(5 / 200),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "reported": code("best"),
}
DWA_IMAGENET = {**IMAGENET, "batch": code(128), "accumulate": code(1), "labels": code("online")}

register_protocol("sre2l-cifar", CIFAR)
register_protocol("sre2l-tiny", TINY)
register_protocol("sre2l-imagenet", IMAGENET)
register_protocol("dire", DIRE)
register_protocol("lpld-tiny", LPLD_TINY)
register_protocol("lpld-imagenet", LPLD_IMAGENET)
register_protocol("dwa-cifar", DWA_CIFAR)
register_protocol("dwa-tiny", DWA_TINY)
register_protocol("dwa-imagenet", DWA_IMAGENET)
