"""The state inside a unit on disk, for methods that optimize all images in one: replaced whole, deleted at
the end.

It holds the tensor that moves, the optimizer's moments, what the signal learned, the log, and the step. All
draws are functions of (seed, step), so a killed unit continues with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import TypedDict

from ..errors import InputError
from ..run_folder import TensorFile
from ..runtime.files import write_tensors
from .objective import Signal

METADATA_KEY = "recover"
FREE, MOMENT, SIGNAL = "free", "optimizer", "signal"


class _State(TypedDict):
    owner: str
    step: int
    losses: list[dict[str, int | float]]


def identity(*settings: object) -> str:
    """A hash of all that the optimization of a unit depends on, in values that JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """The file of one unit."""

    path: Path
    owner: str

    def save(
        self,
        step: int,
        free: Tensor,
        optimizer: torch.optim.Optimizer,
        signal: Signal,
        losses: Sequence[dict[str, float]],
    ) -> None:
        """Write the state after ``step`` steps."""
        tensors = {FREE: free.detach()}
        tensors |= {f"{MOMENT}/{name}": value for name, value in optimizer.state[free].items()}
        tensors |= {f"{SIGNAL}/{name}": value for name, value in signal.state().items()}
        state = {"owner": self.owner, "step": step, "losses": list(losses)}
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_tensors(self.path, contiguous, {METADATA_KEY: json.dumps(state)})

    def restore(
        self, free: Tensor, optimizer: torch.optim.Optimizer, signal: Signal, losses: list[dict[str, float]]
    ) -> int:
        """Load the state where there is one; ``losses`` gets the log so far.

        Returns:
            The number of steps that are done; 0 without a file.
        """
        if not self.path.is_file():
            return 0
        groups: dict[str, dict[str, Tensor]] = {FREE: {}, MOMENT: {}, SIGNAL: {}}
        file = TensorFile(self.path, "delete it to start these images again")
        state = file.note(METADATA_KEY, _State)
        if state["owner"] != self.owner:
            raise InputError(
                f"the checkpoint {self.path} is of another optimization; delete it, or choose another folder "
                "with --out"
            )
        file.require({FREE: tuple(free.shape)})
        for key, value in file.tensors().items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = value
        with torch.no_grad():
            free.copy_(groups[FREE][""])
        on_device = optimizer.defaults["fused"]
        for name, value in groups[MOMENT].items():
            # A fused optimizer walks through the memory of the images and the moments side by side, so they
            # have one layout; and it keeps its count of steps on the device.
            kept = torch.empty_like(free) if value.ndim else value.to(free.device if on_device else "cpu")
            optimizer.state[free][name] = kept.copy_(value) if value.ndim else kept
        signal.restore({name: value.to(free.device) for name, value in groups[SIGNAL].items()})
        losses[:] = [{**record} for record in state["losses"]]
        return state["step"]

    def remove(self) -> None:
        """Delete the file where there is one."""
        self.path.unlink(missing_ok=True)
