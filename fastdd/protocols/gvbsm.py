"""G-VBSM's post-training, and EDC's: squared differences of logits, and a little cross-entropy.

The cross-entropy is with the image's own class, whatever was mixed in. Both have the mean logits of several
teachers, G-VBSM stored (FKD); here they label online, all of them in recipes DATASET-gvbsm and DATASET-edc
(``labels.teachers: all``), else the teacher of the run. EDC tests a moving average of the parameters with the
student's own BatchNorm statistics; ours averages those too.
"""

from ..config.sources import code, ours
from .registry import register_protocol

SHARED = {
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
SGD = {"optimizer": code("sgd"), "lr": code(0.1), "momentum": code(0.9), "weight_decay": code(5e-4)}

GVBSM_CIFAR10 = {
    **SHARED,
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
    **SHARED,
    **SGD,
    "network": code("convnet3"),
    "epochs": code(1000),
    "batch": code(64),
    "schedule": code("cosine"),
    "hard_weight": code(0.15),
}
GVBSM_TINY = {
    **SHARED,
    **SGD,
    "network": code("resnet18_small"),
    "epochs": code(100),
    "batch": code(100),
    "accumulate": code(2),
    "schedule": code("cosine"),
    "hard_weight": code(0.1),
}
GVBSM_IMAGENET = {
    **SHARED,
    "network": code("resnet18"),
    "epochs": code(300),
    "batch": code(1024),
    "optimizer": code("adamw"),
    "lr": code(1e-3),
    "weight_decay": ours(0.01),
    "schedule": code("cosine"),
    "hard_weight": code(0.1),
}

RANDAUGMENT = {
    "table": code("torchvision"),
    "operations": code(2),
    "magnitude": code(3.0),
    "probability": code(1.0),
}

EDC_CIFAR10 = {
    **SHARED,
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
    "randaugment": RANDAUGMENT,
    "best_from": code(0.8),
}
EDC_CIFAR100 = {
    **SHARED,
    **SGD,
    "momentum": code(0.875),
    "network": code("resnet18_small"),
    "epochs": code(1000),
    "batch": code(50),
    "schedule": code("cos2"),
    "stretch": code(2.0),
    "scale": code([0.5, 1.0]),
    "hard_weight": code(0.025),
    "ema": code(0.99),
    "randaugment": RANDAUGMENT,
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
    **SHARED,
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
    "randaugment": RANDAUGMENT,
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
