"""Stored soft labels: the teacher's logits of each image of a set, un-augmented.

labels/<arm>.safetensors    logits [N, classes] float16, in the order of the classes and slots
                            metadata: fingerprint of the images; files of earlier versions lack it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..runtime.files import write_tensors
from ..runtime.progress import progress
from ..teachers import Teacher
from .average import Average, averaged
from .files import KEY
from .labelling import check_finite
from .manifest import fingerprint

BATCH = 500


@torch.no_grad()
def label(
    teacher: Teacher | Mapping[str, Teacher], images: Tensor, name: str, average: Average = "mean"
) -> Tensor:
    """Logits [N, classes] float16 of uint8 images [N, C, H, W].

    Args:
        teacher: one, or several by name, whose logits are averaged (average.py).

    Raises:
        InputError: a teacher gives no finite numbers.
    """
    voters = teacher if isinstance(teacher, Mapping) else {"": teacher}
    logits: list[Tensor] = []
    with progress(f"label {name}", len(images)) as bar:
        for ids in torch.arange(len(images)).split(BATCH):
            batch, seen = images[ids.to(images.device)], []
            for key, voter in voters.items():
                seen.append(voter.network(voter.normalize(batch)))
                check_finite(seen[-1].half(), key or voter.card.network, 0, ids)
            logits.append(averaged(seen, average).half())
            bar.advance(len(batch))
    return torch.cat(logits)


def save_labels(path: Path, logits: Tensor, images: Tensor) -> None:
    """Write logits [N, classes] of uint8 images [N, C, H, W], with the images' fingerprint."""
    write_tensors(path, {"logits": logits}, {KEY: json.dumps({"images": fingerprint(images)})})


def load_labels(path: Path, images: Tensor, classes: int) -> Tensor:
    """Logits [N, classes] float32, on the CPU.

    Args:
        images: uint8 [N, C, H, W], those that are to be learned.

    Raises:
        InputError: the file is missing, damaged or something else, the labels are of other images or classes, or not
            finite.
    """
    found, these = read_labels(path), fingerprint(images)
    if found.images not in (None, these):
        raise InputError(
            f"labels {path} are of other images: fingerprint {found.images[:12]}, these are {these[:12]}; delete that "
            "file and start the same command again"
        )
    if found.logits.shape != (len(images), classes):
        raise InputError(
            f"labels {path} are {list(found.logits.shape)}, expected [{len(images)}, {classes}]: one row an image and "
            "one column a class of the teacher; delete that file and start the same command again"
        )
    logits = found.logits.float()
    bad = ~logits.isfinite().all(1)
    if bad.any():
        raise InputError(
            f"labels {path} are not finite for image {int(bad.nonzero()[0])} ({int(bad.sum())} of {len(bad)} images); "
            "delete that file and start the same command again"
        )
    return logits


@dataclass(frozen=True)
class ImageLabels:
    """What a file of labels holds.

    Attributes:
        logits: [N, classes], as stored.
        images: fingerprint of the images; None where the file does not say.
    """

    logits: Tensor
    images: str | None


def read_labels(path: Path) -> ImageLabels:
    """Read a file of one label an image.

    Raises:
        InputError: it is missing, damaged or something else.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; make labels with `fastdd label RECIPE`")
    try:
        with safe_open(str(path), framework="pt") as file:
            names, said = list(file.keys()), (file.metadata() or {}).get(KEY, "{}")
            logits = file.get_tensor("logits") if "logits" in names else None
        images = json.loads(said).get("images")
    except (OSError, SafetensorError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it and start the same command again"
        ) from error
    if logits is None or logits.ndim != 2 or not logits.is_floating_point():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{path} holds {', '.join(sorted(names)[:3]) or 'nothing'}{more}, expected logits [images, classes]; give "
            "labels/ARM.safetensors of a run, or move this file away and label again"
        )
    return ImageLabels(logits, images)
