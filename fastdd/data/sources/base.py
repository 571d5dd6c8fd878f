"""What a layout of image sets is: how it recognizes a root, and how it opens one split of it.

Each layout is one file of this folder, which registers an instance of its ``Layout`` in ``SOURCES``; nobody
lists them. A root is offered to the layouts in the order of their priority, and the first that recognizes it
opens it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from ...errors import InputError
from ...runtime.registry import Registry

Split = Literal["train", "test"]
FingerprintOf = Literal["names", "contents", "sample"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes:
        where: a path inside the root.
        what: what is wrong there and what to do, as the end of "PATH ...".
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where!r} {self.what}"


class Fingerprint(NamedTuple):
    """What tells two versions of a split apart.

    Attributes:
        digest: sha256, hexadecimal.
        of: what was hashed beside classes and labels. names: file names and sizes; contents: every byte of
            the files, or every pixel; sample: the pixels of some images.
    """

    digest: str
    of: FingerprintOf


class ImageReader(Protocol):
    """Images by their numbers.

    Attributes:
        threads: number of threads that should decode; 1 where more do not pay.
        layout: what kind of data set this is, in words.
    """

    threads: int
    layout: str

    @property
    def sizes(self) -> Mapping[tuple[int, int], str]:
        """(height, width) -> name of an image of that size, of the images decoded when it was opened."""

    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, h, w] of one image, as stored."""

    def encoded(self, index: int) -> bytearray | None:
        """The bytes of one image's JPEG or PNG file; None where images are not kept in such files."""


class SplitImages(ABC):
    """The images of one split, an ``ImageReader``: all of class 0 first, and so on.

    Attributes:
        counts: images of each class, by class name in sorted order.
        names: "CLASS/FILE" of each image.
        problems: all that is wrong with the split; empty if it can be used.
        note: what the user should know of a split that can be used; empty: nothing.
        threads, layout: see ImageReader.
    """

    counts: dict[str, int]
    names: Sequence[str]
    problems: Sequence[Problem] = ()
    note: str = ""
    threads: int = 1
    layout: str

    @property
    def sizes(self) -> Mapping[tuple[int, int], str]:
        """Sizes of the images that were decoded when the split was opened (see ImageReader)."""
        return {}

    @abstractmethod
    def pixels(self, index: int, channels: int) -> Tensor:
        """uint8 [channels, h, w] of one image (see ImageReader)."""

    def encoded(self, index: int) -> bytearray | None:
        """The bytes of one image's file (see ImageReader)."""
        return None

    @abstractmethod
    def fingerprint(self, wanted: FingerprintOf) -> Fingerprint:
        """The fingerprint of what is wanted, or of more where that costs nothing.

        Raises:
            InputError: an image cannot be read.
        """


class Layout(ABC):
    """One way in which image sets are stored.

    Attributes:
        priority: layouts with a higher one are asked first whether a root is theirs. Those of fastdd have at
            most 50.
    """

    priority: int = 100

    def recognizes(self, root: str) -> bool:
        """Whether a root has this layout; only names and headers are read.

        A layout that recognizes nothing opens roots that are written as NAME:REST.
        """
        return False

    @abstractmethod
    def open(self, root: str, split: Split) -> SplitImages:
        """List one split of a root; nothing is decoded yet.

        Raises:
            InputError: the root holds no such split, or is damaged.
        """


DatasetFunction = Callable[[str, str], object]
"""(REST of a root NAME:REST, "train" or "test") -> a map-style torch Dataset of (image, label)"""


class Sources(Registry[Layout | DatasetFunction]):
    """The data sources by name: layouts, and functions that return a torch Dataset."""

    def _check(self, name: str, thing: Layout | DatasetFunction) -> None:
        if len(name) < 2:
            raise InputError(
                f"{name!r} cannot name a data source: {name}: is a drive; use two letters or more"
            )
        if not isinstance(thing, Layout) and (isinstance(thing, type) or not callable(thing)):
            raise InputError(
                f"the data source {name!r} is {thing!r:.60}; expected a function (rest, split) that returns "
                "a torch Dataset, or an instance of fastdd.data.Layout"
            )

    def layouts(self) -> list[Layout]:
        """The layouts in the order in which they are asked whether a root is theirs."""
        found = (self[name] for name in self)
        return sorted((one for one in found if isinstance(one, Layout)), key=lambda layout: -layout.priority)


SOURCES = Sources("data source", "fastdd.data.sources", "fastdd.sources")


def register_source(name: str, source: DatasetFunction | Layout) -> None:
    """Make a layout known, or a function that returns torch Datasets; see ``fastdd.register_source``."""
    SOURCES.register(name, source)
