"""CV-DD (Cui et al., 2025): SRe2L++ with several teachers; each step uses the mean loss of two.

The released code draws the two for each slot and keeps them over its steps. We draw them for each step, so
that every slot is optimized through all teachers. The released code can also weight teachers by their
accuracy; fastdd cannot.

The further teachers are the released ones; of CIFAR-10 at a laptop's size, one CIFAR ResNet.
"""

from ..config.sources import code, ours
from . import sre2lpp
from .declaration import Declaration, members, register_method

METHOD = {**sre2lpp.METHOD, "title": code("CV-DD"), "ensemble": ours(2)}
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
    ),
)
