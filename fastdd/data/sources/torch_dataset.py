"""Any map-style torch Dataset of (image, label): given as an object, or made by a function of the user's.

    fastdd.run(recipe, data=(train, test))   objects; the recipe says object:CLASS, which this process opens
    data.root=package.module:function        a function that is called with "train" or "test"
    data.root=NAME:REST                      a function registered as NAME, called with REST and the split

Images are PIL images (L or RGB), tensors [C, H, W] or arrays [H, W, C] of 1 or 3 channels; their values are
uint8, or floats in [0, 1], which are rounded to the nearest of 256 levels. Labels are whole numbers from 0
on, and keep their numbers. Class names are the dataset's ``classes`` where these are sorted names that a
folder can have; other names get their number in front ("07_ship"), and without ``classes`` the numbers are
the names.

Cost: labels come from ``targets`` where the dataset has them (Subsets included), else from one pass that
decodes every image. Beside that, 64 images are read twice, and each image whenever it is used, by one thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...runtime.user_code import FUNCTION, import_function
from ..decode import luminance
from .base import DatasetFunction, Fingerprint, FingerprintOf, Layout, Split, SplitImages, register_source
from .torch_items import Items, class_names, known_labels, reporting

SAMPLE = 64
"""images that are looked at before any work, evenly spread over the dataset"""


class ObjectLayout(Layout):
    """Datasets that this process was given as objects (see give_datasets)."""

    priority = 0

    def __init__(self) -> None:
        self.given: dict[str, tuple[object, object]] = {}

    def open(self, root: str, split: Split) -> SplitImages:
        """One split of a given pair."""
        if root not in self.given:
            raise InputError(
                f"the data set 'object:{root}' is an object of another process; give it again, as "
                "fastdd.run(..., data=(train, test)), or give the images as files: data.root=ROOT of a "
                "recipe, --data ROOT of a command"
            )
        return torch_images(self.given[root][split == "test"], split, f"object:{root}")


class FunctionLayout(Layout):
    """``package.module:function``, where nothing else has that name."""

    priority = -1

    def recognizes(self, root: str) -> bool:
        """Whether the root looks like a module and a function in it; nothing is imported."""
        return FUNCTION.fullmatch(root) is not None

    def open(self, root: str, split: Split) -> SplitImages:
        """Call the function with the split, "train" or "test"."""
        return torch_images(_called(import_function(root), (split,), root), split, root)


class RegisteredFunction(Layout):
    """A function that was registered as a source.

    Args:
        function: called with what stands behind NAME: and the split.
    """

    def __init__(self, source: str, function: DatasetFunction) -> None:
        self.source, self.function = source, function

    def open(self, root: str, split: Split) -> SplitImages:
        """Call the function with the root and the split."""
        name = f"data.root={self.source}:{root}"
        source = f"{name}: the data source {self.source!r}"
        return torch_images(_called(self.function, (root, split), source), split, name)


def give_datasets(data: tuple[object, object]) -> str:
    """Make a training and a test Dataset known to this process; returns the root that opens them."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError(
            f"data is of type {type(data).__name__}; expected a pair of torch Datasets: data=(train, test)"
        )
    name = type(data[0]).__name__
    OBJECTS.given[name] = (data[0], data[1])
    return f"object:{name}"


def torch_images(dataset: object, split: Split, name: str) -> TorchImages:
    """The images of a Dataset in class order.

    Args:
        name: what messages call the dataset.

    Raises:
        InputError: the first thing that is wrong with it.
    """
    items = Items(dataset, f"{name} ({split})")
    spread = np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).round().astype(int).tolist()
    digest, sizes, sampled = hashlib.sha256(f"{split}\n".encode()), dict[tuple[int, int], int](), {}
    for index in spread:
        image, sampled[index] = items[index]
        sizes.setdefault((image.shape[1], image.shape[2]), index)
        if not torch.equal(image, items[index][0]):
            raise InputError(
                f"{items.name} gives another image whenever it is asked for image {index}; give it without "
                "random transforms: fastdd augments the images itself"
            )
        _hash_image(digest, index, image)
    with reporting(f"{items.name}: its targets cannot be read"):
        labels = known_labels(dataset, len(items))
    if labels is None:
        labels = [label for _, label in items.all(f"labels of {split}", sizes)]
    for index, label in sampled.items():
        if labels[index] != label:
            raise InputError(
                f"{items.name} says {labels[index]} in its targets and gives the label {label} for image "
                f"{index}; make the two agree"
            )
    classes = class_names(dataset, labels, items.name)
    digest.update(repr((classes, labels)).encode())
    return TorchImages(items, split, classes, labels, sizes=sizes, sample=digest.hexdigest())


class TorchImages(SplitImages):
    """One split of a Dataset; made by torch_images.

    Args:
        labels: label of each image, in the dataset's own order.
        sizes: (height, width) -> number of an image of that size, of all images that were looked at.
        sample: sha256 of the labels and of some images.
    """

    layout = "torch Dataset"

    def __init__(
        self,
        items: Items,
        split: Split,
        classes: Sequence[str],
        labels: Sequence[int],
        *,
        sizes: dict[tuple[int, int], int],
        sample: str,
    ) -> None:
        self.items, self.split, self.sample = items, split, sample
        self.order = np.argsort(np.asarray(labels), kind="stable").tolist()
        width = len(str(len(labels) - 1))
        self.names = [f"{classes[labels[index]]}/{index:0{width}d}" for index in self.order]
        counted = np.bincount(np.asarray(labels), minlength=len(classes)).tolist()
        self.counts = dict(zip(classes, counted, strict=True))
        self._sizes = {size: f"{classes[labels[index]]}/{index:0{width}d}" for size, index in sizes.items()}

    @property
    def sizes(self) -> dict[tuple[int, int], str]:
        """(height, width) -> name of an image of that size, of all images that were looked at."""
        return self._sizes

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, h, w]; grey is repeated for 3 channels, 1 channel is the luminance of color."""
        image, _ = self.items[self.order[index]]
        if channels == 1 and len(image) == 3:
            return luminance(image)
        return image.expand(channels, -1, -1)

    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """sha256 of the labels and of 64 images; or, of the contents, of the labels and of all images."""
        if wanted != "contents":
            return Fingerprint(self.sample, "sample")
        digest = hashlib.sha256(self.sample.encode())
        for index, (image, _) in enumerate(self.items.all(f"fingerprint {self.split}", {})):
            _hash_image(digest, index, image)
        return Fingerprint(digest.hexdigest(), "contents")


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...


def _hash_image(digest: _Digest, index: int, image: Tensor) -> None:
    digest.update(f"{index} {list(image.shape)}\n".encode())
    digest.update(image.numpy().tobytes())


def _called(function: Callable[..., object], arguments: tuple[str, ...], name: str) -> object:
    """What the user's function returns."""
    shown = ", ".join(map(repr, arguments))
    with reporting(f"{name} fails when it is called with {shown}"):
        return function(*arguments)


OBJECTS = ObjectLayout()
register_source("object", OBJECTS)
register_source("function", FunctionLayout())
