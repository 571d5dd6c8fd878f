"""RDED (Sun et al., CVPR 2024): images tiled from those crops of real images of which the teacher is surest.

Nothing is optimized: the initial images (recover/init/rded.py) are the result. A batch is a class, so that
one process scores a class. ``factor: auto`` is the released choice: 2 for images of 224 pixels, else 1. As
released, crops are cut from whole images as they are stored (``source: original``).
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, register_method

METHOD = {
    "title": paper("RDED"),
    "init": paper("rded"),
    "rded": {
        "factor": code("auto"),
        "images": code(300),
        "crops": code(5),
        "area": code([0.08, 1.0]),
        "source": code("original"),
        "rank": paper("surest"),
    },
    "batch": {"classes": ours(1), "slots": ours("all")},
    "terms": {"ce": paper(None)},
    "steps": paper(0),
}
SCRIPTS = ("cifar10", "cifar100", "tiny", "imagenet1k", "imagenette")

PROTOCOLS = {
    "cifar10": code("rded-small"),
    "cifar100": code("rded-small"),
    "tiny": code("rded-small"),
    "imagenet1k": code("rded"),
    "imagenette": code("rded"),
}

register_method("rded", Declaration(METHOD, SCRIPTS, protocol_on=PROTOCOLS))
