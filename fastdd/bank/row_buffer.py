"""Rows gathered batch by batch in one block of memory.

A list of small tensors would do, but each lies where the heap ended when it was made, between the activations of one
batch and those of the next, and keeps the allocator from giving the same memory to the next batch's. The forward pass
then touches fresh pages again and again, which cost it up to a fifth of its speed.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST = 512  # rows for which there is room at first


class Rows:
    """Rows of one width, in the dtype and on the device of the first that come; room doubles when it is full."""

    def __init__(self) -> None:
        self.block = torch.empty(0)
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Append rows [k, ...]."""
        needed = self.count + len(rows)
        if needed > len(self.block):
            grown = rows.new_empty(max(FIRST, needed, 2 * len(self.block)), *rows.shape[1:])
            if self.count:
                grown[: self.count] = self.block[: self.count]
            self.block = grown
        self.block[self.count : needed] = rows
        self.count = needed

    def all(self) -> Tensor:
        """The rows so far [n, ...]; valid until more are added."""
        return self.block[: self.count]

    def clear(self) -> None:
        """Forget the rows and keep the room."""
        self.count = 0
