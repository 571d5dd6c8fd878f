"""CLIP's image embedding as the features in which sets are compared (DiRe, Table 16).

``clip:FILE`` names weights of OpenCLIP's or OpenAI's vision transformers, such as ViT-B/32 on LAION-2B; the
file tells which. timm builds the network. OpenAI's own weights were trained with a faster form of GELU and
are ``clip-quickgelu:FILE``. Images of any size are enlarged to the 224 pixels that the network takes. Cost: a
forward pass of the vision transformer an image. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..models.build import to_device
from ..teachers import Card, Teacher, fingerprint
from ..teachers.weights import read_weights, tell
from .features import Extractor

PREFIXES = {"clip:": "", "clip-quickgelu:": "_quickgelu"}
"""what a name begins with, and what timm's name of the network then has"""
NETWORKS = {
    (768, 32): "vit_base_patch32_clip{}_224",
    (768, 16): "vit_base_patch16_clip{}_224",
    (1024, 14): "vit_large_patch14_clip{}_224",
}
"""(width, side of a patch) of the first convolution -> timm's name of the network"""
SIDE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""constants with which CLIP normalizes images in [0, 1]"""


class _Embedding(nn.Module):
    """CLIP's vision transformer with a last linear layer that only marks its input as the embedding."""

    def __init__(self, vision: nn.Module, width: int) -> None:
        super().__init__()
        self.vision = vision
        self.mark = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return self.mark(self.vision(x))


def is_clip(name: str) -> bool:
    """Whether a name of features is one of CLIP's."""
    return name.startswith(tuple(PREFIXES))


def clip_features(key: str, name: str, device: torch.device) -> Extractor:
    """CLIP's embedding of images, before it is scaled to length one.

    Args:
        key: the recipe's key or the option that gives the name, for messages.
        name: ``clip:FILE`` or ``clip-quickgelu:FILE``.
        device: where the network is put.

    Raises:
        InputError: timm is not installed, or the file is absent or holds no vision transformer of CLIP.
    """
    prefix = next(each for each in PREFIXES if name.startswith(each))
    path = Path(name.removeprefix(prefix))
    try:
        import timm
        from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
    except ImportError as error:
        raise InputError(f"{key}: {prefix}FILE needs timm; pip install 'fastdd[timm]'") from error
    given = read_weights(key, path)
    first, projection = given.state.get("visual.conv1.weight"), given.state.get("visual.proj")
    shape = (0, 0) if first is None or first.ndim != 4 else (first.shape[0], first.shape[-1])
    if first is None or projection is None or projection.ndim != 2 or shape not in NETWORKS:
        raise InputError(
            f"{key}: {path} holds no vision transformer of CLIP that is known here (ViT-B/32, ViT-B/16 or "
            "ViT-L/14, with tensors such as visual.conv1.weight); give OpenCLIP's or OpenAI's file"
        )
    width, network = projection.shape[1], NETWORKS[shape].format(PREFIXES[prefix])
    vision = timm.create_model(network, num_classes=width)
    assert isinstance(vision, VisionTransformer)  # all of NETWORKS are
    try:
        vision.load_state_dict(checkpoint_filter_fn(given.state, vision))
    except RuntimeError as error:
        raise InputError(
            f"{key}: {path} does not fit {network} ({str(error).splitlines()[-1].strip()})"
        ) from error
    tell(key, path, given.notes)
    embedding = to_device(_Embedding(vision, width), device).eval().requires_grad_(False)
    card = Card(network, ("image",), 3, mean=MEAN, std=STD)
    return Extractor(Teacher(embedding, card), f"CLIP {network} (weights {fingerprint(path)[:12]})")
