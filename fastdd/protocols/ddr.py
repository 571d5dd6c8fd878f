"""DD-Ranking's students, for hard labels on CIFAR-10 and for soft labels on ImageNet-1K.

The released metrics train with five learning rates and take the best of all of them and of all test passes,
both on the test set. Here there is one rate, for hard labels that of the released configuration (0.01); the
one for soft labels names none, so its rate is ours. The number is the accuracy after the last epoch. Hard
labels: the rate falls to a tenth half-way (StepLR). Soft labels: the schedule stops half-way down its cosine.
An earlier configuration crops 64 pixels for a network of 224; here crops have the images' size.
"""

from ..config.sources import code, ours
from .dsa import SIAMESE
from .registry import register_protocol

HARD = {
    **SIAMESE,
    "epochs": code(1000),
    "batch": code(128),
    "milestones": code([0.5]),
    "restart_momentum": code(False),
    "reported": ours("last"),
    "seeds": code(5),
}
SOFT = {
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(1024),
    "optimizer": code("adamw"),
    "lr": ours(1e-3),
    "weight_decay": code(0.01),
    "decay_norms": code(True),
    "schedule": code("cosine"),
    "stretch": code(2.0),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "temperature": code(1.0),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "evaluations": ours(1),
    "reported": ours("last"),
    "seeds": code(5),
}

register_protocol("ddr-hard", HARD)
register_protocol("ddr-soft", SOFT)
