"""manifest.json of stored labels: what they are labels of, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from torch import Tensor

from ..errors import InputError
from ..run_folder.reading import damaged, first_fault, read
from .encoding import CENTERS, WHOLE_SET, Form, Rest, bytes_per_label, shapes
from .pruning import Choice, LabelPool
from .views import BYTES, Augmentation, Views, draw_views

SCHEMA = 2
MANIFEST = "manifest.json"
LATER = {"rest", "rank", "codes"}
"""values that files have only where they are not the default, so that those of earlier versions stay the
same"""
Averaging = Literal["mean", "norm"]
"""how several teachers' logits become one label (labelling.py)"""
FILE_BYTES = 1 << 16
"""bytes of labels a file at least, so that its header is a hundredth of them; part of the schema"""
LARGEST, LARGEST_EPOCHS = 1 << 31, 1 << 20
"""no labels are of more images, classes or epochs; a larger number is damage"""


@dataclass(frozen=True, kw_only=True)
class LabelManifest:
    """What labels of views are of, and how they were made.

    Attributes:
        images: fingerprint of the distilled images (see images_fingerprint).
        teachers: fingerprints of the teachers that labelled, in order.
        classes: number of classes, hence of logits a label.
        epochs: number of epochs of views, before pruning.
        seed: seed of the views and of the pool's random choice.
        keep: share of the labelling batches that is kept, in (0, 1] (pruning.py).
        choice: which batches are kept (pruning.py).
        views: "seed", views are drawn again; "stored", they are in the files.
        form: how logits are stored (encoding.py).
        k: number of classes that topk keeps.
        rest: what topk gives the other classes.
        temperature: temperature at which topk keeps probabilities, where the rest is spread.
        codes: number of runs of classes that pq has, a byte each.
        mode: "eval" or "train", the teachers' mode; "unknown" of imported labels.
        parts: number of parts of a batch that a teacher sees one by one.
        average: how several teachers' logits become one label.
        source: "fkd" of imported labels; "" of labels made here.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # for reading one

    images: str
    teachers: tuple[str, ...]
    classes: Annotated[int, Field(ge=1, le=LARGEST)]
    samples: Annotated[int, Field(ge=1, le=LARGEST)]
    epochs: Annotated[int, Field(ge=1, le=LARGEST_EPOCHS)]
    augmentation: Augmentation
    seed: int = 0
    keep: float = 1.0
    choice: Choice = "first"
    views: str = "seed"
    form: Form = "fp16"
    k: Annotated[int, Field(ge=1)] = 10
    rest: Rest = "spread"
    temperature: float = 1.0
    rank: Annotated[int, Field(ge=1)] = 2
    codes: Annotated[int, Field(ge=1)] = 8
    mode: str = "eval"
    parts: int = 1
    average: Averaging = "mean"
    source: str = ""

    @cached_property
    def pool(self) -> LabelPool:
        """Which labelling batches are kept."""
        return LabelPool(
            self.samples,
            self.augmentation.batch,
            self.epochs,
            keep=self.keep,
            choice=self.choice,
            seed=self.seed,
        )

    @property
    def bytes(self) -> int:
        """How many bytes all labels take on disk, without the files' headers."""
        labels, C = self.pool.labels, self.classes
        views = BYTES * labels if self.views == "stored" else 0
        if self.form == "lowrank":
            return views + 2 * (labels * self.rank + self.samples * C * (1 + self.rank))
        if self.form == "pq":
            return views + labels * self.codes + 2 * CENTERS * C
        return views + labels * bytes_per_label(self.form, C, self.k, self.rest)

    @property
    def exact(self) -> LabelManifest:
        """The same labels in fp16, of which lowrank and pq are made."""
        return replace(self, form="fp16")

    def shapes(self, labels: int) -> dict[str, list[int]]:
        """Shapes of the tensors of a file with this many labels, by name."""
        C = self.classes
        if self.form == "lowrank":
            shared = {"mean": [self.samples, C], "basis": [self.samples, self.rank, C]}
            return {"coefficients": [labels, self.rank], **shared}
        if self.form == "pq":
            return {"codes": [labels, self.codes], "codebook": [CENTERS, C]}
        return shapes(self.form, labels, C, self.k, self.rest)

    @cached_property
    def files(self) -> list[list[int]]:
        """The labelled epochs of each file, in order; all in one where labels share tensors."""
        labelled = self.pool.labelled
        if self.form in WHOLE_SET:
            return [labelled]
        each = max(1, -(-FILE_BYTES * len(labelled) // self.bytes))
        return [labelled[start : start + each] for start in range(0, len(labelled), each)]

    def draw(self, epoch: int) -> Views:
        """Draw the kept views of an epoch, in labelling order, from the seed."""
        return draw_views(self.seed, epoch, self.samples, self.augmentation).select(self.pool.rows(epoch))


def images_fingerprint(images: Tensor) -> str:
    """sha256 of uint8 images [N, C, H, W] and of their shape, hex."""
    return fingerprint_of_parts(images.shape, [images])


def fingerprint_of_parts(shape: Sequence[int], parts: Iterable[Tensor]) -> str:
    """``images_fingerprint`` of images of a shape that come in parts, one after the other."""
    content = hashlib.sha256(str(list(shape)).encode())
    for images in parts:
        content.update(images.cpu().contiguous().numpy().data)
    return content.hexdigest()


def manifest_content(manifest: LabelManifest) -> dict[str, JsonValue]:
    """The content of manifest.json, which lacks the values in LATER that are the default."""
    defaults = {field.name: field.default for field in fields(manifest)}
    values = {name: v for name, v in asdict(manifest).items() if name not in LATER or v != defaults[name]}
    content: dict[str, JsonValue] = json.loads(json.dumps({"schema": SCHEMA, **values}))
    return content


def read_manifest(folder: Path) -> LabelManifest | None:
    """Read a folder's manifest.json; None where there is none.

    Raises:
        InputError: it is damaged, of another version, or lacks something.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    remedy = "put back a whole copy, or delete the folder and label again"
    content = read(path, dict[str, JsonValue], remedy)
    if "schema" not in content:
        raise InputError(
            f"{folder} holds no labels, its {MANIFEST} is of something else; give labels/ARM of a run"
        )
    if content.pop("schema") != SCHEMA:
        raise InputError(
            f"{path} is of another version, this one reads labels of schema {SCHEMA}; label again"
        )
    try:
        return TypeAdapter(LabelManifest).validate_python(content)
    except ValidationError as error:
        raise damaged(path, first_fault(error), remedy) from error
