"""Squeeze by the processes of torchrun, for test_squeeze_processes.py.

torchrun --nproc-per-node 2 tests/squeezed_together.py FOLDER CASE ...    writes CASE-NUMBER.safetensors
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from fastdd.config import Data
from fastdd.config import Teacher as TeacherConfig
from fastdd.data import open_dataset
from fastdd.models.build import build
from fastdd.runtime.distributed import Share, own_share
from fastdd.teachers import Squeezed, open_passes, passes, squeeze
from fastdd.teachers.parallel import data_parallel

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")
CONFIG = TeacherConfig(
    network="resnet8", mean=(0.305,), std=(0.376,), epochs=2, batch=200, lr=0.01, pad=1, flip=0.5
)
CASES: dict[str, dict[str, object]] = {
    "synchronized": {"ema": 0.9, "label_smoothing": 0.1},
    "decoded": {"ema": 0.9, "label_smoothing": 0.1},
    "own": {"sync_batch_norm": False},
}
"""what the recipe says: statistics of the whole batch, from memory and decoded again; those of each share"""


class StoppedError(Exception):
    """A squeeze that is ended in its second epoch."""


class Counting:
    """What reads images, and counts them."""

    def __init__(self, reader: object) -> None:
        self.reader, self.count = reader, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.reader, name)

    def pixels(self, position: int, channels: int) -> Tensor:
        self.count += 1
        return self.reader.pixels(position, channels)  # type: ignore[attr-defined,no-any-return]


def squeezed(
    case: str, share: Share, checkpoint: Path | None = None, stop: bool = False
) -> tuple[Squeezed, int]:
    """Train, and count the images that were decoded.

    Args:
        case: one of CASES.
        share: the share of this process.
        checkpoint: file that keeps the state.
        stop: end the training in its second epoch.
    """
    config = CONFIG.model_copy(update=CASES[case])
    budget = passes.device_budget
    if case == "decoded":
        passes.device_budget = lambda device: 0
    opened = []
    for split, batch, seed in (("train", config.batch, 7), ("test", 100, None)):
        data = open_dataset("digits", split)
        object.__setattr__(data, "reader", Counting(data.reader))
        opened.append((data, open_passes(data, Data(channels=1), batch, CPU, seed=seed, share=share)))
    passes.device_budget = budget
    (data, train), (_, test) = opened
    if stop:
        _stop(train)
    done = squeeze(config, CLASSES, train, test, seed=3, device=CPU, checkpoint=checkpoint, scored=len(data))
    return done, data.reader.count  # type: ignore[attr-defined]


def gradients(share: Share, sync: bool = True) -> dict[str, Tensor]:
    """Gradients and running statistics of a step in float64, on a share of nine images."""
    torch.manual_seed(0)
    network, images = build("resnet8", 10, 1).double().train(), torch.randn(9, 1, 8, 8).double()
    config = CONFIG.model_copy(update={"sync_batch_norm": sync})
    trained = network if share.processes == 1 else data_parallel(network, CPU, config, "teacher").train()
    rows = share.rows(len(images))
    loss = F.cross_entropy(trained(images[rows]), torch.arange(9)[rows], reduction="sum")
    (loss * share.processes / len(images)).backward()
    named = {name: weights.grad for name, weights in network.named_parameters()}
    return {name: value for name, value in [*named.items(), *network.named_buffers()] if value is not None}


def _stop(train: passes.Passes) -> None:
    epoch = train.epoch

    def first(number: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if number:
            raise StoppedError
        return epoch(number)

    train.epoch = first  # type: ignore[method-assign]


def written(done: Squeezed, count: int, path: Path) -> None:
    """Write weights, scores and statistics of a teacher, with its curve and the images that were decoded."""
    tensors = {f"network/{name}": value for name, value in done.teacher.network.state_dict().items()}
    assert done.scores is not None
    tensors |= {f"scores/{name}": value for name, value in done.scores.stored().items()}
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, path, {"curve": json.dumps(done.curve), "decoded": str(count)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, share = Path(sys.argv[1]), own_share()
    save_file(gradients(share), folder / f"gradients-{share.number}.safetensors")
    for case in sys.argv[2:]:
        written(*squeezed(case, share), folder / f"{case}-{share.number}.safetensors")
    with suppress(StoppedError):
        squeezed("synchronized", share, folder / "checkpoint.safetensors", stop=True)
