"""What stored labels are of and how they were made: manifest.json in their folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from .average import Average
from .encoding import Form, bytes_per_label
from .pruning import Choice, Pool
from .view_records import BYTES
from .views import Augmentation, Views, draw_views

SCHEMA = 2
MANIFEST = "manifest.json"
FILE_BYTES = 1 << 16
"""of labels that a file holds at least, so that its header is a hundredth of them; part of the schema"""


@dataclass(frozen=True)
class Facts:
    """What labels are of and how they were made; manifest.json.

    Attributes:
        images: fingerprint of the distilled images (see fingerprint).
        teachers: fingerprints of those who labelled, in order.
        classes, samples: of a label, and of the set.
        epochs, keep, choice: labelled in full, and what is kept of them (pruning.py).
        seed, augmentation: of the views (views.py).
        views: "seed" or "stored".
        form, k, temperature: of the logits (encoding.py); k and temperature of topk.
        mode, parts, average: of the labelling (labelling.py).
        source: where they come from, if from elsewhere.
    """

    images: str
    teachers: tuple[str, ...]
    classes: int
    samples: int
    epochs: int
    augmentation: Augmentation
    seed: int = 0
    keep: float = 1.0
    choice: Choice = "first"
    views: str = "seed"
    form: Form = "fp16"
    k: int = 10
    temperature: float = 1.0
    mode: str = "eval"
    parts: int = 1
    average: Average = "mean"
    source: str = ""

    @cached_property
    def pool(self) -> Pool:
        """Which labelling batches are kept."""
        return Pool(self.samples, self.augmentation.batch, self.epochs, self.keep, self.choice, self.seed)

    @property
    def bytes(self) -> int:
        """Of all labels on disk, but for the files' headers."""
        each = bytes_per_label(self.form, self.classes, self.k)
        return self.pool.labels * (each + (BYTES if self.views == "stored" else 0))

    @cached_property
    def files(self) -> list[list[int]]:
        """The labelled epochs of each file, in order."""
        labelled = self.pool.labelled
        each = max(1, -(-FILE_BYTES * len(labelled) // self.bytes))
        return [labelled[start : start + each] for start in range(0, len(labelled), each)]

    def drawn(self, epoch: int) -> Views:
        """The kept views of an epoch, in labelling order, drawn from the seed."""
        return draw_views(self.seed, epoch, self.samples, self.augmentation).rows(self.pool.rows(epoch))


def fingerprint(images: Tensor) -> str:
    """sha256 of uint8 images [N, C, H, W] and their shape, hex."""
    content = hashlib.sha256(str(list(images.shape)).encode())
    content.update(images.cpu().contiguous().numpy().data)
    return content.hexdigest()


def as_plain(facts: Facts) -> dict[str, Any]:
    """The content of manifest.json."""
    plain: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(facts)}))
    return plain


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's manifest.json; None where there is none.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); delete the folder and label again") from error
    if not isinstance(known, dict) or known.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is of another version, this one reads labels of schema {SCHEMA}; label again"
        )
    return known


def facts_from(folder: Path, known: dict[str, Any]) -> Facts:
    """The facts in a manifest.

    Raises:
        InputError: it lacks some.
    """
    values = {key: value for key, value in known.items() if key != "schema"}
    try:
        how: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.pop("augmentation").items()
        }
        return Facts(**{**values, "teachers": tuple(values["teachers"]), "augmentation": Augmentation(**how)})
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / MANIFEST} lacks what labels need ({error}); label again") from error
