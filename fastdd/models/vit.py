"""Vision transformers for small images: ``vit_small32`` and ``vit_small64``, for images of 32 and 64 pixels.

torchvision's VisionTransformer with 64 patches, 6 layers of 192 channels and 3 heads.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from .registry import Network, register_network


def vit(side: int, num_classes: int, channels: int = 3) -> nn.Module:
    """A small VisionTransformer for images of ``side`` pixels."""
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        side, side // 8, num_layers=6, num_heads=3, hidden_dim=192, mlp_dim=384, num_classes=num_classes
    )
    if channels != 3:
        network.conv_proj = nn.Conv2d(channels, 192, side // 8, side // 8)
    return network


for pixels in (32, 64):
    builder = partial(vit, pixels)
    register_network(f"vit_small{pixels}", Network(builder, paper_name="vit", sides=(pixels,)))
