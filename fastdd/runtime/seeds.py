"""Randomness that depends on what it is for, not on the order of work.

Every random choice draws from a generator seeded by a purpose and an identity (a class and a slot, a
batch, a student); work may be cut, reordered, killed and resumed without changing a byte.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *identity: str | int) -> int:
    """A seed for one purpose, such as ``derive(0, "noise", class_index, slot)``; 63 bits."""
    text = "/".join(map(str, (seed, *identity)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *identity: str | int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *identity))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and python, for libraries that draw from them in a block;
    after it they are as the caller had them."""
    import numpy

    before = random.getstate(), numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            seed_everything(seed)
            yield
        finally:
            random.setstate(before[0])
            numpy.random.set_state(before[1])


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, numpy and python, for libraries that draw from them."""
    import numpy

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
