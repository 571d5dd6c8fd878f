"""GIFT's evaluation (ICLR 2025): the cosine between the student's logits and the teacher's, with the classes.

The teacher labels each augmented image; nothing is mixed and nothing has a temperature. The released batch is
10, 50, 100 or 200 images for sets of up to 10, 500, 20,000 or more images, and it trains for 1000 epochs, 300
on ImageNet-1K, of which the values here are. Each image has operations of Siamese augmentation of its own in
the released code, here those of its batch; that one cell of RDED's mosaics is enlarged is left out.
"""

from ..config.sources import code, ours
from .registry import register_protocol

GIFT = {
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(100),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(1e-4),
    "decay_norms": code(True),
    "schedule": code("multistep"),
    "milestones": code([2 / 3, 5 / 6]),
    "milestone_factor": code(0.2),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "loss": code("cosine"),
    "hard_part": code(0.1),
    "hard_smoothing": code(0.1),
    "pad": code(0),
    "flip": code(0.5),
    "siamese": ours(["crop", "scale", "rotate"]),
    "siamese_always": ours(["color", "cutout"]),
    "mix": code("none"),
    "evaluations": code(4),
    "reported": code("best"),
    "seeds": code(3),
}

register_protocol("gift", GIFT)
