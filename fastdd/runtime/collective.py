"""Tensors that the processes of torchrun send one another: squeeze alone does.

GPUs send by NCCL where each process has one of its own; all else goes through the host by gloo.
"""

from __future__ import annotations

import atexit
import socket
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from .distributed import Share, barrier, world_size

LONGEST = timedelta(minutes=30)
"""how long GPUs wait for one another: the first may test and write meanwhile"""


@cache
def group_of(device: torch.device) -> dist.ProcessGroup:
    """Who sends tensors of a device; all processes come together when it is first asked for."""
    barrier()  # connects them
    atexit.register(group_of.cache_clear)  # before they are left, so that nothing holds the group
    whole = dist.group.WORLD
    assert whole is not None  # they are connected
    if device.type != "cuda":
        return whole
    places = [("", 0)] * world_size()
    dist.all_gather_object(places, (socket.gethostname(), device.index or 0))
    if len(set(places)) < len(places):  # NCCL refuses two processes on one GPU
        return whole
    own = dist.new_group(backend="nccl", timeout=LONGEST)
    assert isinstance(own, dist.ProcessGroup)  # this process is one of it
    return own


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same bytes in each."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total, group=group_of(values.device))
    return total


def same_in_all(values: Tensor) -> None:
    """Give all processes the tensor of the main one, in place."""
    if world_size() > 1:
        dist.broadcast(values, 0, group=group_of(values.device))


def gather_rows(part: Tensor, total: int) -> Tensor:
    """The rows of all processes in their order: [total, ...].

    Args:
        part: the rows of this process, ``Share.rows(total)`` of the whole.
        total: rows of all processes together.
    """
    count = world_size()
    whole = torch.empty((total, *part.shape[1:]), dtype=part.dtype, device=part.device)
    for number in range(count):
        rows = whole[Share(number, count).rows(total)]
        if len(rows):
            if number == dist.get_rank():
                rows.copy_(part)
            dist.broadcast(rows, number, group=group_of(part.device))
    return whole
