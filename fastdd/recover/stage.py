"""Recover a distilled set, unit by unit: each is saved whole or not at all, and never done twice.

images/<arm>/<class>/<slot>.png      lossless; loads with torchvision's ImageFolder
recover/<arm>/unit_<index>.json      rows and losses of a unit; written last, so it marks the unit finished
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, encode_png

from .. import recipe
from ..bank import Bank
from ..errors import InputError
from ..files import write_bytes, write_json
from ..progress import progress
from ..seeds import generator
from ..teachers import Taps, Teacher
from .loop import optimise
from .plan import Unit, plan
from .terms import build_terms, tapped_layers


def image_path(folder: Path, class_name: str, slot: int) -> Path:
    return folder / class_name / f"{slot:05d}.png"


def unit_path(folder: Path, unit: Unit) -> Path:
    return folder / f"unit_{unit.index:05d}.json"


def save_images(folder: Path, classes: Sequence[str], rows: Sequence[tuple[int, int]], images: Tensor) -> None:
    """Write uint8 images [N, C, H, W] as PNG, one folder a class."""
    for (c, slot), image in zip(rows, images.cpu(), strict=True):
        write_bytes(image_path(folder, classes[c], slot), bytes(encode_png(image.contiguous()).numpy()))


def load_images(folder: Path, classes: Sequence[str], ipc: int, channels: int) -> tuple[Tensor, Tensor]:
    """(uint8 images [K * ipc, C, H, W], labels [K * ipc]) of a distilled set, in class order.

    Raises:
        InputError: an image is missing or damaged.
    """
    mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
    images = []
    for file in (image_path(folder, name, slot) for name in classes for slot in range(ipc)):
        try:
            images.append(decode_image(str(file), mode))
        except RuntimeError as error:
            raise InputError(
                f"{file} is missing or damaged ({error}); delete {folder.parents[1] / 'recover' / folder.name} "
                "and start the same command again"
            ) from error
    return torch.stack(images), torch.arange(len(classes)).repeat_interleave(ipc)


def initial_images(
    method: recipe.Method, unit: Unit, shape: tuple[int, int, int], teacher: Teacher,
    real: Callable[[Sequence[tuple[int, int]]], Tensor], seed: int,
) -> Tensor:  # fmt: skip
    """Normalised initial images [N, C, H, W]: noise N(0, 1) or real ones; each depends on its class and slot alone."""
    if method.init == "real":
        return teacher.normalise(real(unit.rows))
    return torch.stack([torch.randn(shape, generator=generator(seed, "noise", c, s)) for c, s in unit.rows])


def unfinished(
    arm: str, method: recipe.Method, config: recipe.Recover, num_classes: int, ipc: int, out: Path
) -> list[Unit]:
    """The arm's units that the run folder ``out`` does not hold yet."""
    units = plan(num_classes, ipc, method.batch, config.unit_images)
    return [unit for unit in units if not unit_path(out / "recover" / arm, unit).is_file()]


def recover(
    arm: str,
    units: Sequence[Unit],
    method: recipe.Method,
    config: recipe.Recover,
    teacher: Teacher,
    bank: Bank,
    real: Callable[[Sequence[tuple[int, int]]], Tensor],
    shape: tuple[int, int, int],
    out: Path,
    seed: int,
) -> int:
    """Recover units of one arm into a run folder.

    Args:
        real: (class, slot) rows -> uint8 images, the seeded choice of real images.
        shape: (C, H, W) of an image.
        out: the run folder.

    Returns:
        Image-iterations done.
    """
    device = next(teacher.network.parameters()).device
    taps = Taps(teacher.network, tapped_layers(method.terms, teacher.network), moments=method.terms.bn is not None)
    image_iterations = sum(len(unit.rows) for unit in units) * method.steps
    with progress(f"recover {arm}", image_iterations) as bar:
        for unit in units:
            start = initial_images(method, unit, shape, teacher, real, seed).to(device)
            terms = build_terms(method.terms, unit, taps, bank, seed, device)
            images, losses = optimise(start, unit, method, config, teacher, taps, terms, seed, bar)
            save_images(out / "images" / arm, bank.classes, unit.rows, teacher.to_uint8(images))
            write_json(unit_path(out / "recover" / arm, unit), {"rows": unit.rows, "losses": losses})
    return image_iterations
