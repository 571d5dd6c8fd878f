"""The presets of fastdd: those of the papers' released code, and its own.

A section begins with a text, which says what the values leave open; a section of the documentation's page of
protocols is made from each.
"""

from __future__ import annotations

from ..config.sources import Sourced, code, ours, paper
from .registry import register_protocol

"""CIM's evaluation: the teacher's logits of cells of mosaics, each image with its own Siamese augmentation.

A pass goes through the stored images: at three times in four a student sees one of an image's four cells,
enlarged, else the whole mosaic. The teacher labels what it sees, nothing is mixed, and the loss is the mean
squared error of logits. The batch is by the number of stored images (rules.py), the rate by the network. The
student has the teacher's architecture: a ResNet-18, in its form for small images up to 64 pixels. The
released code draws for each image its operation of crop, scale and rotation; here a batch has one.
"""

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

"""DC's, DSA's, DM's, CAFE's, DataDAM's and MTT's evaluation: a ConvNet on the classes of the images.

One loop (``evaluate_synset`` of DC's released code) trains for E + 1 passes over the set. After pass
E // 2 + 1, counted from 0, it divides the learning rate by ten and makes a new optimizer, which has no
momentum. With E = 1000 the first pass at the lower rate is pass 502 of 0 to 1000. The milestone is the same
part of a training of another length. Each batch has one operation of Siamese augmentation, but for DC and
CAFE, and nothing else. The network is convnet3 for 32 pixels and convnet4 for 64.

DataDAM's released ConvNet has BatchNorm; the paper's network, with InstanceNorm, is taken. MTT's students
have the learning rate that was learned with the images.
"""


def _length(released: int) -> dict[str, Sourced]:
    """Passes over the set and the milestone, for the released E."""
    passes = released + 1
    return {"epochs": code(passes), "milestones": code([(released // 2 + 2) / passes])}


CONVNET = {
    "network": code("convnet"),
    "batch": code(256),
    "optimizer": code("sgd"),
    "lr": code(0.01),
    "momentum": code(0.9),
    "weight_decay": code(5e-4),
    "decay_norms": code(True),
    "schedule": code("multistep"),
    "milestone_factor": code(0.1),
    "restart_momentum": code(True),
    "lr_interval": code("epoch"),
    "labels": code("hard"),
    "pad": code(0),
    "flip": code(0.0),
    "mix": code("none"),
    "evaluations": code(1),
    "reported": code("last"),
}
DC = {**CONVNET, **_length(300)}
CAFE = {**CONVNET, **_length(600)}

SIAMESE = {**CONVNET, "siamese": code(["color", "crop", "cutout", "flip", "scale", "rotate"])}
DSA = {**SIAMESE, **_length(1000)}
DATADAM = {**SIAMESE, **_length(1800), "network": paper("convnet"), "batch": code(64)}
MTT = {**DSA, "lr": code("learned")}

register_protocol("dc", DC)
register_protocol("cafe", CAFE)
register_protocol("dsa", DSA)
register_protocol("datadam", DATADAM)
register_protocol("mtt", MTT)

"""DD-Ranking's students, for hard labels on CIFAR-10 and for soft labels on ImageNet-1K.

The released metrics train with five learning rates and take the best of all of them and of all test passes,
both on the test set. Here there is one rate, for hard labels that of the released configuration (0.01); the
one for soft labels names none, so its rate is ours. The number is the accuracy after the last epoch. Hard
labels: the rate falls to a tenth half-way (StepLR). Soft labels: the schedule stops half-way down its cosine.
An earlier configuration crops 64 pixels for a network of 224; here crops have the images' size.
"""

DDR_HARD = {
    **SIAMESE,
    "epochs": code(1000),
    "batch": code(128),
    "milestones": code([0.5]),
    "restart_momentum": code(False),
    "reported": ours("last"),
    "seeds": code(5),
}
DDR_SOFT = {
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

register_protocol("ddr-hard", DDR_HARD)
register_protocol("ddr-soft", DDR_SOFT)

"""FADRM's and FADRM+'s post-training: small batches in two parts.

The teachers label the mixed batch in the same parts, in train mode, or in eval mode with the one teacher of
Tiny-ImageNet (methods/fadrm.py). The released labels were stored, one for each view of each epoch;
``labels: online`` is the same but for fp16. Learning rate and eta, the stretch of the cosine, depend on the
data set, the student and the images a class, and each has a preset: ``fadrm-cifar100`` is for a ResNet-18 at
10 images a class, ``fadrm-cifar100-resnet50-ipc1`` for a ResNet-50 at 1. Those of CIFAR-10 are CIFAR-100's.
"""

FADRM = {
    "network": code("resnet18_small"),
    "epochs": code(300),
    "batch": code(16),
    "accumulate": code(2),
    "optimizer": code("adamw"),
    "weight_decay": code(0.01),
    "decay_norms": code(False),
    "schedule": code("cosine"),
    "lr_interval": code("epoch"),
    "labels": ours("online"),
    "teacher_mode": code("train"),
    "temperature": code(20.0),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": code(10),
    "reported": code("best"),
}

FadrmRates = dict[str, dict[int, tuple[float, float]]]
"""network, without the ending of those for small images -> images a class -> (learning rate, eta)"""
FADRM_RATES: dict[str, FadrmRates] = {
    "cifar100": {
        "resnet18": {1: (5e-4, 2), 10: (1e-3, 2), 50: (1e-3, 1)},
        "resnet50": {1: (1e-3, 1), 10: (1e-3, 2), 50: (1e-3, 1)},
        "resnet101": {1: (5e-4, 1), 10: (5e-4, 1), 50: (5e-4, 1)},
    },
    "tiny": {
        "resnet18": {1: (1e-3, 2), 10: (1e-3, 2), 50: (1e-3, 1)},
        "resnet50": {1: (5e-4, 2), 10: (5e-4, 2), 50: (5e-4, 1)},
        "resnet101": {1: (5e-4, 2), 10: (5e-4, 2), 50: (5e-4, 1)},
    },
    "imagenette": {
        "resnet18": {1: (5e-4, 2), 10: (5e-4, 1), 50: (5e-4, 2)},
        "resnet50": {1: (5e-4, 2), 10: (5e-4, 1), 50: (5e-4, 1)},
        "resnet101": {1: (5e-4, 2), 50: (1e-3, 1)},
    },
    "imagewoof": {
        "resnet18": {1: (5e-4, 2), 10: (5e-4, 1), 50: (1e-3, 2)},
        "resnet50": {1: (5e-4, 2), 10: (5e-3, 1), 50: (5e-4, 1)},
        "resnet101": {1: (1e-3, 1), 10: (5e-4, 2), 50: (5e-4, 1)},
    },
    "imagenet": {
        "resnet18": {1: (1e-3, 2), 10: (1e-3, 2), 50: (1e-3, 1)},
        "resnet50": {1: (5e-4, 2), 10: (1e-3, 2), 50: (1e-3, 1)},
        "resnet101": {1: (3.5e-3, 2), 10: (1e-3, 2), 50: (5e-4, 1)},
    },
}
"""the released rates; ResNet-101's script of Imagenette has none for 10 images a class, where it fails"""
FADRM_SETS: dict[str, dict[str, Sourced]] = {
    "cifar100": {"epochs": code(1000)},
    "tiny": {},
    "imagenette": {"batch": code(10)},
    "imagewoof": {"batch": code(10)},
    "imagenet": {},
}
"""values that the released scripts of a data set change"""


def _register_fadrm() -> None:
    for dataset, networks in FADRM_RATES.items():
        small = "_small" if dataset in ("cifar100", "tiny") else ""
        for network, by_ipc in networks.items():
            student = "" if network == "resnet18" else f"-{network}"
            for ipc, (lr, eta) in by_ipc.items():
                images = "" if ipc == 10 else f"-ipc{ipc}"
                own = {"network": code(network + small), "lr": code(lr), "stretch": code(float(eta))}
                register_protocol(
                    f"fadrm-{dataset}{student}{images}", {**FADRM, **FADRM_SETS[dataset], **own}
                )
                if dataset == "cifar100" and network == "resnet18":
                    borrowed = {"epochs": ours(1000), "lr": ours(lr), "stretch": ours(float(eta))}
                    register_protocol(f"fadrm-cifar10{images}", {**FADRM, **borrowed})


_register_fadrm()

"""GIFT's evaluation (ICLR 2025): the cosine between the student's logits and the teacher's, with the classes.

The teacher labels each augmented image; nothing is mixed and nothing has a temperature. The released batch is
10, 50, 100 or 200 images for sets of up to 10, 500, 20,000 or more images, and it trains for 1000 epochs, 300
on ImageNet-1K, of which the values here are. Each image has operations of Siamese augmentation of its own in
the released code, here those of its batch; that one cell of RDED's mosaics is enlarged is left out.
"""

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

"""G-VBSM's post-training, and EDC's: squared differences of logits, and a little cross-entropy.

The cross-entropy is with the image's own class, whatever was mixed in. Both have the mean logits of several
teachers, G-VBSM stored (FKD); here they label online, all of them in recipes DATASET-gvbsm and DATASET-edc
(``labels.teachers: all``), else the teacher of the run. EDC tests a moving average of the parameters with the
student's own BatchNorm statistics; ours averages those too.
"""

GVBSM = {
    "labels": ours("online"),
    "teacher_mode": code("eval"),
    "loss": code("mse"),
    "decay_norms": code(False),
    "lr_interval": code("epoch"),
    "scale": code([0.08, 1.0]),
    "flip": code(0.5),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "test_every": code(10),
    "reported": code("best"),
}
GVBSM_SGD = {"optimizer": code("sgd"), "lr": code(0.1), "momentum": code(0.9), "weight_decay": code(5e-4)}

GVBSM_CIFAR10 = {
    **GVBSM,
    "network": code("resnet18_small"),
    "epochs": code(1000),
    "batch": code(100),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.0),
    "schedule": code("cosine"),
    "hard_weight": code(0.15),
}
GVBSM_CIFAR100 = {
    **GVBSM,
    **GVBSM_SGD,
    "network": code("convnet3"),
    "epochs": code(1000),
    "batch": code(64),
    "schedule": code("cosine"),
    "hard_weight": code(0.15),
}
GVBSM_TINY = {
    **GVBSM,
    **GVBSM_SGD,
    "network": code("resnet18_small"),
    "epochs": code(100),
    "batch": code(100),
    "accumulate": code(2),
    "schedule": code("cosine"),
    "hard_weight": code(0.1),
}
GVBSM_IMAGENET = {
    **GVBSM,
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(1024),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": ours(0.01),
    "schedule": code("cosine"),
    "hard_weight": code(0.1),
}

EDC_RANDAUGMENT = {
    "table": code("torchvision"),
    "operations": code(2),
    "magnitude": code(3.0),
    "probability": code(1.0),
}

EDC_CIFAR10 = {
    **GVBSM,
    "network": code("resnet18_small"),
    "epochs": code(1000),
    "batch": code(10),
    "labels": code("online"),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "schedule": code("multistep"),
    "milestones": code([0.8, 0.9, 0.95]),
    "milestone_factor": code(0.5),
    "hard_weight": code(0.025),
    "ema": code(0.99),
    "randaugment": EDC_RANDAUGMENT,
    "best_from": code(0.8),
}
EDC_CIFAR100 = {
    **GVBSM,
    **GVBSM_SGD,
    "momentum": code(0.875),
    "network": code("resnet18_small"),
    "epochs": code(1000),
    "batch": code(50),
    "schedule": code("cos2"),
    "stretch": code(2.0),
    "scale": code([0.5, 1.0]),
    "hard_weight": code(0.025),
    "ema": code(0.99),
    "randaugment": EDC_RANDAUGMENT,
    "test_every": code(100),
}

EDC_TINY = {
    **EDC_CIFAR100,
    "epochs": code(300),
    "batch": code(100),
    "schedule": code("cosine"),
    "test_every": code(30),
}
EDC_IMAGENET = {
    **GVBSM,
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(100),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": code(0.01),
    "schedule": code("cosine"),
    "stretch": code(2.0),
    "scale": code([0.5, 1.0]),
    "hard_weight": code(0.025),
}
EDC_IMAGENET10 = {
    **EDC_IMAGENET,
    "epochs": code(1000),
    "test_every": code(30),
    "batch": code(50),
    "schedule": code("cos2"),
    "ema": code(0.99),
    "randaugment": EDC_RANDAUGMENT,
}

register_protocol("gvbsm-cifar10", GVBSM_CIFAR10)
register_protocol("gvbsm-cifar100", GVBSM_CIFAR100)
register_protocol("gvbsm-tiny", GVBSM_TINY)
register_protocol("gvbsm-imagenet", GVBSM_IMAGENET)
register_protocol("edc-cifar10", EDC_CIFAR10)
register_protocol("edc-cifar100", EDC_CIFAR100)
register_protocol("edc-tiny", EDC_TINY)
register_protocol("edc-imagenet", EDC_IMAGENET)
register_protocol("edc-imagenet10", EDC_IMAGENET10)

"""The house protocol: the defaults of a recipe's section ``student`` (config/student.py)."""

register_protocol("house", {})

"""IDC's evaluation: a ConvNet on the classes of the images, with Siamese augmentation and CutMix.

On CIFAR-10 every batch is flipped and colored and has one of crop, zoom and rotation; cutout is left out
beside CutMix. On CIFAR-100 images are cropped and flipped as usual. Half of the batches are mixed. Released
targets have the ratio of the clipped box; here it is the drawn ratio. The code prints the last accuracy and
the best of four.
"""

IDC = {
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
IDC_CIFAR10 = {
    **IDC,
    "pad": code(0),
    "siamese": code(["crop", "scale", "rotate"]),
    "siamese_always": code(["color"]),
}
IDC_CIFAR100 = {**IDC, "pad": code(4), "pad_color": code("black")}

register_protocol("idc", IDC_CIFAR10)
register_protocol("idc-cifar100", IDC_CIFAR100)

"""RDED's post-training, and DELT's, which has RandAugment in place of shuffled patches.

Half a cosine, which ends at one half of the learning rate; a batch by the images a class, and a learning rate
by the student (rules.py). RDED's mosaics are of 2 x 2 patches at 224 pixels and of one patch at 32 and 64,
where the crop of a share of 1 is the whole image. Every tenth epoch is tested, and with RDED the last fifth
alone counts.
"""

RDED_DELT = {
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
    **RDED_DELT,
    "network": code("resnet18"),
    "shuffle_patches": code(2),
    "scale": code([0.5, 1.0]),
    "best_from": code(0.8),
}
RDED_SMALL = {
    **RDED_DELT,
    "network": code("resnet18_small"),
    "shuffle_patches": code(1),
    "scale": code([1.0, 1.0]),
    "best_from": code(0.8),
}

DELT = {
    **RDED_DELT,
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

"""RethinkDC's evaluation on ImageNet-1K: the same students with soft labels, with hard ones, and with SGD.

rethinkdc-soft    the teacher labels each mixed batch; KL at T = 20
rethinkdc-hard    the classes of the images, which are not mixed
rethinkdc-sgd     the same with SGD; ``student.labels=online`` has its soft variant
"""

RETHINKDC_SOFT = {
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
RETHINKDC_HARD = {**RETHINKDC_SOFT, "labels": code("hard"), "mix": code("none")}
RETHINKDC_SGD = {
    **RETHINKDC_HARD,
    "optimizer": code("sgd"),
    "lr": code(0.1),
    "momentum": code(0.9),
    "weight_decay": code(1e-4),
    "decay_norms": code(True),
}

register_protocol("rethinkdc-soft", RETHINKDC_SOFT)
register_protocol("rethinkdc-hard", RETHINKDC_HARD)
register_protocol("rethinkdc-sgd", RETHINKDC_SGD)

"""SRe2L's post-training, and those of DiRe, LPLD, DWA, INFER and LPQLD, which follow it.

CIFAR: AdamW on everything, MixUp, T = 30, and a teacher that was never put in eval mode; the image is padded
before it is normalized, so with black. Tiny-ImageNet: SGD with torchvision's warm-up of 5 epochs, and a
divergence times T^2, which its log-target form does not change. ImageNet: AdamW with decay of weights alone,
CutMix, T = 20.

The ImageNet labels of SRe2L and LPLD were stored, one for each view of each epoch (FKD); ``labels: online``
is the same but for fp16 and for LPLD's pruning.

INFER's post-training on CIFAR: SRe2L's with batches of 64 and a teacher in eval mode.

infer           static labels: each image has one label as it is stored, and labels are mixed as images are
infer-dynamic   the papers' INFER(D): the teacher labels each mixed batch. A set of M teachers holds M + 1
                times as many images, so that 80 epochs with M = 4 show as many as 400 epochs of others

Released labels are the mean logits of the four teachers, as in recipes DATASET-infer
(``labels.teachers: all``).

LPQLD's post-training (TPAMI 2026): LPLD's, with falling temperatures and a student's softmax at T = 1.

The teacher's temperature is max(2, 20 x 0.7^floor(e / 30)) in epoch e of 300, counted from 1; the student's
stays 1, and nothing is multiplied by T^2. The released labels are stored: the first tenth of the batches of
views, drawn without replacement, and of a label the k largest logits without a rest:

    labels: {per: view, keep: 0.1, replay: once, form: topk, topk: 100, rest: none}

Here the teacher labels online unless ``student.labels=stored`` is set. ImageNet-21K's cutout and its
smoothing of logits are left out; its length is ours.
"""

SRE2L_CIFAR = {
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

SRE2L_TINY = {
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

SRE2L_IMAGENET = {
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

DIRE = {
    **SRE2L_CIFAR,
    "test_every": code(1),
    "best_from": code(0.5),
    "reported": code("best"),
    "seeds": code(5),
}

LPLD_IMAGENET = {**SRE2L_IMAGENET, "batch": code(128), "accumulate": code(1)}
LPLD_TINY = {**SRE2L_TINY, "batch": code(64), "reported": code("best")}

DWA_CIFAR = {**SRE2L_CIFAR, "reported": code("best")}
DWA_TINY = {
    **SRE2L_TINY,
    "epochs": code(200),
    "batch": code(64),
    "warmup": code(5 / 200),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "reported": code("best"),
}
DWA_IMAGENET = {**SRE2L_IMAGENET, "batch": code(128), "accumulate": code(1), "labels": code("online")}

register_protocol("sre2l-cifar", SRE2L_CIFAR)
register_protocol("sre2l-tiny", SRE2L_TINY)
register_protocol("sre2l-imagenet", SRE2L_IMAGENET)
register_protocol("dire", DIRE)
register_protocol("lpld-tiny", LPLD_TINY)
register_protocol("lpld-imagenet", LPLD_IMAGENET)
register_protocol("dwa-cifar", DWA_CIFAR)
register_protocol("dwa-tiny", DWA_TINY)
register_protocol("dwa-imagenet", DWA_IMAGENET)

INFER = {
    **SRE2L_CIFAR,
    "batch": code(64),
    "labels": code("stored"),
    "teacher_mode": code("eval"),
    "test_every": code(10),
    "reported": code("best"),
}
INFER_DYNAMIC = {**INFER, "epochs": code(80), "labels": code("online")}

register_protocol("infer", INFER)
register_protocol("infer-dynamic", INFER_DYNAMIC)

LPQLD_IMAGENET = {
    **LPLD_IMAGENET,
    "temperature_schedule": {
        "kind": code("step"),
        "low": code(2.0),
        "factor": code(0.7),
        "every": code(30 / 300),
    },
    "student_temperature": code(1.0),
    "test_every": code(50),
}
LPQLD_IMAGENET21K = {**LPQLD_IMAGENET, "epochs": ours(300), "batch": code(32), "lr": code(2e-3)}

register_protocol("lpqld-imagenet", LPQLD_IMAGENET)
register_protocol("lpqld-imagenet21k", LPQLD_IMAGENET21K)
