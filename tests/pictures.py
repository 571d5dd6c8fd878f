"""Small images and the files that hold them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torchvision.io import encode_jpeg, encode_png


def picture(seed: int, height: int = 6, width: int = 6) -> Tensor:
    """A random uint8 image [3, height, width]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def png(image: Tensor) -> bytes:
    return encode_png(image).numpy().tobytes()


def jpeg(image: Tensor) -> bytes:
    return encode_jpeg(image).numpy().tobytes()


def write(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def tar(path: Path, members: list[tuple[str, bytes]], mode: Literal["w", "w:gz", "w:xz"] = "w") -> Path:
    """An archive of plain files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
