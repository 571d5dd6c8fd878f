"""Students by the names that papers use, for images of a size.

Up to 64 pixels ``resnet18`` is the small-image variant, as in every paper of the field; ``convnet`` is of the depth
that leaves 4 x 4 pixels, and ``vit`` small. ``papers`` are the students of the papers' cross-architecture tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from .convnet import CONVNETS, LEFT
from .small_image import SMALL_STEM
from .vit import VITS

SMALL_SIDE = 64
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


def students(names: Sequence[str], side: int) -> list[str]:
    """Networks of build.py for names of students; ``papers`` stands for those that take images of this size.

    Args:
        side: of the images, in pixels.
    """
    found = []
    for name in names:
        if name == "papers":
            found += [network for each in PAPERS if (network := student(each, side)) != "convnet"]
        else:
            found.append(student(name, side))
    return list(dict.fromkeys(found))


def student(name: str, side: int) -> str:
    """The network that a name stands for; a name that stands for itself is returned as it is."""
    depth = (side // LEFT).bit_length() - 1
    if name == "convnet" and f"convnet{depth}" in CONVNETS and LEFT << depth == side:
        return f"convnet{depth}"
    if name == "vit":
        return f"vit_small{side}" if f"vit_small{side}" in VITS else "vit_b_16"
    return f"{name}_small" if side <= SMALL_SIDE and f"{name}_small" in SMALL_STEM else name
