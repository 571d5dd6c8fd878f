"""CIM's evaluation: the teacher's logits of cells of mosaics, each image with its own Siamese augmentation.

A pass goes through the stored images: at three times in four a student sees one of an image's four cells,
enlarged, else the whole mosaic. The teacher labels what it sees, nothing is mixed, and the loss is the mean
squared error of logits. The batch is by the number of stored images (rules.py), the rate by the network. The
student has the teacher's architecture: a ResNet-18, in its form for small images up to 64 pixels. The
released code draws for each image its operation of crop, scale and rotation; here a batch has one.
"""

from ..config.sources import code, ours
from .registry import register_protocol

CIM = {
    "network": code("resnet18_small"),
    "epochs": code(1000),
    "batch": code("by_images"),
    "optimizer": code("adamw"),
    "lr": code("by_network"),
    "weight_decay": code(1e-4),
    "decay_norms": code(True),
    "schedule": code("multistep"),
    "milestones": code([2 / 3, 5 / 6]),
    "milestone_factor": code(0.2),
    "lr_interval": code("epoch"),
    "labels": code("online"),
    "teacher_mode": code("eval"),
    "loss": code("mse"),
    "per_epoch": code("stored"),
    "whole": code(0.25),
    "pad": code(0),
    "flip": code(0.0),
    "siamese": ours(["crop", "scale", "rotate"]),
    "siamese_always": code(["flip", "color", "cutout"]),
    "mix": code("none"),
    "evaluations": code(4),
    "reported": code("best"),
    "seeds": code(3),
}

register_protocol("cim", CIM)
register_protocol("cim-imagenette", {**CIM, "network": code("resnet18")})
register_protocol("cim-imagenet", {**CIM, "network": code("resnet18"), "epochs": code(300)})
