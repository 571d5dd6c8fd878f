"""RandAugment (Cubuk et al., 2020) of a batch on its device, with torchvision's or timm's operations and
ranges.

The kernels are torchvision's. Every image draws its own operations. The images of a batch that draw the same
one in the same round share its magnitude and sign, so a round takes one kernel call an operation, not one an
image. Cost: about 30 calls a round, whatever the size of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as V
from torch import Tensor

from ..config import RandAugment

Operation = Callable[[Tensor, float, float], Tensor]
"""takes uint8 images, a magnitude from 0 to 1 and a sign"""


def _geometry(fill: float, interpolation: V.InterpolationMode, shift: float) -> dict[str, Operation]:
    """Rotations, shears and shifts; ``shift`` is the largest shift as a part of the side."""

    def rotate(images: Tensor, magnitude: float, sign: float) -> Tensor:
        return V.rotate(images, sign * 30 * magnitude, interpolation, fill=[fill])

    def affine(images: Tensor, translate: list[float], shear: list[float]) -> Tensor:
        # images are sheared about the corner, as PIL's affine transform does
        return V.affine(
            images,
            0.0,
            translate,
            1.0,
            shear=shear,
            interpolation=interpolation,
            fill=[fill],
            center=[0.0, 0.0],
        )

    def degrees(magnitude: float, sign: float) -> float:
        return math.degrees(math.atan(sign * 0.3 * magnitude))

    def pixels(magnitude: float, sign: float, side: int) -> float:
        return float(round(sign * shift * magnitude * side))

    return {
        "rotate": rotate,
        "shear_x": lambda images, m, sign: affine(images, [0.0, 0.0], [degrees(m, sign), 0.0]),
        "shear_y": lambda images, m, sign: affine(images, [0.0, 0.0], [0.0, degrees(m, sign)]),
        "translate_x": lambda images, m, sign: affine(
            images, [pixels(m, sign, images.shape[3]), 0.0], [0.0, 0.0]
        ),
        "translate_y": lambda images, m, sign: affine(
            images, [0.0, pixels(m, sign, images.shape[2])], [0.0, 0.0]
        ),
    }


def _enhance(kernel: Callable[[Tensor, float], Tensor], factor: Callable[[float, float], float]) -> Operation:
    return lambda images, magnitude, sign: kernel(images, factor(magnitude, sign))


def _around_one(magnitude: float, sign: float) -> float:
    return 1 + sign * 0.9 * magnitude


def _from_zero(magnitude: float, sign: float) -> float:
    return 1.8 * magnitude + 0.1


def _posterize(bits: Callable[[float], int]) -> Operation:
    return lambda images, magnitude, sign: V.posterize(images, bits(magnitude))


def _solarize(rising: bool) -> Operation:
    def apply(images: Tensor, magnitude: float, sign: float) -> Tensor:
        threshold = int(256 * magnitude) if rising else 255 * (1 - magnitude)
        return V.solarize(images, threshold) if threshold <= 255 else images

    return apply


def _solarize_add(images: Tensor, magnitude: float, sign: float) -> Tensor:
    lighter = (images.short() + min(128, int(110 * magnitude))).clamp(max=255).to(torch.uint8)
    return torch.where(images < 128, lighter, images)


def _plain(kernel: Callable[[Tensor], Tensor]) -> Operation:
    return lambda images, magnitude, sign: kernel(images)


ENHANCE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": V.adjust_brightness,
    "contrast": V.adjust_contrast,
    "color": V.adjust_saturation,
    "sharpness": V.adjust_sharpness,
}
TABLES: dict[str, dict[str, Operation]] = {
    "torchvision": {
        **_geometry(0.0, V.InterpolationMode.NEAREST, 150 / 331),
        **{name: _enhance(kernel, _around_one) for name, kernel in ENHANCE.items()},
        "identity": _plain(lambda images: images),
        "autocontrast": _plain(V.autocontrast),
        "equalize": _plain(V.equalize),
        "posterize": _posterize(lambda magnitude: 8 - round(4 * magnitude)),
        "solarize": _solarize(False),
    },
    "timm": {
        **_geometry(128.0, V.InterpolationMode.BILINEAR, 0.45),
        **{name: _enhance(kernel, _from_zero) for name, kernel in ENHANCE.items()},
        "invert": _plain(V.invert),
        "autocontrast": _plain(V.autocontrast),
        "equalize": _plain(V.equalize),
        "posterize": _posterize(lambda magnitude: max(1, int(4 * magnitude))),
        "solarize": _solarize(True),
        "solarize_add": _solarize_add,
    },
}


def randaugment(images: Tensor, config: RandAugment, draw: torch.Generator) -> Tensor:
    """Augment a batch.

    Args:
        images: uint8 [N, C, H, W].
        draw: generator on the CPU, so that draws do not depend on the device.

    Returns:
        uint8 [N, C, H, W].
    """
    names = list(TABLES[config.table])
    result = images.clone()
    for _ in range(config.operations):
        chosen = torch.randint(len(names), (len(images),), generator=draw)
        done = torch.rand(len(images), generator=draw) < config.probability
        noise = torch.randn(len(names), generator=draw)
        signs = 1 - 2 * torch.randint(2, (len(names),), generator=draw)
        magnitudes = ((config.magnitude + config.deviation * noise) / 10).clamp(0, 1)
        for number, name in enumerate(names):
            rows = torch.nonzero(done & (chosen == number))[:, 0].to(images.device)
            if len(rows):
                operation = TABLES[config.table][name]
                result[rows] = operation(result[rows], float(magnitudes[number]), float(signs[number]))
    return result
