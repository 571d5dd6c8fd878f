"""IDC's evaluation: a ConvNet on the classes of the images, with Siamese augmentation and CutMix.

On CIFAR-10 every batch is flipped and colored and has one of crop, zoom and rotation; cutout is left out
beside CutMix. On CIFAR-100 images are cropped and flipped as usual. Half of the batches are mixed. Released
targets have the ratio of the clipped box; here it is the drawn ratio. The code prints the last accuracy and
the best of four.
"""

from ..config.sources import code, ours
from .registry import register_protocol

SHARED = {
    "network": code("convnet"),
    "epochs": code(1000),
    "batch": code(64),
    "optimizer": code("sgd"),
    "lr": code(0.01),
    "momentum": code(0.9),
    "weight_decay": code(5e-4),
    "decay_norms": code(True),
    "schedule": code("multistep"),
    "milestones": code([0.666, 0.833]),
    "milestone_factor": code(0.2),
    "lr_interval": code("epoch"),
    "labels": code("hard"),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "mix_probability": code(0.5),
    "flip": code(0.5),
    "evaluations": code(4),
    "reported": ours("last"),
}
CIFAR10 = {
    **SHARED,
    "pad": code(0),
    "siamese": code(["crop", "scale", "rotate"]),
    "siamese_always": code(["color"]),
}
CIFAR100 = {**SHARED, "pad": code(4), "pad_color": code("black")}

register_protocol("idc", CIFAR10)
register_protocol("idc-cifar100", CIFAR100)
