"""FADRM+ (Cui et al., NeurIPS 2025): FADRM through several teachers, of which each step takes the next.

A step costs the mean of the teachers', and with four of them each has 125 steps of a stage. All of them
label. The further teachers are the released ones; those of CIFAR-10 are ours, at a laptop's size one CIFAR
ResNet.
With one image a class the released script of Tiny-ImageNet leaves DenseNet out, as ``committee`` says there,
and ImageNet's has AlexNet in its place, which this declaration does not follow.
"""

from ..config.sources import code, paper
from . import fadrm
from .declaration import Declaration, Patch, members, register_method

METHOD = {**fadrm.METHOD, "title": paper("FADRM+"), "ensemble": code("round_robin")}
NETWORKS = "densenet121_small shufflenet_v2_x0_5_small mobilenet_v2_small"
ON_TINY = "shufflenet_v2_x0_5_small densenet121_small mobilenet_v2_small"
WITHOUT_DENSENET = "shufflenet_v2_x0_5_small", "mobilenet_v2_small"
TINY = {"batch": code(128), "lr": code(0.01), "warmup": code(0.0)}
COMMITTEE = {
    "cifar10cpu": members("ours", "resnet32"),
    "cifar10": members("ours", NETWORKS, 0.7),
    "cifar100": members("code", NETWORKS, 0.4),
    "tiny": members("code", ON_TINY, 0.3, TINY),
    "imagenet1k": members("code", "densenet121 shufflenet_v2_x1_0 mobilenet_v2"),
    "imagenette": members("code", "densenet121 shufflenet_v2_x1_0 mobilenet_v2", 0.6),
}


def at(dataset: str | None, ipc: int) -> Patch:
    """With one image a class on Tiny-ImageNet the teachers are without DenseNet."""
    return {"committee": code([*WITHOUT_DENSENET])} if (dataset, ipc) == ("tiny", 1) else {}


register_method(
    "fadrmplus",
    Declaration(
        METHOD,
        fadrm.SCRIPTS,
        fadrm.LARGE,
        at,
        committee=COMMITTEE,
        protocol_on=fadrm.PROTOCOLS,
        student_at=fadrm.student_plus_at,
        labels={"teachers": code("all")},
    ),
)
