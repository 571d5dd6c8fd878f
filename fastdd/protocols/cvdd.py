"""CV-DD's and SRe2L++'s post-training: small batches, and a teacher that normalizes by their statistics.

The released labels were stored, of halves of 8 images each; here the teacher sees the whole batch of 16.
``stretch`` is the papers' eta, which depends on the data set and on the images a class (methods/sre2lpp.py).

HALD's post-training (ICML 2026): soft labels, then hard ones, then soft ones again.

One AdamW and one cosine run through 75 epochs with soft labels, 150 with hard ones and 75 with soft ones.
Hard labels are smoothed by 0.8, so that a fifth is left on the class, and mixed as the images are. Released
labels are stored ones of a teacher in train mode, for 150 / IPC epochs, and seen again and again; here the
teacher labels online unless ``student.labels=stored`` is set, for example with ``labels: {per: view, epochs:
15, replay: once}`` at 10 images a class. ``stretch`` is FADRM's eta for 1 and 10 images a class; 50 have 1.
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

HALD_IMAGENET = {
    **CVDD_IMAGENET,
    "stretch": code(2.0),
    "label_stages": code([["soft", 0.25], ["hard", 0.5], ["soft", 0.25]]),
    "hard_smoothing": code(0.8),
    "test_every": code(10),
    "reported": code("best"),
}

register_protocol("hald-imagenet", HALD_IMAGENET)
