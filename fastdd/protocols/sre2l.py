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

from ..config.sources import code, ours
from .registry import register_protocol

CIFAR = {
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

TINY = {
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

IMAGENET = {
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

DIRE = {**CIFAR, "test_every": code(1), "best_from": code(0.5), "reported": code("best"), "seeds": code(5)}

LPLD_IMAGENET = {**IMAGENET, "batch": code(128), "accumulate": code(1)}
LPLD_TINY = {**TINY, "batch": code(64), "reported": code("best")}

DWA_CIFAR = {**CIFAR, "reported": code("best")}
DWA_TINY = {
    **TINY,
    "epochs": code(200),
    "batch": code(64),
    "warmup": code(5 / 200),
    "mix": code("cutmix"),
    "mix_alpha": code(1.0),
    "reported": code("best"),
}
DWA_IMAGENET = {**IMAGENET, "batch": code(128), "accumulate": code(1), "labels": code("online")}

register_protocol("sre2l-cifar", CIFAR)
register_protocol("sre2l-tiny", TINY)
register_protocol("sre2l-imagenet", IMAGENET)
register_protocol("dire", DIRE)
register_protocol("lpld-tiny", LPLD_TINY)
register_protocol("lpld-imagenet", LPLD_IMAGENET)
register_protocol("dwa-cifar", DWA_CIFAR)
register_protocol("dwa-tiny", DWA_TINY)
register_protocol("dwa-imagenet", DWA_IMAGENET)

INFER = {
    **CIFAR,
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
