"""CV-DD (Cui et al., 2025): SRe2L++ with several teachers; a slot is optimized through two of them.

    L = sum_i softmax(a / 5)_i (CE_i + r_bn BN_i)        i: the slot's two teachers

With 10 images a class and five teachers, slot s has the s-th of the ten pairs, in the order of the released
script (``ensemble_per: slot``). With 50 it draws a pair for each slot, we go through all pairs again. Its a
are given as numbers, for CIFAR-100 64, 60.6, 51.6, 59.4 and 56.4 in the order of our teachers; they seem to
be accuracies of students of what each teacher alone recovers. Such numbers may be given as
``ensemble_weights``. The default are the test accuracies of the run's teachers, which are there for any
committee (``ensemble_weights: accuracy``).

The further teachers are the released ones; of CIFAR-10 at a laptop's size, one CIFAR ResNet. All teachers
label, with equal weights; the released labels weigh them by softmax(a / 10).
"""

from ..config.sources import code, ours
from . import sre2lpp
from .declaration import Declaration, members, register_method

METHOD = {
    **sre2lpp.METHOD,
    "title": code("CV-DD"),
    "ensemble": code(2),
    "ensemble_per": code("slot"),
    "ensemble_weights": ours("accuracy"),
}
NETWORKS = "resnet50_small shufflenet_v2_x0_5_small mobilenet_v2_small densenet121_small"
TINY = {"batch": code(128), "lr": code(0.01), "warmup": code(0.0)}
COMMITTEE = {
    "cifar10cpu": members("ours", "resnet32"),
    "cifar10": members("code", NETWORKS, 0.7),
    "cifar100": members("code", NETWORKS, 0.4),
    "tiny": members("code", NETWORKS, 0.3, TINY),
    "imagenet1k": members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121"),
    "imagenette": members("code", "resnet50 shufflenet_v2_x1_0 mobilenet_v2 densenet121", 0.6),
}

register_method(
    "cvdd",
    Declaration(
        METHOD,
        sre2lpp.SCRIPTS,
        sre2lpp.ON,
        committee=COMMITTEE,
        protocol_on=sre2lpp.PROTOCOLS,
        student_at=sre2lpp.student_at,
        labels={"teachers": code("all")},
    ),
)
