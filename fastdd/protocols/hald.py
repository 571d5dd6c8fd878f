"""HALD's post-training (ICML 2026): soft labels, then hard ones, then soft ones again.

One AdamW and one cosine run through 75 epochs with soft labels, 150 with hard ones and 75 with soft ones.
Hard labels are smoothed by 0.8, so that a fifth is left on the class, and mixed as the images are. Released
labels are stored ones of a teacher in train mode, for 150 / IPC epochs, and seen again and again; here the
teacher labels online unless ``student.labels=stored`` is set, for example with ``labels: {per: view, epochs:
15, replay: once}`` at 10 images a class. ``stretch`` is FADRM's eta for 1 and 10 images a class; 50 have 1.
"""

from ..config.sources import code
from .cvdd import CVDD_IMAGENET
from .registry import register_protocol

IMAGENET = {
    **CVDD_IMAGENET,
    "stretch": code(2.0),
    "label_stages": code([["soft", 0.25], ["hard", 0.5], ["soft", 0.25]]),
    "hard_smoothing": code(0.8),
    "test_every": code(10),
    "reported": code("best"),
}

register_protocol("hald-imagenet", IMAGENET)
