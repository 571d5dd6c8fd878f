"""CV-DD's and SRe2L++'s post-training: small batches, and a teacher that normalizes by their statistics.

The released labels were stored, of halves of 8 images each; here the teacher sees the whole batch of 16.
``stretch`` is the papers' eta, which depends on the data set and on the images a class (methods/sre2lpp.py).
"""

from ..config.sources import code, ours
from .registry import register_protocol

CVDD = {
    "network": code("resnet18_small"),
    "epochs": code(300),
    "batch": code(16),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "decay_norms": code(False),
    "schedule": code("cosine"),
    "stretch": code(1.0),
    "lr_interval": code("epoch"),
    "labels": ours("online"),
    "teacher_mode": code("train"),
    "temperature": code(20.0),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": ours(50),
    "reported": code("last"),
}
CVDD_IMAGENET = {**CVDD, "network": code("resnet18")}

register_protocol("cvdd", CVDD)
register_protocol("cvdd-imagenet", CVDD_IMAGENET)
