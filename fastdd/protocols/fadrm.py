"""FADRM's and FADRM+'s post-training: small batches in two parts.

The teachers label the mixed batch in the same parts, in train mode, or in eval mode with the one teacher of
Tiny-ImageNet (methods/fadrm.py). The released labels were stored, one for each view of each epoch;
``labels: online`` is the same but for fp16. Learning rate and eta, the stretch of the cosine, depend on the
data set, the student and the images a class, and each has a preset: ``fadrm-cifar100`` is for a ResNet-18 at
10 images a class, ``fadrm-cifar100-resnet50-ipc1`` for a ResNet-50 at 1. Those of CIFAR-10 are CIFAR-100's.
"""

from ..config.sources import Sourced, code, ours
from .registry import register_protocol

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

Rates = dict[str, dict[int, tuple[float, float]]]
"""network, without the ending of those for small images -> images a class -> (learning rate, eta)"""
RATES: dict[str, Rates] = {
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
SETS: dict[str, dict[str, Sourced]] = {
    "cifar100": {"epochs": code(1000)},
    "tiny": {},
    "imagenette": {"batch": code(10)},
    "imagewoof": {"batch": code(10)},
    "imagenet": {},
}
"""values that the released scripts of a data set change"""


def _register() -> None:
    for dataset, networks in RATES.items():
        small = "_small" if dataset in ("cifar100", "tiny") else ""
        for network, by_ipc in networks.items():
            student = "" if network == "resnet18" else f"-{network}"
            for ipc, (lr, eta) in by_ipc.items():
                images = "" if ipc == 10 else f"-ipc{ipc}"
                own = {"network": code(network + small), "lr": code(lr), "stretch": code(float(eta))}
                register_protocol(f"fadrm-{dataset}{student}{images}", {**FADRM, **SETS[dataset], **own})
                if dataset == "cifar100" and network == "resnet18":
                    borrowed = {"epochs": ours(1000), "lr": ours(lr), "stretch": ours(float(eta))}
                    register_protocol(f"fadrm-cifar10{images}", {**FADRM, **borrowed})


_register()
