"""SRe2L++ (Cui et al., 2025): SRe2L from real patches, with crops and flips at every size and 4,000 steps.

The released code starts from patches of medium ease, which are files without the program that cut them. Ours
are RDED's crops, the best of each image, and of these the ones of medium loss (``rded.rank: medium``). With
``init: medium`` it starts from whole images of medium ease. The released batch is 100 classes, or all ten of
CIFAR-10 and Imagenette.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("SRe2L++"),
    "init": code("rded"),
    "rded": {"factor": ours("auto"), "images": ours(500), "crops": ours(5), "rank": code("medium")},
    "batch": {"classes": code(100), "slots": code(1)},
    "augment": {"scale": code([0.08, 1.0]), "flip": code(0.5), "roll": code([0, 4])},
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(0.01), "first": code(10.0)}},
    "steps": code(4000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k", "imagenette")
ON: dict[str, Patch] = {
    "imagenet1k": {"augment": {"roll": code([0, 32])}},
    "imagenette": {"batch": {"classes": code(10)}, "augment": {"roll": code([0, 32])}},
}

PROTOCOLS = {
    "cifar10": code("cvdd"),
    "cifar100": code("cvdd"),
    "tiny": code("cvdd"),
    "imagenet1k": code("cvdd-imagenet"),
    "imagenette": code("cvdd-imagenet"),
}


def student_at(dataset: str | None, ipc: int) -> Patch:
    """The papers' eta, the stretch of the cosine, and the learning rate, for a ResNet-18."""
    stretched = {"cifar100": ipc == 10, "tiny": ipc != 10, "imagenet1k": ipc != 50, "imagenette": ipc != 10}
    student: dict[str, object] = {"stretch": code(2.0)} if stretched.get(dataset or "") else {}
    return {**student, "lr": code(5e-4)} if dataset == "imagenette" else student


register_method("sre2lpp", Declaration(METHOD, SCRIPTS, ON, protocol_on=PROTOCOLS, student_at=student_at))
