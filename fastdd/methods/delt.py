"""DELT (Shen et al., CVPR 2025): slots join one after another and start from real images of medium ease.

The released batch is 100 images in order of class. With all slots of a class in it, that is 10 classes at IPC
10 and 2 at IPC 50 (``batch.classes``). Crops run from easy to hard as in CDA; there is no roll. A round has
500 of the 4,000 steps, so there are eight; with one image a class there are no rounds. The released program
has the same settings for every data set.
"""

from ..config.sources import code, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("DELT"),
    "init": paper("medium"),
    "batch": {"classes": code(10), "slots": code("all")},
    "augment": {
        "scale": code([0.08, 1.0]),
        "curriculum": code("cosine"),
        "milestone": code(1.0),
        "flip": code(0.5),
        "roll": code([0, 0]),
    },
    "terms": {"ce": {"weight": paper(1.0)}, "bn": {"weight": code(0.01), "first": code(10.0)}},
    "early_late": {"rounds": code(8)},
    "steps": code(4000),
    "lr": code(0.25),
    "betas": code([0.5, 0.9]),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k")


def at(dataset: str | None, ipc: int) -> Patch:
    """A batch holds 100 images, and at least one class; with one image a class there are no rounds."""
    batch = {"classes": code(max(1, 100 // ipc))}
    return {"batch": batch, "early_late": code(None)} if ipc == 1 else {"batch": batch}


PROTOCOLS = {
    "cifar10": code("delt-small"),
    "cifar100": code("delt-small"),
    "tiny": code("delt-small"),
    "imagenet1k": code("delt"),
    "imagenette": code("delt"),
}

register_method("delt", Declaration(METHOD, SCRIPTS, at=at, protocol_on=PROTOCOLS))
