"""RethinkDC's evaluation on ImageNet-1K: the same students with soft labels, with hard ones, and with SGD.

rethinkdc-soft    the teacher labels each mixed batch; KL at T = 20
rethinkdc-hard    the classes of the images, which are not mixed
rethinkdc-sgd     the same with SGD; ``student.labels=online`` has its soft variant
"""

from ..config.sources import code
from .registry import register_protocol

SOFT = {
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(128),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "decay_norms": code(False),
    "schedule": code("cosine"),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "temperature": code(20.0),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": code(50),
    "reported": code("best"),
}
HARD = {**SOFT, "labels": code("hard"), "mix": code("none")}
SGD = {
    **HARD,
    "optimizer": code("sgd"),
    "lr": code(0.1),
    "momentum": code(0.9),
    "weight_decay": code(1e-4),
    "decay_norms": code(True),
}

register_protocol("rethinkdc-soft", SOFT)
register_protocol("rethinkdc-hard", HARD)
register_protocol("rethinkdc-sgd", SGD)
