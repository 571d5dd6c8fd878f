"""CIM (ECCV 2026): mosaics of real images, whose cells come to look to the teacher like the whole images.

    L = sum_n (1 / D) || f(aug a_n) - f(aug x_n) ||_1     a_n: a real image; x_n: its cell, enlarged

A stored image is f x f cells, each the nearest pixels of a real image of the class. Of the first images of a
class (300; 500 for 100 images a class, 1000 for 200) those with the lowest cross-entropy are taken, the
surest in the top left cells. Students see a cell enlarged, or at one time in four the whole mosaic (protocol
``cim``).

Where paper and code differ, the code is followed and a key has the paper's value: the mean absolute
difference in place of the squared one (``terms.pairs.distance: l2``), one layer in place of a group, and no
random crops of the anchors (``augment.scale``). The layer f is the embedding for 32 and 64 pixels, the output
of layer2 for a ResNet-18 at 224 (``terms.pairs.layer: stages.1``). For a ConvNet the code takes the last
block behind its pooling, which is the embedding; so give ``embedding`` where a ConvNet is the teacher at 224
pixels.

The released code optimizes what is added to a mosaic in colors from 0 to 1, with AdamW at a rate of 0.01 and
a decay of 0.01. For normalized images the rate is divided by the standard deviation, 0.201 on average for
CIFAR and 0.226 for the others, and the decay multiplied, so that a step decays as much. The released set is
float32 and not clipped; here it is clipped and rounded at the end, as all images are. The released code calls
its optimization nowhere: the call is commented out.
"""

from ..config.sources import code, ours, paper
from .declaration import Declaration, Patch, register_method

METHOD = {
    "title": paper("CIM"),
    "init": code("confident"),
    "init_first": code(300),
    "batch": {"classes": code(1), "slots": code("all")},
    "augment": {"flip": code(0.5), "pad": code(4), "cutout": code(0.5), "roll": code([0, 0])},
    "terms": {
        "ce": code(None),
        "pairs": {"weight": code(1.0), "layer": code("embedding"), "of": code("map"), "distance": code("l1")},
    },
    "formation": {"kind": code("cells"), "images": code(4)},
    "steps": code(200),
    "lr": ours(0.05),
    "betas": code([0.9, 0.999]),
    "schedule": code("constant"),
    "decay": ours(0.002),
    "clip": code(False),
}
FINER: Patch = {"lr": ours(0.044), "decay": ours(0.0023)}
"""rate and decay for the standard deviations of ImageNet"""
ON: dict[str, Patch] = {
    "tiny": {**FINER, "augment": {"pad": code(8)}},
    "imagenet1k": {**FINER, "augment": {"pad": code(28)}, "terms": {"pairs": {"layer": code("stages.1")}}},
}
FIRST = {100: 500, 200: 1000}
"""images a class -> real images of a class to choose from, where they are more than 300"""


def at(dataset: str | None, ipc: int) -> Patch:
    """The real images to choose from grow with the images a class; each becomes four."""
    return {"init_first": code(FIRST[ipc])} if ipc in FIRST else {}


register_method(
    "cim",
    Declaration(
        METHOD,
        ("cifar10", "cifar100", "tiny", "imagenette", "imagenet1k"),
        ON,
        at=at,
        protocol_on={
            "cifar10": code("cim"),
            "cifar100": code("cim"),
            "tiny": code("cim"),
            "imagenet1k": code("cim-imagenet"),
            "imagenette": code("cim-imagenette"),
        },
    ),
)
