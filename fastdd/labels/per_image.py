"""One stored label an image: the teacher's logits of each image of a set, without augmentation.

A run's labels/ARM.safetensors holds logits [N, classes] float16, in the order of the classes and slots. Its
metadata hold the fingerprint of the images, which files of earlier versions lack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from ..runtime.precision import float32_products
from ..runtime.progress import progress
from ..teachers import Teacher
from .files import METADATA_KEY, REMEDY
from .labelling import average_logits, check_finite
from .manifest import Averaging, images_fingerprint

BATCH = 500
"""images of a forward pass"""


@torch.no_grad()
@float32_products("fp32")
def label_images(
    teacher: Teacher | Mapping[str, Teacher], images: Tensor, name: str, averaging: Averaging = "mean"
) -> Tensor:
    """Label each image of a set: logits float16 [N, classes].

    Args:
        teacher: one teacher, or several by name, whose logits are averaged.
        images: uint8 [N, C, H, W], on the teachers' device.
        averaging: how several teachers' logits are averaged (labelling.py).

    Raises:
        InputError: a teacher's logits are not finite.
    """
    teachers = teacher if isinstance(teacher, Mapping) else {"": teacher}
    logits: list[Tensor] = []
    with progress(f"label {name}", len(images)) as bar:
        for ids in torch.arange(len(images)).split(BATCH):
            batch, given = images[ids.to(images.device)], []
            for key, one in teachers.items():
                given.append(one.network(one.normalize(batch)))
                check_finite(given[-1].half(), key or one.card.network, 0, ids)
            logits.append(average_logits(given, averaging).half())
            bar.advance(len(batch))
    return torch.cat(logits)


def save_labels(path: Path, logits: Tensor, images: Tensor) -> None:
    """Write the logits [N, classes] of uint8 images [N, C, H, W], with the images' fingerprint."""
    metadata = {METADATA_KEY: json.dumps({"images": images_fingerprint(images)})}
    write_tensors(path, {"logits": logits}, metadata)


def load_labels(path: Path, images: Tensor, classes: int) -> Tensor:
    """Read the labels of uint8 images [N, C, H, W]; see ``load_labels_of``."""
    return load_labels_of(path, len(images), images_fingerprint(images), classes)


def load_labels_of(path: Path, images: int, fingerprint: str, classes: int, remedy: str = REMEDY) -> Tensor:
    """Read the labels of a set: logits float32 [N, classes], on the CPU.

    Args:
        remedy: what to do where they cannot be used.

    Raises:
        InputError: the file is missing, damaged or something else, or the labels are of other images or
            classes, or not finite.
    """
    found = read_labels(path, remedy)
    if found.images not in (None, fingerprint):
        raise InputError(
            f"labels {path} are of other images: fingerprint {found.images[:12]}, these are "
            f"{fingerprint[:12]}; {remedy}"
        )
    if found.logits.shape != (images, classes):
        raise InputError(
            f"labels {path} are {list(found.logits.shape)}, expected [{images}, {classes}]: one row an "
            f"image and one column a class of the teacher; {remedy}"
        )
    logits = found.logits.float()
    bad = ~logits.isfinite().all(1)
    if bad.any():
        raise InputError(
            f"labels {path} are not finite for image {int(bad.nonzero()[0])} ({int(bad.sum())} of {len(bad)} "
            f"images); {remedy}"
        )
    return logits


class _Note(TypedDict):
    """What the metadata say: the fingerprint of the images."""

    images: str


@dataclass(frozen=True)
class ImageLabels:
    """The content of a file of one label an image.

    Attributes:
        logits: [N, classes], in the stored dtype.
        images: fingerprint of the images; None where the file has none.
    """

    logits: Tensor
    images: str | None


def read_labels(path: Path, remedy: str = REMEDY) -> ImageLabels:
    """Read a file of one label an image.

    Args:
        remedy: what to do where it is damaged.

    Raises:
        InputError: the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; make labels with `fastdd label RECIPE`")
    file = TensorFile(path, remedy)
    names = list(file.shapes)
    if len(file.shapes.get("logits", ())) != 2 or "logits" in file.integers:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{path} holds {', '.join(sorted(names)[:3]) or 'nothing'}{more}, expected logits [images, "
            "classes]; give labels/ARM.safetensors of a run, or move this file away and label again"
        )
    images = file.note(METADATA_KEY, _Note)["images"] if METADATA_KEY in file.metadata else None
    return ImageLabels(file.tensor("logits", finite=False), images)
