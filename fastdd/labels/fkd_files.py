"""Files of the released FKD layout: epoch_<e>/batch_<b>.tar, each a ``torch.save`` of a list.

    0  windows    float32 [B, 4], top / H, left / W, height / H, width / W of the stored image
    1  flips      bool [B]
    2  partners   int64 [B], places in the batch, or None
    3  ratio      a number, or None
    4  box        [top, left, bottom, right] in pixels of the view, or None
    5  logits     float16 [B, C] of the mixed batch, before the softmax
    6  indices    [B], places in the set; only in G-VBSM's and EDC's

The released writer stores ratio and box as numpy scalars, which runtime/torch_files.py takes beside tensors
and plain Python. We write plain numbers, which every version of every reader takes.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..runtime.files import write_bytes
from ..runtime.torch_files import TorchFileError, load_torch

FIELDS = ("windows", "flips", "partners", "ratio", "box", "logits", "indices")
LARGEST = 1 << 16
"""pixels of a side of an image, at most"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A labelling batch of B samples.

    Attributes:
        box: the box of CutMix in pixels of the view: top, bottom, left, right; None: no CutMix.
    """

    windows: Tensor
    flips: Tensor
    partners: Tensor | None
    ratio: float | None
    box: tuple[int, int, int, int] | None
    logits: Tensor
    indices: Tensor | None = None


def batch_path(folder: Path, epoch: int, batch: int) -> Path:
    """The path of a batch's file."""
    return folder / f"epoch_{epoch}" / f"batch_{batch}.tar"


def write_record(path: Path, record: Record) -> None:
    """Write a batch; the box is written as top, left, bottom, right."""
    box = record.box
    content: list[object] = [
        record.windows,
        record.flips,
        record.partners,
        record.ratio,
        None if box is None else [box[0], box[2], box[1], box[3]],
        record.logits.half(),
    ]
    file = io.BytesIO()
    torch.save(content if record.indices is None else [*content, record.indices], file)
    write_bytes(path, file.getvalue())


def read_record(path: Path) -> Record:
    """Read a batch without executing anything that the file might hold."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file, from which a batch could be read; copy the FKD folder again")
    try:
        content = load_torch(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; copy the FKD folder again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); copy the FKD folder again") from error
    except TorchFileError as error:
        raise InputError(
            f"{path} is no FKD batch, or holds more than tensors and numbers ({error})"
        ) from error
    try:
        return _to_record(content)
    except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise InputError(
            f"{path} is not of the FKD layout ({error}); expected a list of {', '.join(FIELDS[:6])} and "
            "perhaps indices"
        ) from error


def _to_record(content: object) -> Record:
    """Check the content of a file."""
    if not isinstance(content, list) or len(content) not in (6, 7):
        raise ValueError(f"a {type(content).__name__}")
    windows, flips, partners, ratio, box, logits, indices = [*content, None][:7]
    flips = torch.as_tensor(flips).bool()
    B = len(flips)
    if flips.ndim != 1 or windows.shape != (B, 4) or logits.ndim != 2 or len(logits) != B:
        raise ValueError(
            f"windows {list(windows.shape)}, flips {list(flips.shape)}, logits {list(logits.shape)}"
        )
    if partners is not None:
        partners = torch.as_tensor(partners).long()
        if not torch.equal(partners.sort().values, torch.arange(B)):
            raise ValueError(f"partners are no permutation of the {B} samples")
        ratio = float(ratio)
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio {ratio}")
    if box is not None:
        top, left, bottom, right = (int(side) for side in box)
        if not (0 <= top <= bottom <= LARGEST and 0 <= left <= right <= LARGEST):
            raise ValueError(f"box {[float(side) for side in box]}")
        box = (top, bottom, left, right)
    if indices is not None:
        indices = torch.as_tensor(indices).long()
        if indices.shape != (B,):
            raise ValueError(f"indices {list(indices.shape)}")
    return Record(
        windows=windows.float(),
        flips=flips,
        partners=partners,
        ratio=ratio,
        box=box,
        logits=logits,
        indices=indices,
    )


def list_batches(folder: Path) -> list[int]:
    """Count the batches of every epoch; epochs and batches are numbered from 0 without a gap.

    Raises:
        InputError: there are none, or one is missing; the first is named.
    """
    epochs = _numbers(folder, r"epoch_(\d+)")
    found = [_numbers(folder / f"epoch_{e}", r"batch_(\d+)\.tar") for e in sorted(epochs)]
    if not epochs or not found[0]:
        raise InputError(f"{folder} holds no FKD labels; expected epoch_0/batch_0.tar and so on")
    for e, batches in enumerate(found):
        if e not in epochs:
            raise InputError(f"{folder / f'epoch_{e}'} is missing; copy the FKD folder again")
        if missing := set(range(max(batches, default=0) + 1)) - batches:
            raise InputError(f"{batch_path(folder, e, min(missing))} is missing; copy the FKD folder again")
    return [len(batches) for batches in found]


def _numbers(folder: Path, pattern: str) -> set[int]:
    """The numbers in the names of a folder's entries that match a pattern."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the one that holds epoch_0")
    return {int(match[1]) for entry in folder.iterdir() if (match := re.fullmatch(pattern, entry.name))}
