"""Initial images that a rule chooses: real images or candidates by rank or cluster, or RDED's mosaics.

(stage.py draws noise, and data/real_data.py the random choice of real images.) A rule chooses once for each
class of a run and its choice is written, so that every process and a resumed run start a slot from the same
image:

    recover/<arm>/initial/<class>.json   a row for each slot or crop: position in the training set or among
    the candidates, and a crop's window

Ranks and clusters come from embeddings, which the bank has of real images, and from the logits that the
teacher's last layer makes of them, so only the chosen real images are read. RDED also reads the images whose
crops it scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...config import BY_EMBEDDING, BY_SCORE, Data, Method
from ...data import Dataset
from ...data.loading.base_loader import decoding_threads
from ...data.loading.loader import open_loader
from ...errors import InputError
from ...run_folder import damaged, read
from ...runtime.console import counted
from ...runtime.files import write_json
from ...runtime.seeds import derive
from ...teachers import Teacher
from ..plan import Rows
from .pools import Pool
from .rded import Decode, Mosaic, Originals
from .selection import ranks_of_cells, select

CHUNK = 256
"""images decoded together"""
LARGEST = 1 << 31
"""no position in a data set or in an image is larger"""


def decoder(dataset: Dataset, data: Data, device: torch.device) -> Decode:
    """A function that reads images as the run does, at a multiple of its size.

    The multiple is ignored where the run reads images at their stored size.
    """

    def decode(positions: Tensor, times: int = 1) -> Tensor:
        size = None if data.size is None else (times * data.size,) * 2
        resize = None if data.resize is None else times * data.resize
        loader = open_loader(
            dataset,
            min(CHUNK, len(positions)),
            size=size,
            channels=data.channels,
            resize=resize,
            indices=positions,
            backend="torchvision",
            device=device,
        )
        return torch.cat([batch.images for batch in loader])

    return decode


def original_images(dataset: Dataset, data: Data, device: torch.device) -> Originals:
    """A function that reads images as they are stored, of whatever size."""

    def read_all(positions: Tensor) -> list[Tensor]:
        pixels = partial(dataset.reader.pixels, channels=data.channels)
        with decoding_threads(dataset.reader.threads) as pool:
            return [image.to(device) for image in pool.map(pixels, positions.tolist())]

    return read_all


@dataclass
class Chosen:
    """(class, slot) rows -> uint8 images [N, C, H, W] by the rule ``method.init``.

    Attributes:
        slots: number of slots of each class that need an image.
        decode: reads images of the pool as the run does.
        originals: reads them as they are stored.
        folder: folder that choices are written to and read from.
        choices: class -> its choice, as far as it is known; ``choice`` fills it.
    """

    method: Method
    slots: int
    _: KW_ONLY
    pool: Pool
    decode: Decode
    originals: Originals
    teacher: Teacher
    size: tuple[int, int]
    seed: int
    folder: Path
    choices: dict[int, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.mosaic = Mosaic(
            self.method.rded, self.teacher, self.decode, self.originals, size=self.size, seed=self.seed
        )

    def __call__(self, rows: Rows) -> Tensor:
        if self.method.init == "rded":
            return self._mosaics(rows)
        return self.decode(torch.tensor([int(self.choice(c)[slot, 0]) for c, slot in rows]), 1)

    def _mosaics(self, rows: Rows) -> Tensor:
        by_class: dict[int, list[int]] = {}
        for place, (c, _) in enumerate(rows):
            by_class.setdefault(c, []).append(place)
        images: list[Tensor] = [torch.empty(0)] * len(rows)
        for c, places in by_class.items():
            cut = self.mosaic.cut(self.choice(c), self.slots, [rows[place][1] for place in places])
            for place, image in zip(places, cut, strict=True):
                images[place] = image
        return torch.stack(images)

    def choice(self, c: int) -> Tensor:
        """What a class starts from, best first: int64 [slots, 1] for images, [slots f^2, 8] for crops.

        Raises:
            InputError: the class has too few images, or the bank lacks some of their embeddings.
        """
        if c not in self.choices:
            path = self.folder / f"{c:05d}.json"
            if not path.is_file():
                write_json(path, self._choose(c).tolist())
            self.choices[c] = self._read_choice(c, path)
        return self.choices[c]

    def _read_choice(self, c: int, path: Path) -> Tensor:
        """The choice of a class that a file holds, as ``choice`` gives it."""
        is_cut = self.method.init == "rded"
        rows, columns = (self.slots * self.mosaic.factor**2, 8) if is_cut else (self.slots, 1)
        choice, known = read(path, list[list[int]]), set(self.pool.positions(c).tolist())
        if len(choice) != rows or any(
            len(row) != columns or row[0] not in known or not 0 <= min(row) <= max(row) < LARGEST
            for row in choice
        ):
            raise damaged(path, f"expected {rows} rows of {columns} numbers, first an image of this class")
        return torch.tensor(choice)

    def _choose(self, c: int) -> Tensor:
        positions, kind = self.pool.positions(c), self.method.init
        if kind == "rded":
            return self.mosaic.choose(c, positions, self.slots)
        if self.slots > len(positions):
            raise InputError(
                f"init {kind} needs {counted(self.slots, 'image')} of class "
                f"{self.teacher.card.classes[c]!r}, which has {len(positions)}; lower ipc"
            )
        embeddings = self.pool.embeddings(c, f"init {kind}") if kind in BY_EMBEDDING else None
        scores = self.pool.scores(c, kind) if kind in BY_SCORE else None
        seed = derive(self.seed, kind, c)
        ranked = select(
            kind,
            len(positions),
            c,
            embeddings=embeddings,
            scores=scores,
            network=self.teacher.network,
            count=self.slots,
            seed=seed,
        )
        formation = self.method.formation
        if formation is not None and formation.kind == "cells":
            ranked = ranked[ranks_of_cells(self.slots, formation.images)]
        return positions[ranked][:, None]

    def starts(self, c: int) -> Tensor:
        """Positions in the pool's data set of the images that a class's slots start from, int64 [k, slots]; a
        mosaic of RDED has k crops."""
        return self.choice(c)[:, 0].view(-1, self.slots)


def repeated(rows_of: Callable[[Rows], Tensor], slots: int) -> Callable[[Rows], Tensor]:
    """Images for any number of slots: slot s starts from the image of slot s mod ``slots``."""
    return lambda rows: rows_of([(c, slot % slots) for c, slot in rows])
