"""The names that papers give to students, which mean other networks for small images than for large ones.

Up to 64 pixels ``resnet18`` means ``resnet18_small``, as in every paper of the field; ``convnet`` means the
one whose depth leaves 4 x 4 pixels, and ``vit`` a small one. Networks say so themselves (Network.paper_name).
"""

from __future__ import annotations

from collections.abc import Sequence

from .registry import NETWORKS

PAPERS = (
    "resnet18",
    "resnet50",
    "resnet101",
    "vgg11",
    "vgg16",
    "mobilenet_v2",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "convnet",
    "vit",
)
"""The students of the papers' cross-architecture tables, which ``papers`` stands for."""
TABLES = {
    "deda": {
        range(1, 65): (
            "resnet50",
            "mobilenet_v2",
            "efficientnet_b0",
            "shufflenet_v2_x0_5",
            "vgg16",
        ),  # Table 3
        range(65, 1025): ("resnet18", "resnet50", "resnet101"),  # Table 2
    },
    "dire": {
        range(1, 33): ("resnet50", "resnet101", "vgg16", "mobilenet_v2", "vit"),  # Table 10
        range(33, 65): ("vgg16", "vit"),  # Table 11
        range(65, 1025): ("mobilenet_v2", "shufflenet_v2_x0_5"),  # Table 12
    },
}
"""name of a paper -> sides of images in pixels -> the students of its table of such images"""
LARGE_IMAGES = {"vit": "vit_b_16"}
"""What a name means where no network claims it for the size of the images."""


def students(names: Sequence[str], side: int) -> list[str]:
    """Names of networks for names of students, each once.

    Args:
        names: names of students; ``papers`` stands for those of PAPERS that take images of this size,
            ``deda`` and ``dire`` for those of that paper's table of such images.
        side: side of the images, in pixels.
    """
    found = []
    for name in names:
        if name == "papers":
            meant = (student(each, side) for each in PAPERS)
            found += [network for network in meant if network in NETWORKS]
        elif name in TABLES:
            of_paper = next((each for sides, each in TABLES[name].items() if side in sides), ())
            found += [student(each, side) for each in of_paper]
        else:
            found.append(student(name, side))
    return list(dict.fromkeys(found))


def student(name: str, side: int) -> str:
    """The network that a student's name means for images of ``side`` pixels; other names mean themselves."""
    for own_name in NETWORKS:
        network = NETWORKS[own_name]
        if network.paper_name == name and side in network.sides:
            return own_name
    return LARGE_IMAGES.get(name, name)
