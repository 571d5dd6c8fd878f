"""Squeeze by several processes: each takes its share of every batch, and all take the same steps.

torch's DistributedDataParallel averages the gradients of the processes. The loss of each is weighted by its
share, so that the average is the gradient of the mean loss of the whole batch: batch size and learning rate
of the recipe mean what they mean to one process, at any number of processes. The teacher is then that of one
process but for rounding, and for dropout, which each process draws for its own images.

BatchNorm is why this does not come by itself. With ``sync_batch_norm`` it normalizes by the statistics of
the whole batch, which is the default: a method matches the statistics that a teacher has learned, so they
should not depend on how many processes there happened to be. Without it each process normalizes by its own
share, and the running statistics are those of the main process, as in torchvision's released scripts.

Cost beside one process's: the gradients are sent once a step, and of each BatchNorm a few numbers a channel
once forward and once backward.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import Teacher as TeacherConfig
from ..errors import InputError
from ..runtime.collective import group_of, same_in_all
from ..runtime.console import counted
from ..runtime.distributed import Share
from .shared_batch_norm import SharedBatchNorm

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_shares(config: TeacherConfig, images: int, share: Share, key: str) -> None:
    """Refuse more processes than a batch has images for.

    Args:
        key: the recipe's section that describes the teacher, for messages.
    """
    batch, least = min(config.batch, images), 1 if config.sync_batch_norm or share.processes == 1 else 2
    if (each := batch // share.processes) < least:
        raise InputError(
            f"{key}.batch {batch} leaves {counted(each, 'image')} a process for {share.processes} processes, "
            f"expected at least {least}; start at most {batch // least}, or set a larger {key}.batch"
        )


def data_parallel(network: nn.Module, device: torch.device, config: TeacherConfig, key: str) -> nn.Module:
    """A module that trains a network together with all processes; weights and statistics are the network's.

    Args:
        network: the network on its device. It begins in all processes as in the main one.

    Raises:
        InputError: a BatchNorm of the network is one of a library's own, which cannot be synchronized.
    """
    group = group_of(device)
    # The modules are others, and their tensors the same, so that the network stays what it is.
    tensors = chain(network.parameters(), network.buffers())
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    if config.sync_batch_norm:
        twin = _synchronized(twin, group, key)
    return nn.parallel.DistributedDataParallel(
        twin,
        device_ids=None if device.type == "cpu" else [device],
        process_group=group,
        static_graph=True,  # which also lets a network have weights that it does not use
    )


def same_statistics(network: nn.Module) -> None:
    """Give all processes the buffers of the main one, of which it is tested and saved."""
    for buffer in network.buffers():
        same_in_all(buffer)


def _synchronized(network: nn.Module, group: dist.ProcessGroup, key: str) -> nn.Module:
    """The network with the BatchNorms of its own replaced by synchronized ones with the same tensors."""
    for path, module in list(network.named_modules()):
        if not isinstance(module, _BatchNorm):
            continue
        if type(module) not in PLAIN:
            raise InputError(
                f"{key}.network: its layer {path or 'itself'} is a {type(module).__name__}, whose statistics "
                f"processes cannot share; set {key}.sync_batch_norm=false, or squeeze with one process"
            )
        other: nn.Module = SharedBatchNorm(module, group)
        if dist.get_backend(group) == "nccl":
            other = nn.SyncBatchNorm.convert_sync_batchnorm(module, group)
        if not path:
            return other
        network.set_submodule(path, other)
    return network
