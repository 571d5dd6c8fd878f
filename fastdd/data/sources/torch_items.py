"""The images, labels and class names of a torch Dataset, in the forms in which fastdd keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from ...errors import InputError
from ...runtime.progress import progress
from ...runtime.user_code import FAILURES, reason
from ..verify import BadImage
from .tree import class_name_fault


@contextmanager
def reporting(what: str) -> Iterator[None]:
    """Code of the user's runs inside; whatever it raises, an exit included, becomes one line.

    Args:
        what: what cannot be done then, such as "owndata:make (train): image 3 cannot be read".

    Raises:
        BadImage: raised inside, and passed on.
        InputError: the code raised something else.
    """
    try:
        yield
    except BadImage:
        raise
    except FAILURES as error:
        raise InputError(f"{what} ({reason(error)})") from error


class Indexed(Protocol):
    """What a map-style Dataset is."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class Items:
    """The images of a Dataset as uint8 [1 or 3, H, W], and their labels."""

    def __init__(self, dataset: object, name: str) -> None:
        kind = type(dataset).__name__
        if not hasattr(type(dataset), "__getitem__"):
            raise InputError(
                f"{name} is of type {kind}, without __getitem__; expected a map-style torch Dataset of "
                "(image, label)"
            )
        if not isinstance(dataset, Sized):
            raise InputError(
                f"{name} is of type {kind}, without __len__, as a stream is; expected a map-style torch "
                "Dataset, whose images have numbers"
            )
        with reporting(f"{name} is of type {kind}, whose __len__ gives no whole number from 0 on"):
            self.length = len(dataset)
        if not self.length:
            raise InputError(f"{name} is empty; expected a torch Dataset of (image, label)")
        self.dataset: Indexed = dataset  # type: ignore[assignment]  # it has the two methods
        self.name = name

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """uint8 [1 or 3, H, W] and label of one image, in the dataset's own order."""
        unreadable = f"{self.name}: image {index} cannot be read"
        try:
            with reporting(unreadable):
                item = self.dataset[index]
            if not isinstance(item, tuple | list) or len(item) != 2:
                what = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
                raise InputError(
                    f"{self.name} gives {what} for image {index}; expected a pair (image, label)"
                )
            with reporting(unreadable):  # PIL reads a file only now
                return to_pixels(item[0]), to_label(item[1])
        except BadImage as error:
            raise InputError(f"{self.name}: image {index} {error}") from error

    def all(self, task: str, sizes: dict[tuple[int, int], int]) -> Iterator[tuple[Tensor, int]]:
        """All images and labels in the dataset's own order, with a progress bar.

        Args:
            sizes: (height, width) -> number of the first image of that size; filled in.
        """
        with progress(task, len(self)) as bar:
            for index in range(len(self)):
                image, label = self[index]
                sizes.setdefault((image.shape[1], image.shape[2]), index)
                yield image, label
                bar.advance(1)


def to_pixels(image: object) -> Tensor:
    """An image as uint8 [1 or 3, H, W].

    Args:
        image: a PIL image of mode L or RGB, or 1 or P, which are converted; a tensor [C, H, W]; an array [H,
            W, C]; or a grey tensor or array [H, W]. Values are uint8, or floats in [0, 1].
    """
    if isinstance(image, Image.Image):
        if image.mode not in ("1", "L", "P", "RGB"):
            raise BadImage(f"is a PIL image of mode {image.mode!r}; expected L or RGB: image.convert('RGB')")
        return to_pixels(np.array(image.convert("L" if image.mode in ("1", "L") else "RGB")))
    if isinstance(image, np.ndarray):
        _check_shape(image.shape, "[height, width, channels]", -1)
        if image.dtype.kind not in "fu":
            raise BadImage(f"is of {image.dtype}; expected uint8, or floats in [0, 1]")
        values = torch.from_numpy(np.ascontiguousarray(image))
        values = values[None] if values.dim() == 2 else values.permute(2, 0, 1)
    elif isinstance(image, Tensor):
        if image.layout != torch.strided or image.is_meta:
            form = "on the meta device" if image.is_meta else f"of the layout {image.layout}"
            raise BadImage(f"is a tensor {form}; expected a dense tensor that holds its values")
        values = image.detach().cpu().as_subclass(Tensor)
        _check_shape(tuple(values.shape), "[channels, height, width]", 0)
        values = values[None] if values.dim() == 2 else values
    else:
        raise BadImage(f"is of type {type(image).__name__}; expected a PIL image, a tensor or a numpy array")
    if values.dtype == torch.uint8:
        return values.contiguous()
    if not values.is_floating_point():
        raise BadImage(f"is of {values.dtype}; expected uint8, or floats in [0, 1]")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is refused, too
        raise BadImage(
            f"has values from {low:g} to {high:g}; expected floats in [0, 1]: leave the normalization to "
            "fastdd (teacher.mean, teacher.std)"
        )
    return (values.float() * 255).round().to(torch.uint8)


def _check_shape(shape: tuple[int, ...], expected: str, channels: int) -> None:
    """Refuse what is no image of 1 or 3 channels; ``channels`` is the axis on which they are expected."""
    shown = f"has the shape {list(shape)}; expected {expected}"
    if len(shape) not in (2, 3) or not all(shape):
        raise BadImage(f"{shown}, or [height, width] of a grey image")
    if len(shape) == 3 and shape[channels] not in (1, 3):
        turned = "" if shape[-1 - channels] not in (1, 3) else ": permute the axes"
        raise BadImage(f"{shown} with 1 channel (grey) or 3 (RGB){turned}")


def to_label(label: object) -> int:
    """A label as an int.

    Args:
        label: an int, a whole number of numpy, or a tensor or array of such without dimensions.
    """
    value: object = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and label.ndim == 0:
        value = label.item()
    if isinstance(value, bool) or not isinstance(value, int):
        shown = " ".join(repr(label).split())
        raise BadImage(f"has the label {shown:.60} of type {type(label).__name__}; expected a whole number")
    if value < 0:
        raise BadImage(f"has the label {value}; expected whole numbers from 0 on")
    return value


def known_labels(dataset: object, length: int) -> list[int] | None:
    """The labels that a dataset has in ``targets``; None where it has none, or changes them."""
    if isinstance(dataset, Subset):
        outer = dataset.dataset
        whole = known_labels(outer, len(outer))  # type: ignore[arg-type]  # it has numbers
        return None if whole is None else [whole[index] for index in dataset.indices]
    targets = getattr(dataset, "targets", None)
    if getattr(dataset, "target_transform", None) is not None or not isinstance(targets, Iterable):
        return None
    try:
        labels = [to_label(label) for label in islice(targets, length + 1)]
    except BadImage:
        return None
    return labels if len(labels) == length else None


def class_names(dataset: object, labels: Sequence[int], name: str) -> list[str]:
    """The sorted names of the classes 0, 1, ...; each of them must have images."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    with reporting(f"{name}: its classes cannot be read"):
        known = getattr(dataset, "classes", None)
        has_names = isinstance(known, Sequence) and not isinstance(known, str) and len(known) > 0
        texts = [_text(each) for each in known] if has_names and known is not None else []
    count = len(texts) or max(labels) + 1
    if max(labels) >= count:
        raise InputError(
            f"{name} has the label {max(labels)}, but names {count} classes; expected 0 to {count - 1}"
        )
    found = sorted(set(labels))
    if len(found) < count:
        missing = next((number for number, label in enumerate(found) if number != label), len(found))
        called = f" ({texts[missing]!r})" if texts else ""
        raise InputError(
            f"{name} has no image with the label {missing}{called}: its images have {len(found)} labels; "
            f"expected images of each of 0 to {count - 1}"
        )
    if count < 2:
        raise InputError(f"{name} has one class; expected at least 2")
    width = len(str(count - 1))
    if not texts:
        return [f"{label:0{width}d}" for label in range(count)]
    if texts == sorted(set(texts)) and not any(map(class_name_fault, texts)):
        return texts
    numbered = [f"{label:0{width}d}_{text}" for label, text in enumerate(texts)]
    return ["".join(c if c.isprintable() and c not in "/\\" else "_" for c in text)[:80] for text in numbered]


def _text(name: object) -> str:
    """A class name; the first of several synonyms."""
    return str(name[0]) if isinstance(name, tuple | list) and name else str(name)
